"""The pool's decisions, told as stories: events in, commands out."""

from __future__ import annotations

import typing

import pytest

from tests.property.world import World
from warmpool import events as ev
from warmpool.ending import ABANDON_AFTER, Phase
from warmpool.events import FailureKind, Health
from warmpool.lifecycle import TRANSITIONS, InvalidTransition, State
from warmpool.restart import RestartPolicy
from warmpool.roster import STACK_PATIENCE
from warmpool.staffing import LINGER
from warmpool.state import Settings

MESSAGES = (
    ev.WorkerGreeted,
    ev.WorkerReady,
    ev.InitializerRaised,
    ev.TaskDone,
    ev.WorkerBrokeProtocol,
    ev.WorkerChannelClosed,
)


def a_world(max_workers=1, *, warm=True, prompt=True, **settings) -> World:
    world = World(Settings(max_workers, **{"heartbeat_timeout": None, **settings}))
    world.prompt = prompt
    if warm:
        world.warm_all()
    return world


def the_worker(world: World) -> int:
    (worker,) = world.core.roster.workers
    return worker


def world_in(state: State) -> World:
    """A world whose one worker is in this state."""
    world = a_world(warm=state not in (State.STARTING, State.INITIALIZING))
    worker = the_worker(world)
    if state is State.INITIALIZING:
        world.spawn(worker)
        world.say(ev.WorkerGreeted(worker))
    elif state is State.BUSY:
        world.submit()
    elif state is State.STOPPING:
        world.say(ev.WorkerChannelClosed(worker))
    elif state is State.KILLING:
        world.say(ev.WorkerBrokeProtocol(worker, "wrote garbage"))
    assert world.in_state(state) == {worker}
    return world


def an_event(cls, worker):
    if cls is ev.TaskDone:
        return ev.TaskDone(worker, 1, ev.Outcome.RETURNED, b"")
    if cls is ev.WorkerBrokeProtocol:
        return ev.WorkerBrokeProtocol(worker, "wrote garbage")
    if cls is ev.WorkerSpawned:
        return ev.WorkerSpawned(worker, 1)
    if cls is ev.WorkerStartFailed:
        return ev.WorkerStartFailed(worker, ev.Failure(FailureKind.START_FAILED))
    if cls is ev.WorkerExited:
        return ev.WorkerExited(worker, 1)
    if cls is ev.StackTaken:
        return ev.StackTaken(worker, "a stack")
    return cls(worker)


# ------------------------------------------------------------------ every state × every event


@pytest.mark.parametrize("cls", typing.get_args(ev.WorkerEvent), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    "state", [state for state in State if state is not State.DEAD], ids=lambda state: state.name
)
def test_an_event_fits_or_costs_the_worker_that_said_it_or_is_refused(state, cls):
    world = world_in(state)
    worker = the_worker(world)
    core = world.core
    event = an_event(cls, worker)
    before = core.census(world.now)
    if cls in TRANSITIONS[state]:
        core.handle(event, world.now)
        core.validate()
    elif cls in MESSAGES:
        commands = core.handle(event, world.now)
        core.validate()
        assert ev.KillWorker(worker) in commands
    else:
        with pytest.raises(InvalidTransition):
            core.handle(event, world.now)
        core.validate()
        assert core.census(world.now) == before


@pytest.mark.parametrize("cls", typing.get_args(ev.WorkerEvent), ids=lambda cls: cls.__name__)
def test_an_event_of_a_dead_worker_is_refused_without_a_change(cls):
    world = a_world()
    dead = the_worker(world)
    world.exit(dead)
    before = world.core.census(world.now)
    with pytest.raises(InvalidTransition, match="no worker"):
        world.core.handle(an_event(cls, dead), world.now)
    assert world.core.census(world.now) == before


# ------------------------------------------------------------------ warming up


def test_a_worker_that_never_sends_a_message_is_failed_killed_and_replaced():
    """The seed's case, in the core's words."""
    world = a_world(warm=False, init_timeout=0.3)
    first = the_worker(world)
    world.spawn(first)
    task = world.submit()
    world.pass_time(0.3)
    assert world.killed == {first}
    assert world.reports[0].failure.kind is FailureKind.INITIALIZER_TIMEOUT
    assert world.reports[0].failure.limit == 0.3
    world.reap()
    world.pass_time(0.2)
    second = the_worker(world)
    assert second != first
    world.warm(second)
    world.done(second)
    assert world.answers[task] == [
        ev.SettleTask(task, ev.Outcome.RETURNED, b"payload"),
    ]


