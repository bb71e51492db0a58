"""Workers' log records, handled in the host; a killed worker costs its own last ones alone."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.helpers import logs, tasks
from tests.helpers.gate import Gate
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import SoftTimeout, WarmPool, WorkerDied

MakePool = Callable[..., WarmPool]


def messages(caplog: pytest.LogCaptureFixture, name: str = "tests.worker") -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == name]


def test_records_come_to_the_loggers_of_their_names(
    make_pool: MakePool, start_method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pool = make_pool(1, name="painters", forward_logs=True, initializer=logs.greet)
    future = pool.submit(logs.log_and_fail, "blue")
    assert isinstance(outcome(future), ValueError)
    pool.close()
    assert messages(caplog) == ["hello", "painting blue", "no paint"]
    greeting, painting, failing = (r for r in caplog.records if r.name == "tests.worker")
    assert (greeting.pool, greeting.worker, greeting.task) == ("painters", 1, None)  # type: ignore[attr-defined]
    assert (painting.worker, painting.task) == (1, 1)  # type: ignore[attr-defined]
    assert painting.process == future.info.pid
    assert painting.funcName == "log_and_fail"
    assert failing.exc_text is not None
    assert "ValueError: blue" in failing.exc_text


def test_records_below_the_level_stay_where_they_are(
    make_pool: MakePool, start_method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pool = make_pool(1, forward_logs=logging.WARNING, initializer=logs.greet)
    assert isinstance(outcome(pool.submit(logs.log_and_fail, "blue")), ValueError)
    pool.close()
    assert messages(caplog) == ["no paint"]


def test_many_threads_of_a_task_may_log(
    make_pool: MakePool, start_method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pool = make_pool(1, forward_logs=True)
    assert pool.submit(logs.log_from_threads, 8, 100).result(BOUND) == 8
    pool.close()
    assert len(messages(caplog)) == 800
    assert len(set(messages(caplog))) == 800


def test_a_forked_copy_of_a_worker_sends_nothing(
    make_pool: MakePool, start_method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pool = make_pool(1, forward_logs=True)
    assert pool.submit(logs.log_from_a_fork).result(BOUND) == 0
    pool.close()
    assert messages(caplog) == ["from the worker"]


def test_a_killed_worker_costs_nobody_elses_records(
    make_pool: MakePool, start_method: str, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pool = make_pool(2, forward_logs=True)
    flooding = pool.submit(logs.log_without_end)
    until(lambda: len(messages(caplog)) > 100, "they come")
    assert flooding.kill()
    assert isinstance(outcome(flooding), WorkerDied)
    # The future does not wait for the worker's end, with which its last records come.
    until(lambda: bool(pool.stats().worker_exits), "it is gone")
    assert pool.submit(logs.log_and_return, "whole").result(BOUND) == "whole"
    pool.close()
    assert messages(caplog)[-1] == "whole"
    assert not [record for record in caplog.records if "malformed" in record.getMessage()]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Records by what they begin with: pytest would keep the text of a flood to the end."""
    found: Counter[str] = Counter()

    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found[record.getMessage().partition(" ")[0]] += 1

    handler = Counting()
    logging.getLogger().addHandler(handler)
    # pytest's own handlers would take them otherwise.
    monkeypatch.setattr(logging.getLogger("tests"), "handlers", [handler])
    monkeypatch.setattr(logging.getLogger("tests"), "propagate", False)
    logging.getLogger("tests").setLevel(logging.INFO)
    yield found
    logging.getLogger().removeHandler(handler)
    logging.getLogger("tests").setLevel(logging.NOTSET)


def test_a_soft_limit_breaks_off_no_record(
    make_pool: MakePool, start_method: str, counted: Counter[str]
) -> None:
    pool = make_pool(1, forward_logs=logging.INFO)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    for n in range(1, 30):
        future = pool.options(soft_timeout=n * 1e-3).submit(logs.log_without_end)
        assert isinstance(outcome(future), SoftTimeout)
    assert pool.submit(tasks.own_pid).result(BOUND) == pid
    pool.close()
    assert counted["record"] > 100
    assert set(counted) <= {"record", "pool"}  # The latter tells of those that were dropped.


def test_a_signal_handler_that_logs_breaks_off_no_answer(
    make_pool: MakePool, start_method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pool = make_pool(1, forward_logs=True)
    for _ in range(10):
        assert len(pool.submit(logs.log_in_a_signal_handler, 4 << 20).result(BOUND)) == 4 << 20
    pool.close()
    assert "alarm" in messages(caplog)


def test_a_record_that_cannot_be_formatted_costs_itself(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1, forward_logs=True)
    assert pool.submit(logs.log_nonsense).result(BOUND) == "done"


def test_what_a_worker_sends_is_data(caplog: pytest.LogCaptureFixture) -> None:
    """Not even a record has to be one."""
    from warmpool.relay import Relay

    for body in (b"", b"{", b"[]", b'{"name": 5, "levelno": 10}', b"\xff\xff", b"[" * 100_000):
        assert "malformed" in str(Relay._decoded(body)["msg"])
