"""What is laid out for whom, and when it is taken back, told as stories; and the tray itself."""

from __future__ import annotations

import os
import socket

import pytest

from tests.property.world import World
from warmpool import WorkerDied, endpoint, tray, wire
from warmpool import events as ev
from warmpool.events import FailureKind
from warmpool.failures import to_error
from warmpool.lifecycle import State
from warmpool.staffing import LINGER
from warmpool.state import Settings
from warmpool.trays import MOST, PATIENCE


def a_world(workers=1, **settings) -> World:
    settings = {"heartbeat_timeout": None, "lays_out": True, **settings}
    world = World(Settings(workers, **settings))
    world.warm_all()
    return world


def work(world, worker, count=1):
    """It does so many tasks, and is heard each time."""
    for _ in range(count):
        world.begin(worker)
        world.done(worker)


def laid(world, worker):
    """What is laid out for it, beside the task that it has."""
    return list(world.core.roster.workers[worker].tray)


def settled(world):
    return {task for task, given in world.answers.items() if given}


def test_nothing_is_laid_out_before_a_worker_was_quick():
    world = a_world()
    for _ in range(40):
        world.submit()
    assert laid(world, 1) == []
    work(world, 1)
    assert laid(world, 1) == [3, 4]


def test_a_quick_worker_gets_more_each_time_and_not_without_end():
    world, most = a_world(), 0
    for _ in range(600):
        world.submit()
    for _ in range(300):
        work(world, 1)
        most = max(most, len(laid(world, 1)))
    assert most == MOST


def test_a_slow_worker_gets_nothing():
    world = a_world()
    for _ in range(40):
        world.submit()
    world.begin(1)
    world.now += 2 * PATIENCE
    world.done(1)
    assert laid(world, 1) == []


def test_others_have_their_share():
    world = a_world(2)
    for _ in range(10):
        world.submit()
    work(world, 2, 3)
    waiting = len(world.core.book.queue)
    assert 0 < len(laid(world, 2)) <= waiting


@pytest.mark.parametrize(
    "spec",
    [ev.TaskSpec(90, size=ev.SMALL + 1), ev.TaskSpec(90, queue_timeout=5.0)],
    ids=["large", "impatient"],
)
def test_some_tasks_wait_in_the_queue(spec):
    world = a_world()
    for _ in range(3):
        world.submit()
    world.specs[90], world.answers[90] = spec, []
    world.say(ev.TaskSubmitted(spec))
    for _ in range(20):
        world.submit()
    while 90 in world.core.book.queue:
        assert 90 not in laid(world, 1)
        work(world, 1)
    assert world.core.roster.workers[1].task == 90


def test_nothing_is_laid_out_behind_what_goes_another_way():
    world = a_world()
    spec = ev.TaskSpec(90, size=ev.SMALL + 1)
    world.submit()
    world.specs[90], world.answers[90] = spec, []
    world.say(ev.TaskSubmitted(spec))
    for _ in range(20):
        world.submit()
    work(world, 1)
    assert world.core.roster.workers[1].task == 90
    assert laid(world, 1) == []
    work(world, 1)
    assert laid(world, 1)


def test_what_is_not_done_soon_is_taken_back_and_done_by_another():
    world = a_world(2)
    for _ in range(30):
        world.submit()
    work(world, 2, 4)
    stuck = laid(world, 2)
    assert stuck
    world.begin(2)
    world.pass_time(PATIENCE)
    assert laid(world, 2) == []
    assert list(world.core.book.queue)[: len(stuck)] == stuck
    while world.core.book.queue or not settled(world) >= set(stuck):
        work(world, 1)
    assert world.core.roster.workers[2].state is State.BUSY


def test_who_has_nothing_to_do_gets_what_is_laid_out_for_others():
    world = a_world(2)
    for _ in range(30):
        world.submit()
    work(world, 2, 6)
    world.begin(2)
    left = laid(world, 2)
    assert left
    while not settled(world) >= set(left):
        work(world, 1)
    assert laid(world, 2) == []
    assert world.core.roster.workers[2].state is State.BUSY


def test_a_task_that_was_taken_back_from_a_worker_believed_to_have_it_counts_as_never_begun():
    world = a_world(2)
    task = world.submit()
    # In the tray of the worker, which has not come to it.
    world.say(ev.TakenBack(2, tuple(world.trays.pop(2))))
    again = world.core.book.tasks[task]
    assert (again.runs, again.worker is None) == (2, False), "it was sent twice"
    assert world.core.ledger.waits.count == 1
    world.heal()
    assert settled(world) == {task}


def test_a_worker_that_dies_leaves_its_tray_to_the_others():
    world = a_world(2)
    tasks = [world.submit() for _ in range(30)]
    work(world, 2, 4)
    left = laid(world, 2)
    world.begin(2)
    running = world.running[2]
    world.exit(2, -9, running)
    assert world.failure(running).kind is FailureKind.DIED
    for _ in range(40):
        if world.running or any(world.trays.values()):
            work(world, 1)
    assert settled(world) == set(tasks)
    assert all(world.answers[task][0].outcome is ev.Outcome.RETURNED for task in left)


