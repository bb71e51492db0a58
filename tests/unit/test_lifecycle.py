"""The table of a worker's states: every pair is in it or refused."""

from __future__ import annotations

import typing

import pytest

from warmpool import events as ev
from warmpool.lifecycle import DEAD, LIVE, TRANSITIONS, InvalidTransition, State, Worker

WORKER_EVENTS = typing.get_args(ev.WorkerEvent)
INPUTS = (*typing.get_args(ev.Event), *typing.get_args(ev.Command))
ORDER = list(State)


def a_worker(state: State) -> Worker:
    worker = Worker(id=7, slot=0, started_at=100.0, deadline=None)
    worker.state = state
    return worker


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("cause", INPUTS, ids=lambda cause: cause.__name__)
def test_a_pair_is_in_the_table_or_refused_without_a_change(state, cause):
    worker = a_worker(state)
    if cause in TRANSITIONS[state]:
        assert worker.allows(cause)
        assert worker.move(cause, 101.0) is state
        assert worker.state is TRANSITIONS[state][cause]
    else:
        assert not worker.allows(cause)
        with pytest.raises(InvalidTransition, match=cause.__name__):
            worker.move(cause, 101.0)
        assert worker.state is state
        assert worker.story() == ()


def test_states_go_one_way():
    """I9: but for the change between IDLE and BUSY."""
    for before, row in TRANSITIONS.items():
        for cause, after in row.items():
            forward = ORDER.index(after) >= ORDER.index(before)
            back_to_idle = (before, after) == (State.BUSY, State.IDLE)
            assert forward or back_to_idle, (before, cause, after)


def test_every_live_state_can_be_left_by_exit_and_all_but_killing_by_kill():
    for state in LIVE - {State.STARTING}:
        assert TRANSITIONS[state][ev.WorkerExited] is DEAD
    for state in LIVE - {State.KILLING}:
        assert TRANSITIONS[state][ev.KillWorker] is State.KILLING
        assert TRANSITIONS[state][ev.WorkerBrokeProtocol] is State.KILLING
    assert TRANSITIONS[DEAD] == {}


def test_every_state_has_a_row_and_can_be_reached():
    assert set(TRANSITIONS) == set(State)
    reached = {after for row in TRANSITIONS.values() for after in row.values()}
    assert reached == set(State)


def test_the_story_tells_the_last_transitions_oldest_first():
    worker = a_worker(State.STARTING)
    worker.move(ev.WorkerGreeted, 100.25)
    worker.move(ev.WorkerReady, 101.0)
    assert worker.story() == (
        "+0.250s WorkerGreeted -> initializing",
        "+1.000s WorkerReady -> idle",
    )
    for _ in range(100):
        worker.move(ev.DispatchTask, 102.0)
        worker.move(ev.TaskDone, 103.0)
    assert len(worker.story()) == 12
    assert worker.story()[-1] == "+3.000s TaskDone -> idle"
