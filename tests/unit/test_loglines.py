"""One line for each failure, those that repeat folded."""

from __future__ import annotations

import logging

import pytest

from warmpool.errors import InitializerFailed, WorkerDied
from warmpool.events import ReportMemory
from warmpool.loglines import LogLines


@pytest.fixture
def times():
    return [0.0]


@pytest.fixture
def lines(caplog, times):
    caplog.set_level(logging.WARNING, "warmpool")
    return LogLines("p", lambda: times[-1])


def failed(n: int) -> InitializerFailed:
    error = InitializerFailed(f"worker {n} (pid {1000 + n}) died 0.{n} s after", worker_id=n)
    error.__cause__ = ValueError(f"at 0x7f{n:x}")
    return error


def test_each_failure_is_a_line_with_its_cause_and_facts(lines, caplog):
    lines.failure(failed(7), "it is replaced")
    (record,) = caplog.records
    assert record.getMessage() == (
        "pool 'p': worker 7 (pid 1007) died 0.7 s after; it is replaced; cause: at 0x7f7"
    )
    assert (record.pool, record.worker, record.task) == ("p", 7, None)


def test_failures_that_repeat_are_folded(lines, caplog):
    for n in range(100):
        lines.failure(failed(n), f"failure {n} in a row")
    told = [record.worker + 1 for record in caplog.records]
    assert told == [1, 2, 3, 4, 8, 16, 32, 64]
    assert "the 64th like it" in caplog.records[-1].getMessage()


def test_a_failure_that_comes_now_and_then_is_told_of_each_time(lines, caplog, times):
    for n in range(100):
        times.append(n * 61.0)
        lines.failure(failed(n), "x")
    assert len(caplog.records) == 100


def test_another_failure_is_told_of(lines, caplog):
    for n in range(10):
        lines.failure(failed(n), "x")
    lines.failure(WorkerDied("worker 11 died", worker_id=11), "x")
    assert caplog.records[-1].worker == 11


def test_different_failures_without_end_take_no_memory(lines, caplog):
    for n in range(1000):
        lines.failure(WorkerDied("worker died of " + "x" * n), "x")
    assert len(lines._runs) <= 64
    assert len(caplog.records) == 1000


def test_other_lines_carry_their_facts_too(lines, caplog):
    lines.memory(ReportMemory(3, 1003, "busy", "task 5 (f)", 3 << 20, 2 << 20, is_limit=False))
    (record,) = caplog.records
    assert (record.pool, record.worker, record.task) == ("p", 3, "task 5 (f)")
    assert "uses 3 MiB with its descendants, more than 2 MiB" in record.getMessage()