def test_waiting_tasks_fail_with_the_last_cause_once_the_pool_is_broken():
    world = a_world(warm=False, init_timeout=0.3)
    task = world.submit()
    for _ in range(3):
        world.pass_time(0.3)
        world.reap()
        world.pass_time(1.0)
    failure = world.failure(task)
    assert failure.kind is FailureKind.POOL_BROKEN
    assert failure.cause is not None
    assert failure.cause.kind is FailureKind.INITIALIZER_TIMEOUT
    assert world.core.health is Health.BROKEN
    late = world.submit()
    assert world.failure(late).kind is FailureKind.POOL_BROKEN


def test_the_first_warm_worker_makes_a_broken_pool_ready_and_all_slots_start_at_once():
    world = a_world(3, warm=False)
    while world.core.health is not Health.BROKEN:
        for worker in sorted(world.unborn):
            world.start_failed(worker)
        world.pass_time(1.0)
    world.pass_time(40.0)
    (probe,) = world.unborn
    world.warm(probe)
    assert world.core.health is Health.READY
    assert len(world.unborn) == 2
    assert world.health[-2:] == [Health.BROKEN, Health.READY]


def test_a_broken_pool_probes_one_worker_at_a_time():
    world = a_world(4, warm=False, init_timeout=1000.0)
    while world.core.health is not Health.BROKEN:
        for worker in sorted(world.unborn):
            world.start_failed(worker)
        world.pass_time(1.0)
    for worker in sorted(world.unborn):
        world.start_failed(worker)
    world.pass_time(300.0)
    assert len(world.unborn) == 1


def test_one_failing_slot_beside_a_warm_one_degrades_the_pool_and_no_more():
    world = a_world(2, warm=False)
    good = min(world.unborn)
    world.warm(good)
    for _ in range(20):
        for worker in sorted(world.unborn):
            world.start_failed(worker)
        world.pass_time(40.0)
    assert world.core.health is Health.DEGRADED
    task = world.submit()
    assert world.running == {good: task}


def test_a_slot_is_refilled_at_once_after_a_worker_that_was_of_use_and_retires():
    # However often its slot had failed before that worker.
    world = a_world(warm=False, worker_lifetime=100.0)
    world.start_failed(the_worker(world))
    world.pass_time(1.0)
    worker = the_worker(world)
    world.warm(worker)
    world.pass_time(120.0)
    assert world.stopped == {worker}
    assert world.core.health is Health.WARMING
    world.exit(worker)
    assert world.unborn == {worker + 1}


def test_a_pool_whose_only_warm_worker_is_asked_to_leave_is_warming_at_once():
    world = a_world(max_tasks_per_child=1)
    assert world.core.health is Health.READY
    world.submit()
    world.done(the_worker(world))
    assert world.stopped == {the_worker(world)}
    assert world.core.health is Health.WARMING


def test_wait_warm_is_answered_once_all_are_warm_and_with_the_cause_if_they_cannot_be():
    world = a_world(2, warm=False)
    world.warm_answers = {1: [], 2: []}
    world.say(ev.WarmAwaited(1))
    first, second = sorted(world.unborn)
    world.warm(first)
    assert world.warm_answers[1] == []
    world.warm(second)
    assert world.warm_answers[1] == [None]
    broken = a_world(warm=False)
    broken.warm_answers = {1: [], 2: []}
    broken.say(ev.WarmAwaited(1))
    while broken.core.health is not Health.BROKEN:
        for worker in sorted(broken.unborn):
            broken.start_failed(worker)
        broken.pass_time(1.0)
    broken.say(ev.WarmAwaited(2))
    for waiter in (1, 2):
        (failure,) = broken.warm_answers[waiter]
        assert failure is not None
        assert failure.kind is FailureKind.START_FAILED


@pytest.mark.parametrize("message", [ev.TaskDone, ev.WorkerBrokeProtocol])
def test_nonsense_while_warming_is_a_failed_start(message):
    world = world_in(State.INITIALIZING)
    world.say(an_event(message, the_worker(world)))
    assert world.core.roster.failed == 1
    assert world.reports[-1].failure.stage == "initializing"


