"""What chaos must notice is noticed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import kinds, measure, tasks
from tests.chaos.kinds import Job
from tests.chaos.ledger import Entry, Ledger, Victims
from tests.chaos.measure import Holding
from warmpool import PoolClosed, TaskFuture, WorkerDied

NUMBER = 7
RESULT = tasks.known(NUMBER)


class Settled(TaskFuture[Any]):
    """A future that has its answer."""

    def __init__(self, answer: Any) -> None:
        super().__init__(None, NUMBER, 0.0)  # type: ignore[arg-type]
        self._answer = answer

    def result(self, timeout: float | None = None) -> Any:
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    def done(self) -> bool:
        return True


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "runs", Victims())


def settle(ledger: Ledger, answer: Any, runs: int = 1, **job: Any) -> str:
    """Have a task come to this; returns what is complained of."""
    entry = Entry(
        NUMBER, Job("answer", tasks.answer, result=RESULT, **job), "pool", Settled(answer)
    )
    ledger.enter(entry)
    for _ in range(runs):
        tasks.note(ledger.runs, NUMBER)
    ledger.settle(entry)
    ledger.settle(entry)
    assert ledger.settled == 1
    ledger.count_runs()
    return "\n".join(ledger.problems)


def test_a_right_answer_is(ledger: Ledger) -> None:
    assert settle(ledger, RESULT) == ""
    assert ledger.counts == {"pool": {kinds.RIGHT: 1}}


def test_a_wrong_answer_is_not(ledger: Ledger) -> None:
    assert "WRONG: 8, not 50" in settle(ledger, 8)


def test_another_tasks_exception_is_not(ledger: Ledger) -> None:
    assert "WRONG: raised" in settle(ledger, tasks.Known(NUMBER + 1), ends=frozenset({"raised"}))


@pytest.mark.parametrize("runs", [0, 2])
def test_a_task_that_was_not_run_once_is_noticed(ledger: Ledger, runs: int) -> None:
    assert f"was run {runs} times, not 1 to 1" in settle(ledger, RESULT, runs)


def test_one_with_retries_may_be_run_again(ledger: Ledger) -> None:
    assert settle(ledger, RESULT, 2, options={"retries": 1}) == ""


def test_one_that_never_started_must_not_have_been_run(ledger: Ledger) -> None:
    ledger.victims.add(1, frozenset({kinds.DIED}))
    assert "was run 1 times, not 0 to 0" in settle(ledger, WorkerDied("it died", pid=1))


def test_only_victims_may_die(ledger: Ledger) -> None:
    error = WorkerDied("it died", pid=1, started=True)
    assert "WorkerDied, not ['right']" in settle(ledger, error)


def test_victims_may_die(ledger: Ledger) -> None:
    ledger.victims.add(1, frozenset({kinds.DIED}))
    assert settle(ledger, WorkerDied("it died", pid=1, started=True)) == ""


def test_only_pools_that_are_being_closed_may_be(ledger: Ledger) -> None:
    assert "PoolClosed" in settle(ledger, PoolClosed("it is"), runs=0)
    ledger.problems.clear()
    ledger.closing("pool")
    assert ledger.may_be_closed("pool")


def test_a_task_that_stays_open_is_noticed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.ledger.SETTLES_WITHIN", 0.0)
    future = Settled(RESULT)
    future.done = lambda: False  # type: ignore[method-assign]
    stacks: list[bool] = []
    monkeypatch.setattr("faulthandler.dump_traceback", lambda: stacks.append(True))
    ledger.enter(Entry(NUMBER, Job("answer", tasks.answer), "pool", future))
    ledger.settle_all()
    (problem,) = ledger.problems
    assert problem.startswith(f"UNSETTLED: task {NUMBER}")
    assert stacks


def test_what_is_left_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "PATIENCE", 0.0)
    monkeypatch.setattr(measure, "members", list)
    before = measure.take()
    reading, writing = os.pipe()
    try:
        _, surplus = measure.settled(before)
    finally:
        os.close(reading)
        os.close(writing)
    assert surplus[0] == "2 more of descriptor of pipe:[#]"
    assert measure.settled(before)[1] == []
    grown = Holding(before.things, before.memory + 100 * measure.MiB, before.blocks + 5000)
    assert grown.more_than(before) == ["100 MiB more", "5000 blocks of memory more"]
