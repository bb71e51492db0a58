"""What chaos must notice is noticed."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import kinds, measure, tasks
from tests.chaos.kinds import Job
from tests.chaos.ledger import Entry, Ledger, Victims
from tests.chaos.measure import Holding
from warmpool import PoolClosed, ProtocolError, TaskFuture, TaskInfo, WorkerDied

NUMBER = 7
RESULT = tasks.known(NUMBER)


class Settled(TaskFuture[Any]):
    """A future that has its answer."""

    def __init__(self, answer: Any, began: float = 0.0) -> None:
        super().__init__(None, NUMBER, 0.0)  # type: ignore[arg-type]
        self._answer = answer
        self._began = began

    @property
    def info(self) -> TaskInfo:
        return dataclasses.replace(super().info, started=self._began)

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


# ------------------------------------------------------------- behind one that ruins its worker

BUSY = "+0.1s DispatchTask -> busy"
KILLED = (BUSY, "+0.2s WorkerBrokeProtocol -> killing", "+0.3s WorkerExited -> dead")
JOB = Job("answer", tasks.answer, result=RESULT)
FOR_ANOTHER = (
    "it was killed by SIGKILL, by the pool, for what another task of the same worker had done"
)


def lost(**changes: Any) -> WorkerDied:
    facts = {"pid": 1, "worker_id": 4, "stage": "busy", "exitcode": -9, "started": True}
    text = changes.pop("text", FOR_ANOTHER)
    return WorkerDied(text, **facts | {"story": KILLED} | changes)


def culprit(**changes: Any) -> ProtocolError:
    facts = {"pid": 1, "worker_id": 4, "stage": "busy", "started": True, "story": (BUSY,)}
    return ProtocolError("it wrote what is no message", **facts | changes)


def settle_both(ledger: Ledger, first: BaseException, second: BaseException, **entry: Any) -> str:
    """Have a task that breaks its worker come to the first, and one behind it to the second."""
    breaks = Job("writes_garbage", tasks.commit, ends=frozenset({kinds.BROKE}))
    job = Job("answer", tasks.answer, result=RESULT, options=entry.pop("options", {}))
    entry = {"pool": "pool", "may_lie": True, "began": 2.0} | entry
    began = entry.pop("began")
    entries = [
        Entry(NUMBER, breaks, "pool", Settled(first, 1.0)),
        Entry(NUMBER + 1, job, future=Settled(second, began), **entry),
    ]
    for entered in reversed(entries):  # Whose end is seen first does not matter.
        ledger.enter(entered)
        ledger.settle(entered)
    ledger.look_at_claims()
    ledger.count_runs()
    return "\n".join(ledger.problems)


def test_who_began_behind_one_that_ruined_their_worker_may_be_lost(ledger: Ledger) -> None:
    assert settle_both(ledger, culprit(), lost()) == ""
    assert ledger.counts == {"pool": {kinds.BEHIND: 1, kinds.BROKE: 1}}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"text": "it was killed by SIGKILL"}),
        ({}, {"exitcode": -11}),
        ({}, {"started": False}),
        ({}, {"stage": "idle"}),
        ({}, {"worker_id": 5}),
        ({}, {"pid": 2}),
        ({"story": ("+0.0s DispatchTask -> busy",)}, {}),
        ({}, {"story": (BUSY, "+0.3s WorkerExited -> dead")}),
    ],
)
def test_nobody_else_may(ledger: Ledger, first: dict[str, Any], second: dict[str, Any]) -> None:
    complaint = settle_both(ledger, culprit(**first), lost(**second))
    assert f"task {NUMBER + 1} (answer, {{}}) of pool" in complaint
    assert "WorkerDied, not ['right']" in complaint


@pytest.mark.parametrize(
    "entry",
    [{"may_lie": False}, {"pool": "other"}, {"began": 0.5}, {"options": {"retries": 1}}],
)
def test_nor_where_it_was_not_behind_or_could_be_run_again(
    ledger: Ledger, entry: dict[str, Any]
) -> None:
    assert "WorkerDied, not ['right']" in settle_both(ledger, culprit(), lost(), **entry)


def test_nor_behind_one_that_has_not_ruined_it_as_it_may(ledger: Ledger) -> None:
    died = WorkerDied("it died", pid=1, worker_id=4, stage="busy", started=True, story=(BUSY,))
    assert settle_both(ledger, died, lost()).count("WorkerDied, not ['") == 2


@pytest.mark.parametrize("runs", [0, 1])
def test_only_the_last_one_may_not_have_come_to_its_first_line(ledger: Ledger, runs: int) -> None:
    for _ in range(runs):
        tasks.note(ledger.runs, NUMBER + 1)
    last = Entry(NUMBER + 2, JOB, "pool", Settled(lost(), 3.0), may_lie=True)
    ledger.enter(last)
    ledger.settle(last)
    assert ("it was never begun" in settle_both(ledger, culprit(), lost())) is (runs == 0)


def test_who_is_lost_behind_another_was_not_run_twice(ledger: Ledger) -> None:
    for _ in range(2):
        tasks.note(ledger.runs, NUMBER + 1)
    assert "was run 2 times, not 0 to 1" in settle_both(ledger, culprit(), lost())


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