@pytest.mark.parametrize("end", ["died", "lived on", "was closed"])
def test_what_a_task_that_lay_in_its_workers_tray_is_told_of_that_is_the_truth(end):
    """It is not to run elsewhere, and its worker's end of file is not yet the reason."""
    world = a_world()
    task = world.submit()
    world.say(ev.TaskKillRequested(task, grace=5.0))
    world.say(ev.WorkerChannelClosed(1))
    assert not world.trays.get(1)
    assert not settled(world)
    if end == "died":
        world.exit(1, -9)
    elif end == "lived on":
        world.pass_time(LINGER)
        assert world.killed == {1}
    else:
        world.say(ev.CloseRequested(5.0))
        world.exit(1, -9)
    failure = world.failure(task)
    told = {"died": FailureKind.DIED, "lived on": FailureKind.BROKE_PROTOCOL}
    assert failure.kind is told.get(end, FailureKind.POOL_CLOSED)
    assert not failure.started


def test_what_lay_in_the_tray_of_a_worker_at_its_end_of_file_runs_elsewhere_at_once():
    world = a_world(2)
    world.exit(1, -9)
    task = world.submit()
    world.say(ev.WorkerChannelClosed(2))
    assert list(world.core.book.queue) == [task]
    world.heal()
    assert settled(world) == {task}


def test_closing_fails_what_is_laid_out_at_once():
    world = a_world()
    for _ in range(30):
        world.submit()
    work(world, 1, 4)
    waiting = laid(world, 1)
    world.begin(1)
    world.say(ev.CloseRequested(5.0))
    assert waiting
    assert all(world.failure(task).kind is FailureKind.POOL_CLOSED for task in waiting)
    world.done(1)
    world.exit(1, 0)
    assert world.ended


@pytest.mark.parametrize("has_begun", [False, True])
def test_withdrawing_drops_what_the_worker_has_not_taken(has_begun):
    world = a_world()
    for _ in range(30):
        world.submit()
    work(world, 1, 4)
    task = laid(world, 1)[0]
    if has_begun:
        world.begin(1)
        world.run_ahead(1)
        world.begin(1)
        assert world.running[1] == task
    world.say(ev.TaskWithdrawn(task))
    assert (world.answers[task] == [ev.DropTask(task)]) is not has_begun
    world.heal()
    assert len(world.answers[task]) == 1


def test_what_does_not_fit_is_not_tried_again_with_each_task():
    world = a_world()
    for _ in range(200):
        world.submit()
    work(world, 1, 20)
    assert len(laid(world, 1)) > 4
    some = world.trays[1][-2:]
    del world.trays[1][-2:]
    world.say(ev.TakenBack(1, tuple(some)))
    assert world.core.roster.workers[1].reach == 0
    while any(world.trays.values()):
        work(world, 1)
    assert len(settled(world)) == 200


def test_withdrawing_drops_what_was_taken_back_in_the_same_moment():
    world = a_world()
    for _ in range(30):
        world.submit()
    task = next(iter(world.core.book.queue))
    world.say(ev.TaskWithdrawn(task))
    assert world.answers[task] == [ev.DropTask(task)]
    assert world.say(ev.TaskWithdrawn(task)) == []


def test_a_task_to_be_killed_that_was_begun_unheard_costs_its_worker():
    world = a_world()
    for _ in range(30):
        world.submit()
    work(world, 1, 4)
    task = laid(world, 1)[0]
    world.begin(1)
    world.run_ahead(1)
    world.begin(1)
    world.say(ev.TaskKillRequested(task))
    assert not world.killed, "it is not known that it has begun"
    world.hear(1)
    assert world.killed == {1}
    assert world.failure(task).kind is FailureKind.KILL_REQUESTED


def went_on(world):
    """A worker has answered a task, and gone on with the next one; neither is known."""
    for _ in range(30):
        world.submit(timeout=1.0)
    work(world, 1, 4)
    world.begin(1)
    done = world.running[1]
    world.run_ahead(1)
    world.begin(1)
    return done, world.running[1]


def test_nothing_else_dies_of_the_kill_of_a_task_that_is_answered():
    world = a_world()
    done, other = went_on(world)
    world.say(ev.TaskKillRequested(done))
    assert not world.killed
    world.hear(1)
    world.done(1)
    outcomes = [world.answers[task][0].outcome for task in (done, other)]
    assert outcomes == [ev.Outcome.RETURNED] * 2


def test_nothing_else_dies_of_the_limit_of_a_task_that_is_answered():
    world = a_world(2)
    world.exit(2, -9)
    done, other = went_on(world)
    world.now += 1.0
    world.say(ev.TimePassed())
    assert not world.killed | world.asked
    world.hear(1)
    world.done(1)
    outcomes = [world.answers[task][0].outcome for task in (done, other)]
    assert outcomes == [ev.Outcome.RETURNED] * 2