def test_an_initializer_that_raises_and_then_does_not_exit_is_killed():
    world = world_in(State.INITIALIZING)
    worker = the_worker(world)
    world.say(ev.InitializerRaised(worker, b"remote"))
    assert world.core.roster.failed == 1
    world.pass_time(LINGER)
    assert world.killed == {worker}
    assert world.core.roster.failed == 1, "it was counted twice"


# ------------------------------------------------------------------ idle deaths


def test_the_death_of_an_idle_worker_is_a_non_event():
    world = a_world()
    world.pass_time(5.0)
    world.exit(the_worker(world), -9)
    assert len(world.unborn) == 1, "replaced at once"
    assert world.core.roster.failed == 0
    assert len(world.reports) == 1


def test_a_task_handed_to_a_worker_that_died_idle_runs_elsewhere():
    world = a_world(2)
    task = world.submit()
    (worker,) = world.running
    world.exit(worker, -9, started=0)
    (other,) = world.running
    assert other != worker
    world.done(other)
    assert len(world.answers[task]) == 1


def test_a_task_that_may_have_started_is_not_run_again():
    world = a_world(2)
    task = world.submit()
    (worker,) = world.running
    world.exit(worker, -11, started=task)
    failure = world.failure(task)
    assert failure.kind is FailureKind.DIED
    assert (failure.started, failure.exitcode, failure.stage) == (True, -11, "busy")


def test_a_task_that_never_gets_started_kills_no_more_than_a_few_workers():
    world = a_world(3)
    task = world.submit()
    runs = 0
    while not world.answers[task]:
        for worker in sorted(world.unborn):
            world.warm(worker)
        for worker in sorted(world.running):
            runs += 1
            world.exit(worker, -9, started=0)
        world.pass_time(0.5)
    assert runs == 4
    assert world.failure(task).kind is FailureKind.DIED
    assert not world.failure(task).started


def test_retries_run_a_started_task_again_so_often():
    world = a_world()
    task = world.submit(retries=2)
    for attempt in range(3):
        world.warm_all()
        assert world.running, attempt
        world.exit(the_worker(world), -9, started=task)
    assert world.failure(task).started


def test_a_worker_that_closes_its_channel_has_a_moment_to_die_and_is_then_killed():
    world = a_world()
    task = world.submit()
    worker = the_worker(world)
    world.say(ev.WorkerChannelClosed(worker))
    assert not world.answers[task]
    world.pass_time(LINGER)
    assert world.killed == {worker}
    assert world.failure(task).kind is FailureKind.BROKE_PROTOCOL


def test_a_worker_that_dies_after_its_end_of_file_died_of_what_it_did_before():
    world = a_world()
    task = world.submit()
    worker = the_worker(world)
    world.say(ev.WorkerChannelClosed(worker))
    world.exit(worker, 3, started=task)
    failure = world.failure(task)
    assert (failure.kind, failure.stage, failure.exitcode) == (FailureKind.DIED, "busy", 3)


# ------------------------------------------------------------------ limits


def test_a_limit_starts_at_dispatch():
    world = a_world()
    first = world.submit(timeout=5.0)
    second = world.submit(timeout=1.0)
    world.pass_time(3.0)
    assert not world.answers[second]
    world.done(the_worker(world))
    world.pass_time(0.9)
    assert not world.answers[second]
    world.pass_time(0.1)
    assert world.failure(second).kind is FailureKind.TASK_TIMEOUT
    assert world.answers[first]


def test_the_queue_has_its_own_limit():
    world = a_world()
    world.submit()
    waiting = world.submit(queue_timeout=2.0)
    world.pass_time(2.0)
    assert world.failure(waiting).kind is FailureKind.QUEUE_TIMEOUT
    assert world.core.next_deadline() is None


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_max_queue_is_exact(limit):
    world = a_world(2, max_queue=limit)
    taken = [world.submit() for _ in range(2 + limit)]
    refused = world.submit()
    assert not any(world.answers[task] for task in taken)
    assert world.failure(refused).kind is FailureKind.POOL_SATURATED


def test_tasks_run_in_the_order_they_came():
    world = a_world()
    tasks = [world.submit() for _ in range(4)]
    order = []
    while world.running:
        order += world.running.values()
        world.done(the_worker(world))
    assert order == tasks


