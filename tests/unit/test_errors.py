"""Errors keep their facts, say what to do, and survive pickling."""

from __future__ import annotations

import pickle
import signal
import sys

import pytest

import warmpool
from warmpool import errors, stacks
from warmpool.events import Failure, FailureKind
from warmpool.failures import exit_text, to_error


def all_errors(base=errors.WarmpoolError):
    yield base
    for subclass in base.__subclasses__():
        yield from all_errors(subclass)


@pytest.mark.parametrize("cls", dict.fromkeys(all_errors()), ids=lambda cls: cls.__name__)
def test_every_error_survives_pickling(cls):
    error = cls("what happened")
    error.extra = ("kept", 1)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert str(copy) == "what happened"
    assert copy.__dict__ == error.__dict__


@pytest.mark.parametrize("cls", dict.fromkeys(all_errors()), ids=lambda cls: cls.__name__)
def test_every_error_is_public_and_no_broken_executor(cls):
    from concurrent.futures import BrokenExecutor

    assert getattr(warmpool, cls.__name__) is cls
    assert cls.__module__ == "warmpool"
    assert not issubclass(cls, BrokenExecutor)


def test_a_worker_error_carries_its_facts():
    error = errors.WorkerDied("x", pid=1, worker_id=2, stage="busy", exitcode=-11, uptime=3.0)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.pid, copy.worker_id, copy.stage, copy.uptime) == (1, 2, "busy", 3.0)
    assert copy.signal is signal.SIGSEGV


@pytest.mark.parametrize(
    ("exitcode", "expected"),
    [(None, None), (0, None), (3, None), (-9, signal.SIGKILL), (-300, 300)],
)
def test_the_signal_comes_of_the_exit_code(exitcode, expected):
    assert errors.WorkerDied("x", exitcode=exitcode).signal == expected


def test_timeouts_are_timeout_errors_and_closed_is_a_runtime_error():
    assert issubclass(errors.TaskTimeout, TimeoutError)
    assert issubclass(errors.QueueTimeout, TimeoutError)
    assert issubclass(errors.PoolClosed, RuntimeError)
    assert issubclass(errors.PayloadError, pickle.PicklingError)


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_failure_becomes_an_error_that_explains_itself(kind):
    from warmpool import payload

    remote = payload.dump_error(ValueError("no model"), payload.dumps)
    failure = Failure(kind, worker=3, pid=99, stage="busy", limit=1.5, remote=remote)
    error = to_error(failure, "mypool")
    assert isinstance(error, errors.WarmpoolError)
    assert "mypool" in str(error) or "worker 3 (pid 99)" in str(error)


@pytest.mark.parametrize("stage", ["starting", "initializing"])
@pytest.mark.parametrize("kind", [FailureKind.DIED, FailureKind.BROKE_PROTOCOL])
def test_what_fails_before_it_is_ready_is_an_initializer_failed(kind, stage):
    assert type(to_error(Failure(kind, worker=1, stage=stage), "p")) is errors.InitializerFailed


def test_causes_are_chained():
    last = Failure(FailureKind.DIED, worker=1, pid=5, stage="initializing", exitcode=-9)
    error = to_error(Failure(FailureKind.POOL_BROKEN, cause=last), "p")
    assert isinstance(error, errors.PoolBroken)
    assert isinstance(error.__cause__, errors.InitializerFailed)
    assert "SIGKILL" in str(error)


def test_exit_codes_in_words():
    assert "SIGSEGV" in exit_text(-11)
    assert "memory killer" in exit_text(-9)
    assert "memory killer" not in exit_text(-15)
    assert "code 3" in exit_text(3)
    assert "signal 300" in exit_text(-300)
    assert "unknown" in exit_text(None)


@pytest.mark.parametrize("body", [b"", b"short", b"x" * 500, pickle.dumps(("a", "b", "c", None))])
def test_a_malformed_report_of_an_error_is_an_error_and_is_never_unpickled(body):
    """I13."""
    from warmpool import payload

    error = payload.load_error(body)
    assert isinstance(error, errors.PayloadError)
    assert "malformed" in str(error)
    assert isinstance(payload.error_summary(body), str)
    assert payload.error_text(body) == ""


def test_an_error_report_keeps_its_texts_whatever_they_hold():
    from warmpool import payload

    body = payload.dump_error(ValueError("lone \udc80 surrogate"), payload.dumps, "a note")
    error = payload.load_error(body)
    assert str(error).startswith("a note: ValueError: lone")
    assert isinstance(error.__cause__, ValueError)


def test_a_traceback_is_told_though_no_module_can_be_imported_any_more(monkeypatch):
    """No descriptor is left, say."""
    from warmpool import payload

    def fail():
        raise OSError("Too many open files")

    monkeypatch.setitem(sys.modules, "traceback", None)
    try:
        fail()
    except OSError as error:
        body = payload.dump_error(error, payload.dumps)
    monkeypatch.undo()
    line = fail.__code__.co_firstlineno + 1
    assert payload.error_text(body) == (
        "Traceback (most recent call last):\n"
        f'  File "{__file__}", line {line}, in fail\n'
        "OSError: Too many open files\n"
    )


def a_thread(*frames):
    lines = "".join(f'  File "{file}", line 7 in {function}\n' for file, function in frames)
    return f"Current thread 0x0000 (most recent call first):\n{lines}"


@pytest.mark.parametrize(
    ("frames", "kept"),
    [
        ([("user.py", "f"), ("/x/warmpool/child.py", "run_task")], 1),
        ([("user.py", "f"), ("/x/warmpool/each.py", "__call__"), ("/x/warmpool/child.py", "r")], 1),
        ([("/x/warmpool/endpoint.py", "receive"), ("/x/warmpool/child.py", "_serve")], 2),
    ],
)
def test_a_stack_is_told_without_our_frames_unless_it_has_no_others(frames, kept):
    tidied = stacks.tidy(a_thread(*frames))
    assert tidied == a_thread(*frames[:kept])
