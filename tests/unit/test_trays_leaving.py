"""What becomes of what was laid out, or sent, for a worker that leaves before it has taken it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.property.world import World
from tests.unit.test_trays import a_world, laid, settled, work
from warmpool import events as ev
from warmpool import notices
from warmpool.events import FailureKind
from warmpool.fleet import Fleet
from warmpool.future import TaskFuture
from warmpool.held import Held


def begin(world: World, worker: int) -> int:
    """It takes the next task, and notes that in its flight recorder."""
    world.begin(worker)
    task = world.recorded[worker] = world.running[worker]
    return task


def test_a_killed_task_that_still_lay_in_the_tray_is_not_said_to_have_started():
    world = a_world()
    task = world.submit(retries=1)
    world.say(ev.TaskKillRequested(task))
    failure = world.failure(task)
    assert failure.kind is FailureKind.KILL_REQUESTED
    assert not failure.started
    assert world.killed == {1}


def test_a_killed_task_that_was_taken_from_the_tray_is_said_to_have_started():
    world = a_world()
    task = world.submit(retries=1)
    begin(world, 1)
    world.say(ev.TaskKillRequested(task))
    assert world.failure(task).kind is FailureKind.KILL_REQUESTED
    assert world.failure(task).started


@pytest.mark.parametrize("began", [False, True])
def test_what_waits_for_another_run_and_is_killed_has_started_if_it_had(began):
    world = a_world()
    task = world.submit(retries=1)
    begin(world, 1)
    world.exit(1, -9, task if began else 0)
    world.say(ev.TaskKillRequested(task))
    assert world.failure(task).started is began


def test_a_task_in_the_tray_of_one_that_breaks_the_protocol_runs_elsewhere():
    world = a_world()
    task = world.submit()
    world.say(ev.WorkerReady(1))
    assert world.killed == {1}
    assert world.answers[task] == []
    world.heal()
    assert world.answers[task][0].outcome is ev.Outcome.RETURNED


def test_what_is_found_in_the_tray_of_one_that_wrote_garbage_has_not_started():
    """Though one behind it has: the tray was being emptied, and the worker took one in between."""
    world = a_world()
    for _ in range(30):
        world.submit()
    work(world, 1, 4)
    first, second, *others = world.trays.pop(1)
    assert world.core.roster.workers[1].task == first
    world.say(ev.WorkerBrokeProtocol(1, "wrote garbage", second, (first, *others)))
    world.exit(1, -9, second)
    assert world.failure(second).started
    world.heal()
    assert world.answers[first][0].outcome is ev.Outcome.RETURNED


def test_a_task_that_comes_again_is_asked_about_again_at_its_limit():
    world = a_world()
    for _ in range(30):
        world.submit(timeout=1.0)
    work(world, 1, 4)
    task, behind = world.core.roster.workers[1].task, laid(world, 1)[0]
    # The worker has answered the one before, and has yet to take this one, as its limit passes.
    world.sneaks_in = 1
    world.now += 1.0
    world.say(ev.TimePassed())
    assert world.running[1] == behind
    world.sneaks_in = 1000
    while world.core.roster.workers[1].task != task:
        world.done(1)
        world.begin(1)
    assert laid(world, 1)
    world.begin(1)
    world.run_ahead(1)
    world.begin(1)
    other = world.running[1]
    world.now += 1.0
    world.say(ev.TimePassed())
    assert not world.killed | world.asked, "another task dies of it"
    world.hear(1)
    world.done(1)
    assert {task, other} <= settled(world)


@pytest.mark.parametrize("kind", ["taken", "left", "found"])
def test_a_run_that_never_began_is_not_in_the_figures(kind):
    world = a_world()
    task = world.submit(timeout=1.0)
    if kind == "taken":
        world.begin(1)
        world.exit(1, -9, 0)
    elif kind == "left":
        world.exit(1, -9, 0)
    else:
        world.now += 1.0
        world.say(ev.TimePassed())
    assert world.core.ledger.runs.count == 0
    assert (world.answers[task] == []) is (kind != "found")


def leave_one_taken_and_not_begun(world: World) -> int:
    """A worker is killed, has taken a task in between, and died before it came to it."""
    for _ in range(30):
        world.submit()
    work(world, 1, 4)
    found = world.trays.pop(1)
    taken = found.pop(1)
    world.say(ev.WorkerBrokeProtocol(1, "wrote garbage", world.recorded[1], tuple(found)))
    world.exit(1, -9, world.recorded[1])
    assert taken in world.core.book.queue
    return taken


def test_what_was_taken_and_not_begun_can_be_cancelled_no_more():
    # Its future was handed over, and cancel() has said so.
    world = a_world()
    task = leave_one_taken_and_not_begun(world)
    world.say(ev.TaskWithdrawn(task))
    assert world.answers[task] == []
    world.say(ev.ShutdownRequested(cancel_queued=True))
    assert world.failure(task).kind is FailureKind.POOL_CLOSED


def test_a_start_that_was_none_is_told_again_as_the_same_attempt():
    world = a_world(2, is_observed=True)
    told: list[notices.Notice] = []
    world.tell = lambda command: told.append(command.notice)
    for _ in range(30):
        world.submit()
    work(world, 2, 4)
    task = world.core.roster.workers[2].task
    world.say(ev.TakenBack(2, tuple(world.trays.pop(2))))
    world.heal()
    starts = [one for one in told if isinstance(one, notices.TaskStarted) and one.task == task]
    assert [one.attempt for one in starts] == [1, 1]
    assert sum(isinstance(one, notices.TaskSettled) and one.task == task for one in told) == 1


def test_what_was_left_in_the_tray_can_be_cancelled():
    world = a_world()
    for _ in range(30):
        world.submit()
    work(world, 1, 4)
    task = world.core.roster.workers[1].task
    world.exit(1, -9)
    world.say(ev.TaskWithdrawn(task))
    assert world.answers[task] == [ev.DropTask(task)]


def test_the_tray_of_one_whose_end_is_decided_is_emptied_once():
    world = a_world()
    world.submit(timeout=1.0)
    begin(world, 1)
    world.now += 1.0
    world.say(ev.TimePassed())
    assert world.asked == {1}
    assert world.say(ev.WorkerChannelClosed(1)) == []


def test_a_future_that_lay_in_a_tray_and_is_sent_does_not_lie_any_more():
    future: TaskFuture[None] = TaskFuture(SimpleNamespace(), 1, 0.0)
    assert future.handed_over(10, 1.0, lies=True)
    # Its worker took it, and died before it began with it: it is not taken back, and sent again.
    assert future.handed_over(11, 2.0)
    assert not future.lies
    assert future.info.attempts == 2


# ------------------------------------------------------------------------------- the fleet


class Process:
    """One whose tray has room for so many tasks, again each time that it is emptied."""

    has_tray, pid = True, 10

    def __init__(self, room):
        self.room, self.tray = room, []

    def put_into_tray(self, task, _body):
        has_room = len(self.tray) < self.room
        if has_room:
            self.tray.append(task)
        return has_room

    def empty_tray(self):
        tasks, self.tray = tuple(self.tray), []
        return tasks


def a_fleet(room):
    process, sent = Process(room), []
    channel = SimpleNamespace(send=lambda kind, task, body: sent.append(task) or True)
    loop = SimpleNamespace(can_mute=False)
    fleet = Fleet(loop, None, None, lambda event: None, lambda *record: None, lambda tasks: None)
    fleet._held[1] = Held(process, channel)
    return fleet, process, sent


def test_nothing_overtakes_a_task_for_which_the_tray_had_no_room():
    fleet, process, sent = a_fleet(0)
    fleet.run(1, 7, b"")
    assert sent == [7]
    process.room = 10
    assert not fleet.lay_out(1, 8, b""), "the worker may look there first"
    assert process.tray == []


def test_a_tray_that_had_no_room_once_is_used_again():
    """The kernel may have been short of memory for a moment (ENOBUFS)."""
    fleet, process, sent = a_fleet(0)
    fleet.run(1, 7, b"")
    process.room = 10
    fleet.run(1, 8, b"")
    assert fleet.lay_out(1, 9, b"")
    assert process.tray == [8, 9]
    assert sent == [7]


def test_what_is_too_large_for_a_tray_does_not_end_it():
    fleet, process, sent = a_fleet(10)
    fleet.run(1, 7, b"")
    fleet.empty_tray(1)
    fleet.run(1, 8, b"x" * (ev.SMALL + 1))
    fleet.run(1, 9, b"")
    assert (process.tray, sent) == ([9], [8])


def test_what_is_found_in_a_tray_is_interrupted_no_more():
    fleet, _, _ = a_fleet(10)
    fleet.run(1, 7, b"")
    fleet._asker.interrupted[1] = 7
    fleet.empty_tray(1)
    assert fleet._asker.interrupted == {}
