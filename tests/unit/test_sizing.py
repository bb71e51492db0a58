"""How many workers there are, told as stories: elastic sizes, ages, memory, soft limits."""

from __future__ import annotations

import pytest

from tests.property.world import World
from warmpool import events as ev
from warmpool.events import ExitReason, FailureKind, Health
from warmpool.lifecycle import State
from warmpool.oversight import MEMORY_INTERVAL
from warmpool.state import Settings


def a_world(max_workers, *, warm=True, **settings) -> World:
    world = World(Settings(max_workers, **{"heartbeat_timeout": None, **settings}))
    world.prompt = True
    if warm:
        world.warm_all()
    return world


def leave(world: World) -> None:
    """Who was asked to leave does."""
    for worker in sorted(world.stopped & world.alive):
        world.exit(worker, 0)
    world.stopped.clear()


def exits(world: World) -> dict[ExitReason, int]:
    return dict(world.core.ledger.exits)


# ------------------------------------------------------------------------------- elastic


def test_as_many_as_are_to_be_ready_are_started_and_no_more():
    world = a_world(8, min_idle=2)
    assert len(world.alive) == 2
    assert world.core.health is Health.READY


def test_each_task_that_takes_a_worker_has_another_one_started_ahead_of_demand():
    world = a_world(8, min_idle=2)
    for busy in range(1, 7):
        world.submit()
        assert len(world.unborn) == 1
        world.warm_all()
        assert len(world.in_state(State.IDLE)) == 2
        assert len(world.running) == busy
    world.submit()
    world.submit()
    assert len(world.alive | world.unborn) == 8, "never more than max_workers"
    assert world.core.ledger.cold_starts == 0


def test_tasks_that_wait_have_workers_started_for_all_of_them():
    world = a_world(8, min_idle=0)
    assert not world.alive | world.unborn
    assert world.core.health is Health.READY
    for _ in range(5):
        world.submit()
    assert len(world.unborn) == 5
    world.warm_all()
    assert len(world.running) == 5
    assert world.core.ledger.cold_starts == 5


def test_fresh_workers_for_each_task_at_a_steady_rate_are_never_waited_for():
    world = a_world(4, min_idle=2, max_tasks_per_child=1)
    for _ in range(50):
        world.submit()
        (worker,) = world.running
        world.done(worker)
        leave(world)
        world.warm_all()
    assert world.core.ledger.cold_starts == 0
    assert exits(world) == {ExitReason.RECYCLED: 50}


def test_who_is_not_needed_is_retired_the_longest_unused_first():
    world = a_world(8, min_idle=1, idle_timeout=10.0)
    tasks = [world.submit() for _ in range(4)]
    world.warm_all()
    assert len(tasks) == len(world.running)
    for worker in sorted(world.running):
        world.done(worker)
        world.pass_time(1.0)
    spare = list(world.core.roster.idle)
    assert len(spare) == 5
    world.pass_time(60.0)
    assert world.stopped == set(spare[:4])
    leave(world)
    assert list(world.core.roster.idle) == spare[4:]
    assert exits(world) == {ExitReason.UNUSED: 4}
    world.pass_time(600.0)
    assert world.core.next_deadline() is None, "nobody is waked up for a pool that is at rest"


def test_a_pool_that_needs_one_worker_does_not_go_through_all_its_slots_at_full_speed():
    world = a_world(50, warm=False, min_idle=1)
    for _ in range(20):
        for worker in sorted(world.unborn):
            world.start_failed(worker)
        world.pass_time(0.1)
    assert len(world.starts) <= 6
    assert world.core.health is Health.DEGRADED


def test_a_broken_pool_probes_though_nothing_is_wanted():
    world = a_world(2, warm=False, min_idle=0)
    for _ in range(20):
        if not world.unborn:
            world.submit()
        for worker in sorted(world.unborn):
            world.start_failed(worker)
        world.pass_time(10.0)
        if world.core.health is Health.BROKEN:
            break
    assert world.core.health is Health.BROKEN
    world.pass_time(60.0)
    assert world.unborn
    world.warm_all()
    assert world.core.health is Health.READY


