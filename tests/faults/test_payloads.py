"""What does not pickle, what does something as it does, and what is large."""

from __future__ import annotations

import multiprocessing.queues
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import SharedPool
from tests.helpers import faults, payloads, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import (
    PayloadError,
    RemoteTraceback,
    WarmPool,
)

MakePool = Callable[..., WarmPool]

# ------------------------------------------------------------------------------- pickling


class _Counted:
    """Notes where and how often it is pickled."""

    pickled: list[tuple[int, int]] = []  # noqa: RUF012

    def __reduce__(self) -> Any:
        self.pickled.append((os.getpid(), threading.get_ident()))
        return str, ("exits_with_3",)


def test_arguments_are_pickled_once_in_the_callers_thread(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = make_pool(1, start_method="fork")
    _Counted.pickled.clear()
    view = pool.options(retries=1)
    future = view.submit(tasks.fail_until, tmp_path / "notes", 2, _Counted())
    # It ran twice, and travelled twice.
    assert future.result(BOUND) == 2
    assert _Counted.pickled == [(os.getpid(), threading.get_ident())]


def test_later_changes_of_an_argument_do_not_reach_the_task(
    shared_pool: SharedPool, gate: Gate
) -> None:
    pool = shared_pool.pool
    running = [pool.submit(hold, gate) for _ in range(2)]
    argument = [1]
    future = pool.submit(tasks.echo, argument)
    argument.append(2)
    gate.open(2)
    assert future.result(BOUND) == [1]
    wait(running, BOUND)


def test_results_are_decoded_once_in_the_thread_that_asks(shared_pool: SharedPool) -> None:
    future = shared_pool.pool.submit(payloads.return_on_unpickling, tasks.whereabouts)
    wait([future], BOUND)
    with ThreadPoolExecutor(1) as threads:
        process, thread = threads.submit(future.result).result(BOUND)
        assert process == os.getpid()
        assert thread == threads.submit(threading.get_ident).result(BOUND)
    assert future.result() == (process, thread)


@pytest.mark.parametrize(
    "argument",
    [lambda: None, threading.Lock(), payloads.OnPickling(faults.raises)],
    ids=["lambda", "lock", "raising"],
)
def test_what_cannot_be_pickled_fails_its_own_future(
    shared_pool: SharedPool, argument: object
) -> None:
    future = shared_pool.pool.submit(tasks.echo, argument)
    error = outcome(future)
    assert isinstance(error, PayloadError)
    assert isinstance(error, pickle.PicklingError)
    assert error.__cause__ is not None
    assert future.info.attempts == 0


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (tasks.return_a_lock, "lock"),
        (tasks.raise_with_a_lock, "Oops"),
        (payloads.raise_two_arguments, "1 and 2"),
        (payloads.raise_unprintable, "Unprintable"),
    ],
)
def test_results_and_exceptions_that_do_not_pickle_fail_their_own_future(
    shared_pool: SharedPool, function: Callable[[], Any], word: str
) -> None:
    started = shared_pool.pool.stats().workers_started
    error = outcome(shared_pool.pool.submit(function))
    assert isinstance(error, PayloadError)
    assert word in str(error)
    assert "Traceback" in str(error.__cause__) or error.__cause__ is not None
    assert shared_pool.pool.stats().workers_started == started


@pytest.mark.parametrize("fault", ["raises", "calls_sys_exit"])
@pytest.mark.parametrize(
    "task",
    [
        payloads.return_on_unpickling,
        payloads.raise_on_unpickling,
        payloads.raise_on_pickling,
    ],
)
def test_what_pickling_or_unpickling_raises_harms_neither_host_nor_worker(
    shared_pool: SharedPool, task: Callable[..., Any], fault: str
) -> None:
    started = shared_pool.pool.stats().workers_started
    future = shared_pool.pool.submit(task, faults.perform, fault)
    error = outcome(future)
    assert isinstance(error, PayloadError)
    assert future.exception() is error
    shared_pool.pool.wait_warm(BOUND)
    assert shared_pool.pool.stats().workers_started == started


