"""Callers in unusual places: many threads, signal handlers, forks of the host, tasks, daemons."""

from __future__ import annotations

import multiprocessing.util
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.helpers import nested, processes, tasks
from tests.helpers.forks import in_fork
from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import PoolClosed, WarmPool, WorkerDied, forkguard

MakePool = Callable[..., WarmPool]
RunHost = Callable[..., Host]

# ------------------------------------------------------------------------------- threads


def test_many_threads_may_submit_at_once(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(2)
    barrier = threading.Barrier(8)

    def submit(thread: int) -> list[int]:
        barrier.wait(BOUND)
        futures = [pool.submit(tasks.echo, 1000 * thread + number) for number in range(100)]
        return [future.result(BOUND) for future in futures]

    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(submit, thread) for thread in range(8)]
        for thread, answer in enumerate(answers):
            assert answer.result(BOUND) == [1000 * thread + number for number in range(100)]
    assert dict(pool.stats().tasks_settled) == {"returned": 800}


def test_many_threads_may_wait_for_one_future(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, start_method="fork")
    future = pool.submit(hold, gate, ["the same object"])
    gate.arrived()
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(future.result, BOUND) for _ in range(8)]
        gate.open()
        first = answers[0].result(BOUND)
        assert all(answer.result(BOUND) is first for answer in answers)


def test_submitting_while_another_thread_closes_either_works_or_says_so(
    make_pool: MakePool, start_method: str
) -> None:
    for _ in range(3 if start_method == "fork" else 1):
        pool = make_pool(2)
        pool.wait_warm(BOUND)
        futures: list[Future[int]] = []

        def submit(pool: WarmPool = pool, futures: list[Future[int]] = futures) -> None:
            with pytest.raises(PoolClosed):  # noqa: PT012
                while True:
                    futures.append(pool.submit(tasks.echo, 1))

        with ThreadPoolExecutor(4) as threads:
            submitting = [threads.submit(submit) for _ in range(4)]
            until(lambda futures=futures: len(futures) > 50, "tasks are submitted")
            pool.close()
            for answer in submitting:
                answer.result(BOUND)
        for future in futures:
            error = outcome(future)
            assert error is None or isinstance(error, PoolClosed)


# ------------------------------------------------------------------------------- signal handlers

HANDLER = """
    import signal, sys
    from concurrent.futures import wait
    from tests.helpers import tasks
    from warmpool import WarmPool

    def main():
        pool = WarmPool(2, start_method=sys.argv[1])
        pool.wait_warm(20)
        handled = []

        def handler(number, frame):
            future = pool.submit(tasks.echo, len(handled))
            handled.append(future.result(20))
            pool.stats()
            if len(handled) < 300:
                signal.setitimer(signal.ITIMER_REAL, 0.0005)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        # The handler interrupts every line of this, also within locks.
        rounds = 0
        while len(handled) < 300:
            futures = [pool.submit(tasks.echo, number) for number in range(20)]
            futures[0].add_done_callback(lambda _: None)
            futures[-1].cancel()
            wait(futures[:10])
            assert [future.result(20) for future in futures[:-1]] == list(range(19))
            rounds += 1
        assert handled == list(range(300))
        print(rounds, flush=True)
        pool.close()

    if __name__ == "__main__":
        main()
"""


def test_a_signal_handler_may_submit_and_wait_whatever_it_interrupts(
    run_host: RunHost, start_method: str
) -> None:
    host = run_host(HANDLER, start_method)
    assert host.numbers() > [0]
    assert host.wait() == 0
    assert host.stderr == ""
    host.wait_deserted()


# ------------------------------------------------------------------------------- forks of the host


def _message_of(function: Callable[..., Any], *args: Any) -> str:
    try:
        return f"returned {function(*args)!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def test_a_forked_copy_of_a_pool_refuses_clearly(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    pool = make_pool(1)
    done = pool.submit(tasks.echo, "before")
    assert done.result(BOUND) == "before"
    running = pool.submit(hold, gate, "after")
    waiting = pool.submit(tasks.echo, "after")
    gate.arrived()

    for attempt in (
        lambda: pool.submit(tasks.own_pid),
        lambda: list(pool.map(tasks.echo, [1, 2])),
        lambda: pool.wait_warm(BOUND),
        running.result,
        waiting.exception,
    ):
        answer = in_fork(_message_of, attempt)
        assert answer.startswith("PoolClosed: ")
        assert "fork" in answer
    for harmless in (pool.close, pool.shutdown, pool.stats, lambda: repr(pool), running.kill):
        assert in_fork(_message_of, harmless).startswith("returned ")
    assert in_fork(_message_of, done.result) == "returned 'before'"

    gate.open()
    assert [running.result(BOUND), waiting.result(BOUND)] == ["after", "after"]
    assert pool.submit(tasks.own_pid).result(BOUND) == running.info.pid


