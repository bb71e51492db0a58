"""A heap of deadlines whose owners say which count."""

from __future__ import annotations

from warmpool.deadlines import Deadlines, Owner


class Owners:
    def __init__(self):
        self.current: dict[tuple[Owner, int], float] = {}
        self.asked = 0
        self.deadlines = Deadlines(self.holds)

    def holds(self, at, owner, id):
        self.asked += 1
        return self.current.get((owner, id)) == at

    def set(self, at, id, owner=Owner.WORKER):
        self.current[owner, id] = at
        self.deadlines.add(at, owner, id)


def test_the_earliest_that_holds_is_next():
    owners = Owners()
    assert owners.deadlines.next() is None
    owners.set(5.0, 1)
    owners.set(3.0, 2)
    assert owners.deadlines.next() == 3.0
    owners.set(9.0, 2)
    assert owners.deadlines.next() == 5.0
    owners.current.clear()
    assert owners.deadlines.next() is None


def test_what_is_due_comes_once_and_in_order():
    owners = Owners()
    for at, id in ((4.0, 1), (2.0, 2), (3.0, 3), (9.0, 4)):
        owners.set(at, id)
    assert [id for _, id in owners.deadlines.due(4.0)] == [2, 3, 1]
    assert list(owners.deadlines.due(4.0)) == []


def test_one_that_is_unmade_by_an_earlier_one_does_not_come():
    owners = Owners()
    owners.set(1.0, 1)
    owners.set(2.0, 2)
    seen = []
    for _, id in owners.deadlines.due(5.0):
        seen.append(id)
        owners.current.pop((Owner.WORKER, 2), None)
    assert seen == [1]


def test_pool_comes_before_worker_at_the_same_time():
    owners = Owners()
    owners.set(1.0, 1, Owner.SLOT)
    owners.set(1.0, 1, Owner.WORKER)
    owners.set(1.0, 1, Owner.POOL)
    assert [owner for owner, _ in owners.deadlines.due(1.0)] == [
        Owner.POOL,
        Owner.WORKER,
        Owner.SLOT,
    ]


def test_dead_entries_do_not_pile_up():
    """Ten thousand tasks a second with a limit of a minute each, on one worker."""
    owners = Owners()
    for n in range(100_000):
        owners.set(1e6 + n, 1)
    assert len(owners.deadlines._heap) < 1000
    assert owners.asked < 400_000