def test_a_task_with_something_behind_it_runs_into_its_limit_nevertheless():
    world = a_world()
    for _ in range(30):
        world.submit(timeout=1.0)
    work(world, 1, 4)
    world.begin(1)
    task = world.running[1]
    world.recorded[1] = task
    world.prompt = True
    world.noted[1] = task
    world.pass_time(1.1)
    assert world.killed == {1}
    assert world.failure(task).kind is FailureKind.TASK_TIMEOUT
    world.heal()
    assert len(settled(world)) == 30


def test_who_came_behind_one_that_wrote_garbage_is_told_so():
    world = a_world()
    _, behind = went_on(world)
    world.unheard.clear()
    left = tuple(world.trays.pop(1))
    world.say(ev.WorkerBrokeProtocol(1, "wrote garbage", behind, left))
    world.exit(1, -9, behind)
    error = to_error(world.failure(behind), "pool")
    assert isinstance(error, WorkerDied)
    assert "for what another task of the same worker had done" in str(error)
    world.heal()
    assert all(world.answers[task][0].outcome is ev.Outcome.RETURNED for task in left)


def test_a_task_to_be_killed_is_not_run_again_elsewhere():
    world = a_world(2)
    for _ in range(30):
        world.submit(retries=2)
    work(world, 2, 4)
    task = laid(world, 2)[0]
    world.begin(2)
    world.run_ahead(2)
    world.begin(2)
    world.say(ev.TaskKillRequested(task))
    world.exit(2, -9, task)
    world.heal()
    assert world.failure(task).kind in (FailureKind.KILL_REQUESTED, FailureKind.DIED)


def test_how_long_a_worker_is_busy_is_told_of_the_task_that_it_has():
    world = a_world()
    for _ in range(30):
        world.submit()
    for _ in range(5):
        world.now += PATIENCE / 2
        work(world, 1)
    world.now += 7.0
    (info,) = world.core.census(world.now).details
    assert info.state == "busy"
    assert info.in_state == pytest.approx(7.0)


# ------------------------------------------------------------------------------- the tray

needs_trays = pytest.mark.skipif(not tray.AVAILABLE, reason="there are no trays here")


@pytest.fixture
def a_tray():
    made = tray.Tray()
    yield made
    made.close()


@needs_trays
def test_what_is_put_in_comes_out_once_in_order_on_either_side(a_tray):
    for task in range(1, 6):
        assert a_tray.put(task, b"x" * ev.SMALL)
    with open(a_tray.theirs.fileno(), "rb", buffering=0, closefd=False) as end:
        frame = end.read(1 << 16)
    assert wire.HEADER.unpack_from(frame) == (wire.RUN, 1, ev.SMALL)
    assert frame[wire.HEADER.size :] == b"x" * ev.SMALL
    assert len(frame) <= endpoint.LONGEST_LAID_OUT, "a worker would get but a part of it"
    assert a_tray.take_back() == (2, 3, 4, 5)
    assert a_tray.take_back() == ()


@needs_trays
def test_a_full_tray_says_so_and_holds_as_many_as_are_ever_laid_out(a_tray):
    task = 0
    while a_tray.put(task + 1, b""):
        task += 1
    assert task >= MOST
    assert a_tray.take_back() == tuple(range(1, task + 1))


@needs_trays
def test_an_empty_body_is_a_task_too(a_tray):
    assert a_tray.put(7, b"")
    assert a_tray.take_back() == (7,)


@needs_trays
def test_the_applications_default_timeout_makes_no_tray_wait():
    socket.setdefaulttimeout(0.01)
    try:
        made = tray.Tray()
    finally:
        socket.setdefaulttimeout(None)
    try:
        assert made.take_back() == ()
        while made.put(1, b"x" * ev.SMALL):
            pass
        assert set(made.take_back()) == {1}
    finally:
        made.close()


@needs_trays
@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_tray_that_its_worker_has_shut_down_takes_nothing_and_harms_nobody(a_tray, how):
    with socket.socket(fileno=os.dup(a_tray.theirs.fileno())) as end:
        end.shutdown(how)
    assert a_tray.put(1, b"body") is (how == socket.SHUT_WR)
    assert a_tray.take_back() == ((1,) if how == socket.SHUT_WR else ())


@needs_trays
def test_a_worker_whose_tray_has_ended_leaves_with_its_host(monkeypatch):
    class Left(BaseException):
        pass

    def leave():
        raise Left

    monkeypatch.setattr(endpoint, "leave_with_host", leave)
    ours, theirs = socket.socketpair()
    host, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, worker:
        channel = endpoint.Channel(theirs, worker)
        host.close()
        with pytest.raises(Left):
            channel.receive()
