"""Who is dead, and not collected, is looked after until he is."""

from __future__ import annotations

import pytest

from warmpool import orphans


class System:
    """In place of ``os`` and ``signal``."""

    P_PIDFD, WEXITED, WNOHANG = 3, 4, 1

    def __init__(self):
        self.closed = []
        self.own, self.strangers, self.no_pidfds = set(), set(), set()

    def waitid(self, kind, watch, options):
        if watch in self.no_pidfds:
            raise OSError("no pidfd")
        if watch in self.own:
            self.own.discard(watch)
            return "collected"
        raise ChildProcessError

    def pidfd_send_signal(self, watch, number):
        assert number == 0
        if watch not in self.strangers:
            raise ProcessLookupError

    def close(self, watch):
        self.closed.append(watch)


@pytest.fixture
def system(monkeypatch):
    made = System()
    monkeypatch.setattr(orphans, "os", made)
    monkeypatch.setattr(orphans, "signal", made)
    return made


@pytest.fixture
def wakes():
    return []


@pytest.fixture
def looked_after(wakes):
    return orphans.Orphans(lambda: wakes.append("up"))


@pytest.mark.parametrize("kind", ["own", "no_pidfds", "collected before"])
def test_whoever_can_be_collected_is_let_go_of_at_once(system, looked_after, wakes, kind):
    if kind != "collected before":
        getattr(system, kind).add(5)
    looked_after.take(5)
    assert system.closed == [5]
    assert looked_after.look_again_in is None
    assert wakes == []


def test_another_s_child_is_kept_until_its_parent_has_collected_it(system, looked_after, wakes):
    system.strangers |= {5, 6}
    looked_after.take(5)
    looked_after.take(6)
    assert system.closed == []
    assert wakes == ["up"]
    assert looked_after.look_again_in == orphans.LOOK_AGAIN
    system.strangers.discard(5)
    looked_after.look()
    assert system.closed == [5]
    assert looked_after.look_again_in is not None


def test_one_that_is_left_alone_is_not_left_to_nobody(system, looked_after, wakes):
    system.strangers |= {5, 6}
    looked_after.take(5)
    # Whoever looked for the first has seen, maybe, that there is none any more.
    system.own.add(5)
    looked_after.take(6)
    assert system.closed == [5]
    assert wakes == ["up", "up"]


def test_an_inherited_child_is_collected(system, looked_after):
    system.strangers.add(5)
    looked_after.take(5)
    system.own.add(5)
    looked_after.close()
    assert system.own == set()
    assert system.closed == [5]


def test_after_the_end_nobody_is_kept(system, looked_after):
    system.strangers |= {5, 6}
    looked_after.take(5)
    looked_after.close()
    looked_after.take(6)
    assert system.closed == [5, 6]


def test_one_who_is_looked_at_as_all_are_let_go_of_is_not_kept(system, looked_after):
    system.strangers.add(5)

    def waitid(kind, watch, options):
        system.waitid = lambda *arguments: None
        looked_after.close()  # By another thread, amid this one's look.
        return

    system.waitid = waitid
    looked_after.take(5)
    assert system.closed == [5]


def test_a_fork_of_the_host_has_none(system, looked_after):
    system.strangers |= {5, 6}
    looked_after.take(5)
    looked_after.take(6)
    looked_after.close_after_fork()
    assert sorted(system.closed) == [5, 6]