def test_a_forked_copy_of_the_host_may_have_a_pool_of_its_own(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    answer = in_fork(_message_of, nested.run_in_a_pool, start_method)
    assert answer.startswith("returned (")
    assert str(pid) not in answer
    assert pool.submit(tasks.own_pid).result(BOUND) == pid


def test_a_forked_copy_of_the_host_keeps_no_worker_alive(
    make_pool: MakePool, make_gate: Callable[[], Gate], start_method: str
) -> None:
    pool, place = make_pool(1), make_gate()
    pid = pool.submit(tasks.own_pid).result(BOUND)
    with ThreadPoolExecutor(1) as threads:
        copy = threads.submit(in_fork, hold, place)
        place.arrived()
        pool.close()
        processes.wait_gone(pid)
        place.open()
        copy.result(BOUND)


# ------------------------------------------------------------------------------- tasks and daemons


def test_a_task_may_have_a_pool_of_its_own(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(2)
    futures = [pool.submit(nested.run_in_a_pool, start_method) for _ in range(2)]
    for future in as_completed(futures, BOUND):
        outer, inner = future.result()
        assert outer == future.info.pid
        assert inner != outer
        processes.wait_gone(inner)


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"], indirect=True)
def test_a_pool_at_the_top_of_a_module_that_workers_import_opens_when_it_is_used(
    run_host: Callable[..., Host], start_method: str
) -> None:
    """Opened as they import it, it would have workers that import it, and so on without end."""
    host = run_host(
        """
        import os, sys
        os.environ["POOL_AT_TOP"] = sys.argv[1]
        from tests.helpers import pool_at_top as top
        if __name__ == "__main__":
            pool = top.POOL
            for task in (top.is_warm, top.describe, top.use_and_close):
                print(pool.submit(task).result())
            pool.close()
            with top.WarmPool(1, start_method=sys.argv[1]) as other:
                print(other.submit(top.close_unused).result())
        """,
        start_method,
    )
    assert host.line() == "True"
    assert "no workers" in host.line()
    assert host.line() == str([True, start_method])
    assert host.line() == "PoolClosedclosed"
    assert host.wait() == 0
    host.wait_deserted()


def test_a_pool_that_a_task_leaves_open_ends_with_the_worker(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1)
    inner = pool.submit(nested.leave_a_pool_open, start_method).result(BOUND)
    assert processes.is_running(inner)
    pool.close()
    processes.wait_gone(inner)


def test_the_pool_of_a_task_goes_with_a_killed_worker(
    make_pool: MakePool, gate: Gate, start_method: str
) -> None:
    """An inner worker has a group of its own: the end of its control channel tells it."""
    pool = make_pool(1)
    future = pool.submit(nested.hold_in_a_pool, start_method, gate)
    inner = gate.arrived()
    assert future.kill()
    assert isinstance(outcome(future), WorkerDied)
    processes.wait_gone(inner)
    # The killed worker could not remove the socket of a fork server of its own; the folder, which
    # it shares with its host, goes with that.
    for socket in Path(multiprocessing.util.get_temp_dir()).iterdir():
        socket.unlink()


@pytest.mark.parametrize("start_method", ["fork"], indirect=True)
def test_a_daemonic_process_is_refused_a_pool_clearly(start_method: str) -> None:
    context = multiprocessing.get_context("fork")
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=nested.report_a_pool, args=(writing,), daemon=True)
    process.start()
    writing.close()
    answer = reading.recv()
    process.join(BOUND)
    process.close()
    reading.close()
    assert answer.startswith("RuntimeError: ")
    assert "daemon" in answer


def test_a_task_may_use_multiprocessing_itself(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1)
    assert pool.submit(nested.map_in_a_multiprocessing_pool, [1, 2, 3]).result(BOUND) == [1, 2, 3]
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1


# ------------------------------------------------------------------------------- interrupts


def test_an_interrupted_wait_leaves_the_task_alone(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(1, start_method="fork")
    future = pool.submit(hold, gate, "unharmed")
    gate.arrived()
    interrupted = threading.Event()

    def once(_number: int, _frame: Any) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    def interrupt() -> None:
        until(lambda: _main_thread_is_in("result"), "the main thread waits")
        # A signal just before a system call does not end that: the next one does.
        while not interrupted.wait(0.01):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, once)
    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        future.result(BOUND)
    interrupting.join()
    signal.signal(signal.SIGINT, before)
    gate.open()
    assert future.result(BOUND) == "unharmed"
    assert not wait([future], BOUND).not_done


def _main_thread_is_in(function: str) -> bool:
    """Whether the main thread is in a call of that function."""
    main = threading.main_thread().ident
    frame: FrameType | None = sys._current_frames()[main]  # type: ignore[index]
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame is not None


def test_a_fork_of_the_host_waits_for_ends_that_are_being_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would hold ends that nobody has enrolled yet, and keep a worker alive by that."""
    monkeypatch.setattr(forkguard, "FORK_PATIENCE", BOUND)
    entered, forked = threading.Event(), threading.Event()

    def make() -> bool:
        with forkguard.making():
            entered.set()
            return forked.wait(0.5)

    with ThreadPoolExecutor(1) as threads:
        making = threads.submit(make)
        assert entered.wait(BOUND)
        assert in_fork(os.getppid) == os.getpid()
        forked.set()
        assert making.result(BOUND) is False, "it did not wait"


def test_a_fork_of_the_host_waits_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkguard, "FORK_PATIENCE", 0.01)
    entered, forked = threading.Event(), threading.Event()

    def make() -> bool:
        with forkguard.making():
            entered.set()
            return forked.wait(BOUND)

    with ThreadPoolExecutor(1) as threads:
        making = threads.submit(make)
        assert entered.wait(BOUND)
        in_fork(os.getppid)
        forked.set()
        assert making.result(BOUND) is True


@pytest.mark.parametrize(("how", "status"), [("exits with 3", 3), ("raises", 1), ("returns", 0)])
def test_what_a_task_forks_ends_as_any_process_does(
    make_pool: MakePool, start_method: str, how: str, status: int
) -> None:
    assert make_pool(1).submit(tasks.fork_and_come_back, how).result(BOUND) == status