def test_max_tasks_per_child_replaces_a_worker_after_so_many():
    world = a_world(max_tasks_per_child=2)
    worker = the_worker(world)
    for _ in range(3):
        world.submit()
    world.done(worker)
    world.done(worker)
    assert world.stopped == {worker}
    world.exit(worker, 0)
    world.warm_all()
    assert list(world.running.values()) == [3]
    assert world.core.roster.failed == 0


def test_kill_answers_a_running_task_and_never_retries_it():
    world = a_world()
    task = world.submit(retries=5)
    world.say(ev.TaskKillRequested(task))
    assert world.failure(task).kind is FailureKind.KILL_REQUESTED
    assert world.killed


def test_a_task_that_was_cancelled_in_the_instant_of_dispatch_frees_its_worker():
    world = a_world()
    task = world.submit()
    other = world.submit()
    world.running.clear()
    world.cancel(task)
    assert world.running == {the_worker(world): other}


# ------------------------------------------------------------------ the end


def test_close_fails_what_waits_lets_run_what_runs_and_kills_after_the_grace():
    world = a_world(2, grace=2.0)
    running, waiting = world.submit(), [world.submit(), world.submit()]
    world.say(ev.CloseRequested(None))
    assert world.failure(waiting[-1]).kind is FailureKind.POOL_CLOSED
    assert not world.answers[running]
    world.pass_time(2.0)
    failure = world.failure(running)
    assert failure.kind is FailureKind.POOL_CLOSED
    assert failure.worker is not None
    world.reap()
    assert world.ended == 1


def test_the_earliest_close_counts_and_none_puts_it_off():
    world = a_world(grace=50.0)
    task = world.submit()
    world.say(ev.CloseRequested(10.0))
    world.say(ev.CloseRequested(1.0))
    world.say(ev.CloseRequested(20.0))
    world.pass_time(1.0)
    assert world.answers[task]


def test_a_worker_that_outlives_sigkill_does_not_hold_up_the_end():
    world = a_world()
    world.submit()
    world.say(ev.CloseRequested(0.0))
    world.pass_time(ABANDON_AFTER + 1.0)
    assert world.ended == 1


def test_closing_again_does_not_abandon_the_dying():
    world = a_world()
    world.submit()
    world.say(ev.CloseRequested(0.0))
    world.pass_time(0.0)
    world.say(ev.CloseRequested(0.0))
    world.pass_time(0.1)
    assert not world.ended
    world.reap()
    assert world.ended == 1


def test_shutdown_finishes_what_was_taken_replacing_workers_if_need_be():
    world = a_world(max_tasks_per_child=1)
    tasks = [world.submit() for _ in range(3)]
    world.say(ev.ShutdownRequested())
    refused = world.submit()
    assert world.failure(refused).kind is FailureKind.POOL_CLOSED
    while not world.ended:
        world.warm_all()
        for worker in sorted(world.running):
            world.done(worker)
        for worker in sorted(world.stopped & world.alive):
            world.exit(worker, 0)
        world.reap()
    assert all(
        world.answers[task] == [ev.SettleTask(task, ev.Outcome.RETURNED, b"payload")]
        for task in tasks
    )


def test_shutdown_can_drop_what_has_not_started():
    world = a_world()
    running, waiting = world.submit(), world.submit()
    world.say(ev.ShutdownRequested(cancel_queued=True))
    assert world.answers[waiting] == [ev.DropTask(waiting)]
    assert not world.answers[running]


def test_shutdown_while_warming_ends_without_waiting_for_warmth():
    world = a_world(3, warm=False)
    world.say(ev.ShutdownRequested())
    world.reap()
    assert world.ended == 1
    assert world.core.phase is Phase.CLOSED


def test_shutdown_of_a_pool_that_cannot_get_warm_ends_too():
    world = a_world(warm=False, restart=RestartPolicy())
    task = world.submit()
    world.say(ev.ShutdownRequested())
    while not world.ended:
        for worker in sorted(world.unborn):
            world.start_failed(worker)
        deadline = world.core.next_deadline()
        if deadline is not None:
            world.pass_time(deadline - world.now)
    assert world.failure(task).kind is FailureKind.POOL_BROKEN


# ------------------------------------------------------------------ stacks


def asked(world: World) -> int:
    (worker,) = world.asked
    return worker