@pytest.mark.parametrize(
    ("task", "args"),
    [
        (payloads.raise_on_pickling, (payloads.abandon,)),
        (payloads.raise_what_abandons_when_printed, ()),
        (payloads.OnPickling, (payloads.abandon,)),
    ],
    ids=["error", "text", "result"],
)
def test_what_is_no_exception_ends_no_worker_that_reports(
    shared_pool: SharedPool, task: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    """A worker's report of an error has to be made whatever that error does."""
    started = shared_pool.pool.stats().workers_started
    error = outcome(shared_pool.pool.submit(task, *args))
    # An abandoned pickling of a result is what the task raised; an error says what it can.
    assert isinstance(error, PayloadError) or str(error) == "no matter what"
    shared_pool.pool.wait_warm(BOUND)
    assert shared_pool.pool.stats().workers_started == started


def test_a_result_whose_unpickling_hangs_holds_nobody_but_who_asks(
    shared_pool: SharedPool,
    gate: Gate,
) -> None:
    pool = shared_pool.pool
    future = pool.submit(payloads.return_on_unpickling, hold, gate, "after a while")
    raising = pool.submit(payloads.raise_on_unpickling, hold, gate)
    done, _ = wait([future, raising], BOUND)
    assert len(done) == 2
    with ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(future.result), threads.submit(raising.exception)]
        assert gate.arrived() == gate.arrived() == os.getpid()
        assert pool.submit(tasks.echo, "meanwhile").result(BOUND) == "meanwhile"
        gate.open(2)
        assert asking[0].result(BOUND) == "after a while"
        # It became None, which is no exception.
        assert isinstance(asking[1].result(BOUND), PayloadError)


def test_what_a_task_raises_is_raised_as_itself_with_the_workers_traceback(
    shared_pool: SharedPool,
) -> None:
    future = shared_pool.pool.submit(faults.raises)
    with pytest.raises(faults.Oops, match="an ordinary mistake") as caught:
        future.result(BOUND)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert 'in raises\n    raise Oops("an ordinary mistake")' in caught.value.__cause__.tb
    assert future.exception() is caught.value


@pytest.mark.parametrize("then", ["return", "return it", "raise", "return what does not pickle"])
def test_a_worker_that_waits_keeps_nothing_of_its_last_task(
    shared_pool: SharedPool, tmp_path: Path, then: str
) -> None:
    """A large argument or result must not sit in every idle worker."""
    argument = payloads.Mortal(tmp_path / "notes")
    future = shared_pool.pool.submit(payloads.take, argument, then)
    wait([future], BOUND)
    pid = future.info.pid
    assert pid is not None
    until(lambda: (pid, "") in tasks.notes(tmp_path / "notes"), "the worker has let go of it")


CONNECTION = """
    import socket, sys
    from multiprocessing import Pipe
    from tests.helpers import tasks
    from warmpool import WarmPool

    if __name__ == "__main__":
        ours, theirs = Pipe()
        near, far = socket.socketpair()
        with WarmPool(1, start_method=sys.argv[1], pickler=sys.argv[2]) as pool:
            futures = [pool.submit(tasks.say, theirs), pool.submit(tasks.say, far)]
            assert ours.poll(20) and ours.recv() == futures[0].result(20) == "connection"
            near.settimeout(20)
            assert near.recv(100).decode() == futures[1].result(20) == "socket"
        print("both", flush=True)
"""


@pytest.mark.parametrize("pickler", ["pickle", "cloudpickle"])
def test_connections_and_sockets_are_arguments_as_for_any_process(
    run_host: Callable[..., Host], start_method: str, pickler: str
) -> None:
    """In a host of its own: multiprocessing serves their descriptors on a thread that stays."""
    host = run_host(CONNECTION, start_method, pickler)
    assert host.line() == "both"
    assert host.wait() == 0
    assert host.stderr == ""
    host.wait_deserted()


# ------------------------------------------------------------------------------- large payloads

LARGE = 200_000_000


