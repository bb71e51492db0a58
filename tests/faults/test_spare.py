"""The spare: a template is one fork ahead, and whatever befalls that fork costs a start at most."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import processes, rude, tasks
from tests.helpers.hosts import Host
from tests.helpers.processes import living_parent
from tests.helpers.replacing import replace
from tests.helpers.waiting import BOUND, until
from warmpool import WarmPool

MakePool = Callable[..., WarmPool]
RunHost = Callable[..., Host]


@pytest.fixture(scope="module")
def start_method() -> str:
    """For ``make_pool``."""
    return "template"


def worker_of(pool: WarmPool) -> int:
    return pool.submit(tasks.own_pid).result(BOUND)


def spare_of(pool: WarmPool) -> int:
    """The fork that is to be the next worker."""
    worker = worker_of(pool)  # The only one.
    template = living_parent(worker)
    (spare,) = until(lambda: set(processes.children(template)) - {worker}, "it is one ahead")
    return spare


def next_worker(pool: WarmPool) -> int:
    """Kill the only worker, and return the next one."""
    return replace(pool, worker_of(pool))


def test_it_is_the_next_worker(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1)
    for _ in range(3):
        spare = spare_of(pool)
        assert next_worker(pool) == spare


def test_it_holds_nothing_of_the_workers(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1)
    spare, worker = spare_of(pool), worker_of(pool)
    # Its own socket: of one, another process holds the other end.
    sockets = {
        pid: {to for to in processes.descriptors(pid).values() if to.startswith(("socket", "anon"))}
        for pid in (spare, worker, os.getpid())
    }
    assert not sockets[spare] & sockets[worker]
    assert not sockets[spare] & sockets[os.getpid()] - {"anon_inode:[pidfd]"}


def test_one_that_was_killed_is_missed_by_nobody(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1)
    spare = spare_of(pool)
    os.kill(spare, signal.SIGKILL)
    processes.wait_gone(spare)  # Collected, too.
    assert next_worker(pool) != spare
    assert pool.stats().workers_started == 2


def test_one_that_is_stopped_is_a_start_that_takes_too_long(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1, init_timeout=2.0)
    spare = spare_of(pool)
    os.kill(spare, signal.SIGSTOP)
    assert next_worker(pool) != spare
    processes.wait_gone(spare)
    assert pool.stats().workers_started == 3


@pytest.mark.parametrize("is_stopped", [False, True])
def test_it_ends_with_the_pool(make_pool: MakePool, start_method: str, is_stopped: bool) -> None:
    pool = make_pool(1)
    spare = spare_of(pool)
    if is_stopped:
        os.kill(spare, signal.SIGSTOP)
    pool.shutdown()
    processes.wait_gone(spare)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_it_ends_with_its_template(
    make_pool: MakePool, start_method: str, is_stopped: bool
) -> None:
    pool = make_pool(1)
    spare = spare_of(pool)
    template = living_parent(spare)
    if is_stopped:
        os.kill(spare, signal.SIGSTOP)
    os.kill(template, signal.SIGKILL)
    processes.wait_gone(template)
    assert living_parent(next_worker(pool)) != template
    processes.wait_gone(spare)


def test_it_ends_when_its_template_is_replaced(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1)
    spare = spare_of(pool)
    pool.reload()
    processes.wait_gone(spare)
    assert spare_of(pool) != spare


HOST = """
    import sys
    from tests.helpers import tasks
    from warmpool import WarmPool

    if __name__ == "__main__":
        pool = WarmPool(1, start_method="template")
        print(pool.submit(tasks.own_pid).result(20), flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("is_stopped", [False, True])
def test_it_ends_with_a_killed_host(run_host: RunHost, is_stopped: bool) -> None:
    host = run_host(HOST)
    worker = int(host.line())
    template = living_parent(worker)
    (spare,) = until(lambda: set(processes.children(template)) - {worker}, "it is one ahead")
    if is_stopped:
        os.kill(spare, signal.SIGSTOP)
    host.kill()
    host.wait_deserted()


def _own_process() -> tuple[str, tuple[int, ...], bytes]:
    own = multiprocessing.current_process()
    return own.name, own._identity, bytes(own.authkey)  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["template", "fork"])