def test_a_worker_that_hung_is_killed_once_it_has_told_where():
    world = a_world(prompt=False)
    task = world.submit(timeout=1.0)
    world.pass_time(1.0)
    assert not world.killed
    assert not world.answers[task]
    world.give_stack(asked(world), started=task)
    assert world.failure(task).stack == "a stack"
    assert world.failure(task).started
    assert world.killed


def test_whether_a_task_had_started_is_known_with_the_stack():
    world = a_world(prompt=False)
    task = world.submit(timeout=1.0)
    world.pass_time(1.0)
    world.give_stack(asked(world), started=0)
    assert not world.failure(task).started


def test_the_stack_is_not_waited_for_without_a_bound():
    world = a_world(prompt=False)
    task = world.submit(timeout=1.0)
    world.pass_time(1.0 + STACK_PATIENCE)
    failure = world.failure(task)
    assert (failure.kind, failure.stack) == (FailureKind.TASK_TIMEOUT, None)
    assert world.killed


def test_a_worker_that_dies_as_it_is_asked_has_run_into_its_limit_all_the_same():
    world = a_world(prompt=False)
    task = world.submit(timeout=1.0)
    world.pass_time(1.0)
    world.exit(asked(world), -9, task, "half a stack")
    failure = world.failure(task)
    assert (failure.kind, failure.stack) == (FailureKind.TASK_TIMEOUT, "half a stack")
    assert failure.started


def test_an_answer_that_comes_after_the_limit_is_late():
    world = a_world(prompt=False)
    task = world.submit(timeout=1.0)
    worker = the_worker(world)
    world.pass_time(1.0)
    world.say(ev.TaskDone(worker, task, ev.Outcome.RETURNED, b"late"))
    world.give_stack(worker, started=task)
    assert world.failure(task).kind is FailureKind.TASK_TIMEOUT


def test_close_does_not_wait_for_a_stack():
    world = a_world(prompt=False, grace=0.0)
    task = world.submit(timeout=1.0)
    world.pass_time(1.0)
    world.say(ev.CloseRequested(0.0))
    world.pass_time(0.0)
    assert world.failure(task).kind is FailureKind.TASK_TIMEOUT
    assert world.killed


def test_kill_while_the_stack_is_taken_keeps_the_task_from_running_again():
    world = a_world(2, prompt=False, heartbeat_interval=1.0, heartbeat_timeout=4.0)
    task = world.submit(retries=5)
    world.silent |= world.alive
    world.pass_time(5.0)
    (busy,) = [w for w in world.asked if world.core.roster.workers[w].task == task]
    world.say(ev.TaskKillRequested(task))
    world.give_stack(busy, started=0)
    assert world.failure(task).kind is FailureKind.UNRESPONSIVE


@pytest.mark.parametrize("scribble", [3, 1 << 63])
def test_a_task_that_scribbles_over_the_flight_recorder_may_have_started(scribble):
    world = a_world()
    world.submit()
    world.done(the_worker(world))
    culprit = world.submit()
    world.exit(the_worker(world), 1, scribble)
    assert world.failure(culprit).started


# ------------------------------------------------------------------ heartbeats


def beating(max_workers=1, **settings) -> World:
    return a_world(max_workers, heartbeat_interval=1.0, heartbeat_timeout=4.0, **settings)


@pytest.mark.parametrize("busy", [False, True])
def test_a_silent_worker_is_reported_then_killed_and_replaced(busy):
    world = beating()
    task = world.submit() if busy else None
    worker = the_worker(world)
    world.silent.add(worker)
    world.pass_time(3.5)
    (silence,) = world.silences
    assert (silence.worker, silence.task, silence.limit) == (worker, task, 4.0)
    assert not world.killed
    world.pass_time(2.0)
    assert world.killed == {worker}
    (report,) = world.reports
    assert report.failure.kind is FailureKind.UNRESPONSIVE
    assert report.failure.silent == pytest.approx(4.0)
    world.reap()
    assert the_worker(world) != worker


def test_a_silent_workers_task_that_never_started_runs_elsewhere():
    world = beating(2, prompt=False)
    task = world.submit()
    (worker,) = world.running
    world.silent.add(worker)
    world.pass_time(5.0)
    world.give_stack(worker, started=0)
    assert not world.answers[task]
    assert world.running != {worker: task}
    assert list(world.running.values()) == [task]