@pytest.mark.parametrize("min_idle", [None, 0, 2])
def test_who_waits_for_warmth_waits_for_those_that_are_to_be_ready(min_idle):
    world = a_world(3, warm=False, min_idle=min_idle)
    world.warm_answers[1] = []
    world.say(ev.WarmAwaited(1))
    assert bool(world.warm_answers[1]) == (min_idle == 0)
    world.warm_all()
    assert world.warm_answers[1] == [None]


def test_each_slot_has_to_be_warm_once_for_that_not_all_at_one_instant():
    world = a_world(2, warm=False, max_tasks_per_child=1)
    world.warm_answers[1] = []
    world.say(ev.WarmAwaited(1))
    for _ in range(9):
        world.submit()
    while not world.warm_answers[1]:
        world.warm(min(world.unborn))
        world.done(min(world.running))
        leave(world)
    assert len(world.starts) == 4


# ------------------------------------------------------------------------------- ages


def test_an_aged_worker_leaves_when_its_replacement_is_warm():
    world = a_world(2, min_idle=1, worker_lifetime=100.0)
    (old,) = world.alive
    world.pass_time(111.0)
    assert not world.stopped
    (new,) = world.unborn
    world.submit()
    assert world.running.keys() == {old}, "it serves until then"
    world.done(old)
    world.warm(new)
    assert world.stopped == {old}
    leave(world)
    assert exits(world) == {ExitReason.AGED: 1}


def test_where_there_is_no_room_the_aged_leave_one_after_the_other():
    world = a_world(4, worker_lifetime=100.0)
    first = set(world.alive)
    world.pass_time(111.0)
    for _ in range(4):
        assert len(world.stopped) == 1
        assert len(world.in_state(State.IDLE)) == 3
        leave(world)
        assert not world.stopped
        world.warm_all()
    assert not world.alive & first
    assert exits(world) == {ExitReason.AGED: 4}


def test_an_aged_worker_leaves_between_two_tasks_though_others_wait():
    world = a_world(1, worker_lifetime=100.0)
    (old,) = world.alive
    world.submit()
    waiting = world.submit()
    world.pass_time(111.0)
    world.done(old)
    assert world.stopped == {old}
    assert not world.answers[waiting]
    leave(world)
    world.warm_all()
    assert set(world.running.values()) == {waiting}


# ------------------------------------------------------------------------------- memory

LIMIT, WARNING = 1000, 500


def read(world: World, **used: int | None) -> None:
    """Let the time for it come, and tell what the workers use."""
    world.memory_wanted.clear()
    world.pass_time(MEMORY_INTERVAL)
    for worker in world.memory_wanted:
        world.say(ev.MemoryRead(worker, used.get(f"w{worker}", 10)))


def test_a_busy_worker_past_the_limit_is_killed_and_its_task_told_why():
    world = a_world(1, memory_limit=LIMIT)
    task = world.submit()
    (worker,) = world.running
    read(world, **{f"w{worker}": LIMIT + 1})
    failure = world.failure(task)
    assert failure.kind is FailureKind.OUT_OF_MEMORY
    assert (failure.limit, failure.used, failure.stack) == (LIMIT, LIMIT + 1, "a stack")
    assert failure.task == f"task {task}"
    world.reap()
    assert exits(world) == {ExitReason.OUT_OF_MEMORY: 1}
    assert len(world.unborn) == 1


def test_an_idle_worker_past_the_limit_leaves_when_its_replacement_is_warm():
    world = a_world(2, min_idle=1, memory_limit=LIMIT)
    (worker,) = world.alive
    for _ in range(3):
        read(world, **{f"w{worker}": LIMIT + 1})
    assert not world.stopped
    assert len(world.memory_reports) == 1
    world.warm_all()
    assert world.stopped == {worker}
    leave(world)
    assert exits(world) == {ExitReason.OUT_OF_MEMORY: 1}


def test_an_initializer_past_the_limit_is_a_failed_start():
    world = a_world(1, warm=False, memory_limit=LIMIT)
    (worker,) = world.unborn
    world.spawn(worker)
    world.say(ev.WorkerGreeted(worker))
    read(world, **{f"w{worker}": LIMIT + 1})
    assert world.reports[-1].failure.kind is FailureKind.OUT_OF_MEMORY
    assert world.core.roster.slots[0].failures == 1


def test_a_large_worker_is_told_of_once_until_it_was_smaller():
    world = a_world(1, memory_warning=WARNING)
    (worker,) = world.alive
    for used in (100, 600, 700, 480, 600, 100, 600):
        read(world, **{f"w{worker}": used})
    assert [report.used for report in world.memory_reports] == [600, 600]
    assert world.core.census(world.now).details[0].memory == 600