def test_each_worker_is_the_process_that_its_host_has(make_pool: MakePool, method: str) -> None:
    """What all have in common is sent once; again, if the application has changed it."""
    pool = make_pool(1, start_method=method, max_tasks_per_child=1)
    own = multiprocessing.current_process()
    before = bytes(own.authkey)
    seen = [pool.submit(_own_process).result(BOUND) for _ in range(3)]
    try:
        own.authkey = b"another"
        pool.submit(_own_process).result(BOUND)  # Of a worker that was started before.
        seen.append(pool.submit(_own_process).result(BOUND))
    finally:
        own.authkey = before
    names, identities, keys = zip(*seen, strict=True)
    assert len(set(names)) == len(set(identities)) == 4
    assert all(name.rpartition("-")[0] == pool.name for name in names)
    assert keys == (before, before, before, b"another")


def test_two_pools_of_one_host_have_a_spare_each(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    one, other = make_pool(1), make_pool(1)
    assert spare_of(one) != spare_of(other)


# ------------------------------------------------------------------------- what preloads do


@pytest.mark.parametrize("preload", rude.HARMLESS, ids=lambda preload: preload.__name__)
def test_whatever_a_preload_has_left_the_spare_is_the_next_worker(
    make_pool: MakePool, start_method: str, preload: Callable[[], None]
) -> None:
    # Descriptors keep their numbers in an interpreter that is started.
    ours = [os.open(os.devnull, os.O_RDONLY) for _ in range(200)]
    try:
        pool = make_pool(1, preload=preload, init_timeout=10.0)
        template = living_parent(worker_of(pool))
        for _ in range(3):
            spare = spare_of(pool)
            before = len(processes.descriptors(template))
            assert next_worker(pool) == spare
            spare_of(pool)
            until(
                lambda before=before: len(processes.descriptors(template)) <= before,  # type: ignore[misc]
                "nothing of the dead one is kept",
            )
        assert pool.submit(rude.wakeup_descriptor).result(BOUND) == -1
    finally:
        for descriptor in ours:
            os.close(descriptor)


def test_it_writes_no_stack_where_its_template_does(make_pool: MakePool, start_method: str) -> None:
    """If it crashes, it must not speak for its template."""
    pool = make_pool(1)
    spare = spare_of(pool)

    def recorders(pid: int) -> int:
        return sum("warmpool-recorder" in to for to in processes.descriptors(pid).values())

    # One for the fault handler, and the mapping has one of its own.
    assert recorders(living_parent(spare)) == 2
    until(lambda: recorders(spare) == 1, "it has let go of it")


def test_a_hook_that_closes_a_number_of_ours_costs_the_fork_only(
    make_pool: MakePool, start_method: str
) -> None:
    """A fork that fails at its first step must not go on as a second template."""
    pool = make_pool(1, preload=rude.close_a_number_in_every_second_fork, init_timeout=10.0)
    template = living_parent(worker_of(pool))
    for _ in range(3):
        next_worker(pool)
    assert living_parent(worker_of(pool)) == template
    assert all(not processes.children(pid) for pid in processes.children(template))


HEIR = """
    import os, signal, sys
    import psutil
    from tests.helpers import processes, tasks
    from tests.helpers.waiting import until
    from warmpool import WarmPool

    def zombies():
        children = psutil.Process().children()
        return [child for child in children if child.status() == psutil.STATUS_ZOMBIE]

    def main(method, how):
        for _ in range(5):
            with WarmPool(2, start_method=method) as pool:
                pool.wait_warm(20)
                if how == "killed":
                    kill(pool)

    def kill(pool):
        worker = pool.submit(tasks.own_pid).result(20)
        parent = processes.parent(worker)
        os.kill(parent, signal.SIGKILL)
        processes.wait_gone(parent)
        os.kill(worker, signal.SIGKILL)
        until(lambda: pool.stats().workers_started > 2, "another is made")
        pool.wait_warm(20)

    if __name__ == "__main__":
        processes.inherit_orphans()
        main(*sys.argv[1:])
        until(lambda: not zombies(), "there are no zombies")
        print("none", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="subreapers")
@pytest.mark.parametrize("how", ["closed", "killed"])
@pytest.mark.parametrize("method", ["template", "forkserver", "spawn", "fork"])
def test_a_host_that_inherits_orphans_is_left_no_zombies(
    run_host: RunHost, method: str, how: str
) -> None:
    """It is the first process of a container, say: nobody else would collect them."""
    if (method, how) == ("spawn", "killed"):
        pytest.skip("its workers have no parent but the host")
    host = run_host(HEIR, method, how)
    assert host.line() == "none"
    assert host.wait() == 0