def test_a_silent_workers_task_is_not_run_again_if_nobody_can_tell_whether_it_has_started():
    """It cannot even write down its stack: its flight recorder was never asked."""
    world = beating(2, prompt=False)
    task = world.submit()
    (worker,) = world.running
    world.silent.add(worker)
    world.pass_time(5.0 + STACK_PATIENCE)
    assert world.killed == {worker}
    assert world.failure(task).kind is FailureKind.UNRESPONSIVE
    assert world.failure(task).started


def test_workers_that_beat_are_left_alone():
    world = beating(3)
    world.submit()
    world.pass_time(3600.0)
    assert not world.killed
    assert not world.silences


def test_the_pools_own_sleep_is_not_blamed_on_its_workers():
    """Nothing beats, or is read, while the machine is suspended: the first check sees no beat."""
    world = beating()
    for _ in range(3):
        world.silent |= world.alive
        world.now += 1000.0
        world.say(ev.TimePassed())
        assert not world.killed
        world.silent.clear()
        world.pass_time(3.0)
    assert not world.killed


def test_nobody_looks_for_heartbeats_while_nobody_is_warm():
    world = beating()
    worker = the_worker(world)
    world.pass_time(3.0)
    world.exit(worker, 1)
    world.pass_time(30.0)
    assert world.core.pulses.next_at is None
    world.warm_all()
    assert world.core.pulses.next_at is not None


# ---------------------------------------------------------------------------- tasks that pass


def test_tasks_that_pass_are_counted_as_any():
    world = a_world()
    worker = the_worker(world)
    world.pass_by(worker, 3)
    world.pass_by(worker, 2, ev.Outcome.RAISED)
    census = world.core.census(world.now)
    assert census.tasks_submitted == 5
    assert census.tasks_settled == {"returned": 3, "raised": 2}
    assert census.runs.count == census.waits.count == 5
    assert census.details[0].tasks_done == 5
    assert census.details[0].state == "idle"


def test_a_task_that_never_started_after_others_had_passed_runs_elsewhere():
    world = a_world()
    worker = the_worker(world)
    world.pass_by(worker, 3)
    world.take(worker, None)
    world.exit(worker, -9)
    assert not any(world.answers.values()), (
        "the last that its flight recorder has is one that passed"
    )
    world.warm_all()
    assert len(world.running) == 1


def test_a_worker_that_dies_after_tasks_have_passed_has_proved_itself():
    world = a_world()
    worker = the_worker(world)
    world.pass_by(worker, 1)
    world.exit(worker, -9)
    (report,) = world.reports
    assert report.failure.story[-3:-1] == ("+0.000s TaskTaken -> busy", "+0.000s TaskDone -> idle")
    assert world.core.health is not Health.DEGRADED


def test_the_last_task_of_a_worker_does_not_pass():
    world = a_world(max_tasks_per_child=3)
    worker = the_worker(world)
    assert world.core.on_loan(9) == {worker: 2}
    world.pass_by(worker, 2)
    assert world.core.on_loan(9) == {worker: 0}
    world.submit()
    world.done(worker)
    assert world.stopped == {worker}


def test_nothing_passes_whoever_is_to_be_told_of_everything():
    world = a_world(is_observed=True)
    worker = the_worker(world)
    assert world.core.on_loan(9) == {worker: 0}
    passed = ev.PassedTask(ev.TaskSpec(9), 0.0, 0.0, ev.Outcome.RETURNED)
    with pytest.raises(InvalidTransition):
        world.core.handle(ev.TasksPassed(worker, (passed,)), world.now)
    assert a_world(forwards_logs=True).core.on_loan(9) == {1: 0}


def test_nothing_passes_a_busy_worker():
    world = a_world()
    worker = the_worker(world)
    world.submit()
    passed = ev.PassedTask(ev.TaskSpec(9), 0.0, 0.0, ev.Outcome.RETURNED)
    with pytest.raises(InvalidTransition):
        world.core.handle(ev.TasksPassed(worker, (passed,)), world.now)


def test_a_worker_whose_tasks_pass_is_not_unused():
    world = a_world(2, min_idle=1, idle_timeout=10.0)
    world.submit()
    world.submit()
    world.warm_all()
    for worker in sorted(world.running):
        world.done(worker)
    first, second = world.core.roster.idle
    world.pass_time(6.0)
    world.pass_by(first, 1)
    world.pass_time(6.0)
    assert world.stopped == {second}