def test_who_is_being_read_of_is_not_asked_for_again():
    world = a_world(2, memory_limit=LIMIT)
    world.memory_wanted.clear()
    world.pass_time(10 * MEMORY_INTERVAL)
    first = list(world.memory_wanted)
    assert sorted(first) == sorted(world.alive), "each once, for none has answered"
    world.say(ev.MemoryRead(first[0], 1))
    world.pass_time(MEMORY_INTERVAL)
    assert world.memory_wanted == [*first, first[0]]


def test_nobody_looks_at_memory_without_a_limit():
    world = a_world(2)
    assert world.core.next_deadline() is None


# ------------------------------------------------------------------------------- soft limits


def test_a_task_is_asked_to_end_before_it_is_killed():
    world = a_world(1)
    task = world.submit(timeout=10.0, soft_timeout=8.0)
    (worker,) = world.running
    world.pass_time(7.9)
    assert not world.interrupts
    world.pass_time(0.1)
    assert world.interrupts == [ev.InterruptTask(worker, task, 8.0, pytest.approx(2.0))]
    world.pass_time(2.0)
    assert world.failure(task).kind is FailureKind.TASK_TIMEOUT


def test_a_task_learns_that_it_is_killed_even_if_both_limits_have_passed_when_that_is_noticed():
    world = a_world(1)
    task = world.submit(timeout=10.0, soft_timeout=8.0)
    (worker,) = world.running
    world.now += 11.0
    world.say(ev.TimePassed())
    # Less than nothing would be read as "never" on the other side.
    assert world.interrupts == [ev.InterruptTask(worker, task, 8.0, 0.0)]


def test_a_task_that_ended_is_not_asked():
    world = a_world(1)
    world.submit(soft_timeout=8.0)
    (worker,) = world.running
    world.done(worker)
    world.submit()
    world.pass_time(60.0)
    assert not world.interrupts


def test_a_kill_with_a_grace_asks_first():
    world = a_world(1)
    task = world.submit(retries=3)
    (worker,) = world.running
    world.say(ev.TaskKillRequested(task, 5.0))
    assert world.interrupts == [ev.InterruptTask(worker, task, None, pytest.approx(5.0))]
    world.pass_time(4.9)
    assert not world.answers[task]
    world.pass_time(0.2)
    assert world.failure(task).kind is FailureKind.KILL_REQUESTED
    world.reap()
    assert exits(world) == {ExitReason.KILLED: 1}


def test_a_close_that_interrupts_asks_whoever_runs_and_tells_when_it_ends():
    world = a_world(3, grace=5.0)
    tasks = [world.submit(), world.submit(timeout=2.0)]
    world.say(ev.CloseRequested(None, interrupts=True))
    asked = {command.task: command.left for command in world.interrupts}
    assert asked == {tasks[0]: pytest.approx(5.0), tasks[1]: pytest.approx(2.0)}
    assert all(command.limit is None for command in world.interrupts)
    world.pass_time(5.0)
    assert world.failure(tasks[0]).kind is FailureKind.POOL_CLOSED
    assert world.failure(tasks[1]).kind is FailureKind.TASK_TIMEOUT


def test_a_soft_limit_tells_when_a_closing_pool_kills():
    world = a_world(1, grace=5.0)
    world.submit(soft_timeout=1.0)
    world.say(ev.CloseRequested(None))
    world.pass_time(1.0)
    (command,) = world.interrupts
    assert (command.limit, command.left) == (1.0, pytest.approx(4.0))


def test_a_kill_with_a_grace_puts_no_limit_off():
    world = a_world(1)
    task = world.submit(timeout=2.0)
    world.say(ev.TaskKillRequested(task, 60.0))
    world.pass_time(2.1)
    assert world.failure(task).kind is FailureKind.TASK_TIMEOUT


def test_a_task_that_ends_within_the_grace_keeps_its_worker():
    world = a_world(1)
    task = world.submit()
    (worker,) = world.running
    world.say(ev.TaskKillRequested(task, 5.0))
    world.done(worker, ev.Outcome.RAISED)
    world.pass_time(60.0)
    assert world.alive == {worker}
    assert not world.killed