@pytest.mark.parametrize("direction", ["arguments", "results"])
def test_200_megabytes_pass_while_others_are_served(
    make_pool: MakePool, gate: Gate, start_method: str, direction: str
) -> None:
    pool = make_pool(2)
    pool.wait_warm(BOUND)
    large: Future[Any]
    if direction == "arguments":
        pid = pool.submit(tasks.own_pid).result(BOUND)
        os.kill(pid, signal.SIGSTOP)
        large = pool.submit(len, bytes(LARGE))
        until(large.running, "the task is handed over")
    else:
        large = pool.submit(tasks.large, LARGE, gate)
        pid = gate.arrived()
        os.kill(pid, signal.SIGSTOP)
    # The other end is not there, perhaps amid a message; the host waits for it, and for others.
    for number in range(50):
        assert pool.submit(tasks.echo, number).result(BOUND) == number
    assert not large.done()
    os.kill(pid, signal.SIGCONT)
    while not large.done():
        assert pool.submit(tasks.echo, "meanwhile").result(BOUND) == "meanwhile"
    result = large.result(BOUND)
    assert (result if direction == "arguments" else len(result)) == LARGE
    assert large.info.pid == pid  # type: ignore[attr-defined]


def test_a_worker_that_dies_while_200_megabytes_go_to_it_is_replaced(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    os.kill(pid, signal.SIGSTOP)
    future = pool.submit(len, bytes(LARGE))
    until(future.running, "the task is handed over")
    os.kill(pid, signal.SIGKILL)
    # It cannot have started what it has not read.
    assert future.result(BOUND) == LARGE
    assert future.info.attempts == 2


def test_to_submit_to_a_bounded_queue_decodes_nothing(make_pool: MakePool) -> None:
    """It looks whether the task was refused; by then it may have its result."""
    pool = make_pool(1, start_method="fork", max_queue=5)
    for _ in range(200):
        future = pool.submit(payloads.return_on_unpickling, tasks.whereabouts)
        assert future._verdict is None
        wait([future], BOUND)


# ------------------------------------------------------------------------------- what to do next


@pytest.mark.parametrize(
    ("pickler", "argument", "advice"),
    [
        ("pickle", lambda: None, "or use pickler='cloudpickle'"),
        ("cloudpickle", (_ for _ in "a generator"), "make it in the task"),
        ("pickle", "a queue", "in the pool's initargs"),
        ("cloudpickle", "a queue", "in the pool's initargs"),
    ],
    ids=["lambda", "generator", "queue", "queue with cloudpickle"],
)
def test_what_cannot_be_pickled_is_told_what_to_do_instead(
    make_pool: MakePool, pickler: str, argument: Any, advice: str
) -> None:
    pool = make_pool(1, start_method="fork", pickler=pickler)
    if argument == "a queue":
        argument = multiprocessing.SimpleQueue()
    error = pool.submit(tasks.echo, argument).exception(BOUND)
    if isinstance(argument, multiprocessing.queues.SimpleQueue):
        argument.close()
    assert isinstance(error, PayloadError)
    assert advice in str(error)
    assert ("use pickler=" in str(error)) is ("pickler=" in advice)


BY_STANDARD_INPUT = """
import math
from warmpool import PayloadError, WarmPool

def own(number):
    return number

if __name__ == "__main__":
    with WarmPool(1, start_method={method!r}) as pool:
        print(list(pool.map(math.sqrt, [1, 4, 9])))
        error = pool.submit(own, 1).exception(20)
        print(type(error).__name__, "put it into a module" in str(error))
"""


@pytest.mark.parametrize("by", ["-", "-c"])
def test_a_program_without_a_file_needs_none(start_method: str, by: str) -> None:
    if start_method == "fork":
        pytest.skip("its workers have all that the program has")
    script = BY_STANDARD_INPUT.format(method=start_method)
    done = subprocess.run(
        [sys.executable, by, *([script] if by == "-c" else [])],
        input=script,
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert done.stdout == "[1.0, 2.0, 3.0]\nPayloadError True\n"
    assert done.stderr == ""
