"""The template: it preloads once, and whatever befalls it costs starts, never workers or tasks."""

from __future__ import annotations

import errno
import functools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Reports
from tests.helpers import faults, policies, preloads, processes, tasks
from tests.helpers.gate import Gate, hold
from tests.helpers.hosts import Host
from tests.helpers.processes import living_parent
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import (
    Health,
    InitializerFailed,
    PoolClosed,
    RemoteTraceback,
    TemplateFailed,
    WarmPool,
    WorkerDied,
)
from warmpool import template as template_module
from warmpool.template import TemplateProcess

MakePool = Callable[..., WarmPool]
RunHost = Callable[..., Host]

PRELOADED = ["tests.helpers.preloaded"]


@pytest.fixture(scope="module")
def start_method() -> str:
    """For ``make_pool`` and ``following``."""
    return "template"


@pytest.fixture
def brief_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that does not answer is found soon."""
    monkeypatch.setattr("warmpool.template.ANSWER_PATIENCE", 0.4)


def templates() -> list[int]:
    return [
        pid for pid in processes.children(os.getpid()) if " template" in processes.command_line(pid)
    ]


# ------------------------------------------------------------------------- what it is for


def test_it_preloads_once_and_workers_have_it_by_copy(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    attempts = tmp_path / "attempts"
    preload = functools.partial(preloads.note_pid, attempts)
    pool = make_pool(2, preload=preload, max_tasks_per_child=1)
    told = [pool.submit(preloads.who).result(BOUND) for _ in range(5)]
    (template,) = {pid for pid, _, _ in told}
    assert {main for _, main, _ in told} == {True}
    workers = {worker for _, _, worker in told}
    assert len(workers) == 5
    assert template not in {os.getpid(), *workers}
    assert attempts.read_text() == f"{template}\n"


def test_it_is_no_copy_of_the_host(make_pool: MakePool, start_method: str) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    running = threading.Event()
    thread = threading.Thread(target=running.wait)
    thread.start()
    pool = make_pool(1)
    template = living_parent(pool.submit(tasks.own_pid).result(BOUND))
    held = set(processes.descriptors(template).values())
    ours = os.readlink(f"/proc/self/fd/{writing}")
    running.set()
    thread.join()
    os.close(reading)
    os.close(writing)
    assert ours not in held
    assert len(os.listdir(f"/proc/{template}/task")) == 1


def test_modules_are_imported(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1, preload=["colorsys", "tests.helpers.preloads"])
    assert pool.submit(tasks.is_imported, "colorsys").result(BOUND)


def test_two_pools_have_two_templates(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_text(name)
    pools = [
        make_pool(1, preload=functools.partial(preloads.read, tmp_path / name))
        for name in ("one", "other")
    ]
    told = [pool.submit(preloads.text).result(BOUND) for pool in pools]
    assert [text for text, _ in told] == ["one", "other"]
    assert len({living_parent(worker) for _, worker in told}) == 2


def test_what_the_preload_prints_comes_out_once(run_host: RunHost) -> None:
    host = run_host("""
        from tests.helpers import preloads, tasks
        from warmpool import WarmPool

        if __name__ == "__main__":
            with WarmPool(3, start_method="template", preload=preloads.print_a_line) as pool:
                pool.wait_warm(20)
            print("end", flush=True)
    """)
    assert [host.line(), host.line()] == ["preloaded once", "end"]
    assert host.wait() == 0
    host.wait_deserted()


def test_random_numbers_and_hooks_are_each_workers_own(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(3, preload=preloads.seed_everything, max_tasks_per_child=1)
    drawn = [pool.submit(preloads.draw).result(BOUND) for _ in range(3)]
    assert len({number for number, *_ in drawn}) == 3
    for _, reseeded, hooked, pid in drawn:
        assert reseeded == hooked == pid


def test_hooks_at_exit_run_where_they_were_set_and_nowhere_else(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    """Else the first worker to leave would delete what the others share."""
    notes, own = tmp_path / "notes", tmp_path / "own"
    preload = functools.partial(preloads.register_hooks, notes)
    pool = make_pool(2, preload=preload, max_tasks_per_child=1)
    pids = [pool.submit(tasks.own_pid).result(BOUND) for _ in range(3)]
    pids.append(pool.submit(preloads.register_own_hook, own).result(BOUND))
    for pid in pids:
        processes.wait_gone(pid)
    assert own.read_text() == "own"
    assert not notes.exists()


@pytest.mark.parametrize("way", [preloads.fork_and_come_back, preloads.fork_and_exit])
def test_a_fork_of_the_preload_that_comes_back_ends(
    make_pool: MakePool, start_method: str, tmp_path: Path, way: Callable[[Path], None]
) -> None:
    statuses = tmp_path / "statuses"
    pool = make_pool(2, preload=functools.partial(way, statuses))
    pool.wait_warm(BOUND)
    assert list(pool.map(abs, range(20))) == list(range(20))
    assert not statuses.exists() or statuses.read_text() == "0"
    assert pool.stats().workers_failed == 0


def test_a_long_preload_goes_through_the_link(make_pool: MakePool, start_method: str) -> None:
    """Not through a pipe that an interpreter has to read before anybody looks after it."""
    pool = make_pool(1, preload=functools.partial(preloads.keep, b"x" * (5 << 20)))
    assert pool.submit(preloads.size).result(BOUND) == 5 << 20


# ------------------------------------------------------------------------- it fails to preload


def test_a_long_error_is_told_in_short(make_pool: MakePool, start_method: str) -> None:
    with policies.use(policies.STRICT):
        pool = make_pool(1, preload=preloads.raise_a_lot)
    with pytest.raises(InitializerFailed, match="ValueError, too long to be told"):
        pool.wait_warm(BOUND)


@pytest.mark.parametrize(
    "name", faults.names(faults.End.RAISES, faults.End.DIES, faults.End.BREAKS)
)
def test_a_preload_that_fails_is_one_failed_start(
    following: MakePool, start_method: str, orders: faults.Orders, reports: Reports, name: str
) -> None:
    fault = faults.FAULTS[name]
    orders.give("preloading", name)
    with policies.use(policies.PATIENT):
        pool = following(1, preload=PRELOADED)
    error, line = reports.next()
    assert isinstance(error, InitializerFailed)
    cause = error.__cause__
    assert isinstance(cause, TemplateFailed)
    template = orders.taken_by("preloading")
    assert (cause.pid, cause.stage, error.stage) == (template, "preloading", "preloading")
    assert str(cause) in line
    assert template is not None
    if fault.end is faults.End.RAISES:
        assert isinstance(cause.__cause__, RemoteTraceback)
        assert name in str(cause.__cause__)
        assert "preload raised" in str(cause)
    elif fault.end is faults.End.DIES and "above the limit" not in str(cause):
        assert cause.exitcode == fault.exitcode
    processes.wait_gone(template)
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1
    assert pool.health is Health.READY


@pytest.mark.parametrize("name", ["hangs_asleep", "hangs_with_the_gil", "is_stopped"])
def test_a_preload_that_hangs_is_ended_with_its_stack(
    following: MakePool, start_method: str, orders: faults.Orders, reports: Reports, name: str
) -> None:
    orders.give("preloading", name)
    with policies.use(policies.PATIENT):
        pool = following(1, preload=PRELOADED, init_timeout=2)
    error, _ = reports.next()
    cause = error.__cause__
    assert isinstance(error, InitializerFailed)
    assert isinstance(cause, TemplateFailed)
    assert "was not ready within 1.8 s, it was preloading, in " in str(cause)
    for each in (cause, error):
        assert each.stack is not None
        assert "preloaded.py" in each.stack
    template = orders.taken_by("preloading")
    assert template is not None
    processes.wait_gone(template)
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1


def test_one_attempt_fails_all_the_starts_that_wait_for_it(
    make_pool: MakePool, start_method: str, tmp_path: Path, reports: Reports
) -> None:
    attempts, missing = tmp_path / "attempts", tmp_path / "missing"
    preload = functools.partial(_note_and_read, attempts, missing)
    with policies.use(policies.PATIENT):
        pool = make_pool(4, preload=preload)
    causes = {str(reports.next()[0].__cause__) for _ in range(4)}
    assert len(causes) == 1
    missing.write_text("found")
    assert pool.submit(preloads.text).result(BOUND)[0] == "found"
    pool.wait_warm(BOUND)
    assert len(attempts.read_text().splitlines()) < pool.stats().workers_failed


def _note_and_read(attempts: Path, missing: Path) -> None:
    preloads.note_pid(attempts)
    preloads.read(missing)


def test_a_preload_that_always_fails_breaks_the_pool_with_its_cause(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    with policies.use(policies.STRICT):
        pool = make_pool(1, preload=functools.partial(preloads.read, tmp_path / "missing"))
    with pytest.raises(InitializerFailed, match="FileNotFoundError") as caught:
        pool.wait_warm(BOUND)
    assert isinstance(caught.value.__cause__, TemplateFailed)
    assert pool.health is Health.BROKEN


def test_close_ends_while_the_preload_hangs(
    make_pool: MakePool, start_method: str, gate: Gate
) -> None:
    pool = make_pool(2, preload=functools.partial(preloads.announce_and_wait, gate), grace=0.2)
    template = gate.arrived()
    pool.close()
    processes.wait_gone(template)


# ------------------------------------------------------------------------- it leaves threads


def test_a_preload_that_leaves_threads_is_told_of_and_run_in_each_worker(
    make_pool: MakePool, start_method: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = tmp_path / "attempts"
    with caplog.at_level(logging.WARNING, "warmpool"):
        pool = make_pool(2, preload=functools.partial(preloads.leave_a_thread, attempts))
        pool.wait_warm(BOUND)
        told = [pool.submit(preloads.who).result(BOUND) for _ in range(2)]
    for preloaded_by, main, worker in told:
        assert (preloaded_by, main) == (worker, True)
    lines = [line for line in caplog.text.splitlines() if "'a poller'" in line]
    assert len(lines) == 1
    assert "must not fork" in lines[0]
    assert "started by 'forkserver' instead" in lines[0]
    # One attempt of the template, and one of each worker.
    assert len(attempts.read_text().splitlines()) == 3
    until(lambda: not templates(), "it is gone")


def test_threads_that_a_hook_of_forks_ends_do_no_harm(
    make_pool: MakePool, start_method: str
) -> None:
    pool = make_pool(1, preload=preloads.leave_a_thread_that_ends_for_forks)
    worker = pool.submit(tasks.own_pid).result(BOUND)
    assert [living_parent(worker)] == templates()
    # And is there for the next one.
    os.kill(worker, signal.SIGKILL)
    processes.wait_gone(worker)
    assert [living_parent(pool.submit(tasks.own_pid).result(BOUND))] == templates()


def test_threads_that_stay_for_forks_are_found_though_python_does_not_know_them(
    make_pool: MakePool, start_method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "warmpool"):
        pool = make_pool(1, preload=preloads.leave_a_thread_unknown_to_python)
        pool.submit(tasks.own_pid).result(BOUND)
    assert "(native)" in caplog.text
    until(lambda: not templates(), "it is gone")


def test_threads_of_the_main_module_cost_a_template_and_no_warning(run_host: RunHost) -> None:
    host = run_host(
        """
        import logging, threading
        from tests.helpers import tasks
        from warmpool import WarmPool

        threading.Thread(target=threading.Event().wait, name="a poller", daemon=True).start()

        if __name__ == "__main__":
            logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
            with WarmPool(1) as pool:
                print(pool.start_method, pool.submit(int, "42").result(30))
        """
    )
    assert host.line() == "template 42"
    assert host.wait() == 0
    (line,) = host.stderr.splitlines()
    assert line.startswith("INFO ")
    assert "the main module has left threads running ('a poller')" in line
    assert line.endswith("; workers are started by 'forkserver' instead")


# ------------------------------------------------------------------------- it dies or hangs later


def test_workers_and_tasks_outlive_their_template(
    make_pool: MakePool, start_method: str, make_gate: Callable[[], Gate]
) -> None:
    pool, gate, other = make_pool(2), make_gate(), make_gate()
    pool.wait_warm(BOUND)
    running = pool.submit(hold, gate, "unharmed")
    busy = gate.arrived()
    second = pool.submit(hold, other)
    dying = other.arrived()
    template = living_parent(busy)
    os.kill(template, signal.SIGKILL)
    processes.wait_gone(template)
    # Deaths of its workers are seen without it, if not always what they died of.
    os.kill(dying, signal.SIGKILL)
    error = outcome(second)
    assert isinstance(error, WorkerDied)
    assert error.exitcode in (None, -signal.SIGKILL)
    # The next worker has another template.
    third = pool.submit(tasks.own_pid).result(BOUND)
    assert living_parent(third) not in (template, 1)
    gate.open()
    assert running.result(BOUND) == "unharmed"
    assert running.info.pid == busy
    pool.wait_warm(BOUND)


def test_a_template_that_dies_is_replaced_before_it_is_needed(
    make_pool: MakePool,
    start_method: str,
    tmp_path: Path,
    reports: Reports,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("warmpool.template.OLD_ENOUGH", 0.0)
    attempts = tmp_path / "attempts"
    pool = make_pool(1, preload=functools.partial(preloads.note_pid, attempts))
    pool.wait_warm(BOUND)
    (template,) = templates()
    os.kill(template, signal.SIGKILL)
    error, line = reports.next()
    assert isinstance(error, TemplateFailed)
    assert (error.pid, error.signal, error.stage) == (template, signal.SIGKILL, "ready")
    assert "its workers live on" in line
    until(lambda: len(attempts.read_text().splitlines()) == 2, "another preloads")
    assert pool.stats().workers_started == 1


def test_close_ends_one_that_takes_a_dead_ones_place(
    make_pool: MakePool,
    start_method: str,
    tmp_path: Path,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No start waits for it, which could be broken off."""
    monkeypatch.setattr("warmpool.template.OLD_ENOUGH", 0.0)
    preload = functools.partial(preloads.hold_the_second_time, tmp_path / "attempts", gate)
    pool = make_pool(1, preload=preload)
    pool.wait_warm(BOUND)
    (template,) = templates()
    os.kill(template, signal.SIGKILL)
    second = gate.arrived()
    assert second != template
    pool.close()
    processes.wait_gone(second)


def test_a_replacement_that_fails_is_told_of(
    make_pool: MakePool,
    start_method: str,
    tmp_path: Path,
    reports: Reports,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("warmpool.template.OLD_ENOUGH", 0.0)
    model = tmp_path / "model"
    model.write_text("here")
    pool = make_pool(1, preload=functools.partial(preloads.read, model))
    pool.wait_warm(BOUND)
    model.unlink()
    (template,) = templates()
    os.kill(template, signal.SIGKILL)
    assert "is to be replaced" in reports.next()[1]
    error, line = reports.next()
    assert isinstance(error, TemplateFailed)
    assert "FileNotFoundError" in line
    assert "the next start tries again" in line


def test_a_replacement_that_cannot_be_made_for_now_costs_no_later_start(
    make_pool: MakePool, start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the thread that starts workers would be gone."""
    monkeypatch.setattr("warmpool.template.OLD_ENOUGH", 0.0)
    real, refused = template_module.make_process, threading.Event()

    def refuse(*args: Any, **options: Any) -> Any:
        if refused.is_set():
            return real(*args, **options)
        refused.set()
        raise OSError(errno.EMFILE, "Too many open files")

    pool = make_pool(1)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    monkeypatch.setattr("warmpool.template.make_process", refuse)
    os.kill(living_parent(pid), signal.SIGKILL)
    assert refused.wait(BOUND)
    os.kill(pid, signal.SIGKILL)
    processes.wait_gone(pid)
    assert pool.submit(tasks.own_pid).result(BOUND) != pid


@pytest.mark.usefixtures("brief_answers")
def test_a_stopped_template_is_replaced_and_its_workers_go_on(
    make_pool: MakePool, start_method: str, gate: Gate, reports: Reports
) -> None:
    with policies.use(policies.PATIENT):
        pool = make_pool(2)
    pool.wait_warm(BOUND)
    running = pool.submit(hold, gate, "unharmed")
    busy = gate.arrived()
    idle = pool.submit(tasks.own_pid).result(BOUND)
    template = living_parent(busy)
    os.kill(template, signal.SIGSTOP)
    os.kill(idle, signal.SIGKILL)
    assert pool.submit(tasks.own_pid).result(BOUND) not in (idle, busy)
    causes = [error.__cause__ for error in _reported(reports)]
    (cause,) = [cause for cause in causes if isinstance(cause, TemplateFailed)]
    assert "has not forked a worker within 0.4 s" in str(cause)
    assert not processes.is_running(template)
    gate.open()
    assert running.result(BOUND) == "unharmed"


@pytest.mark.usefixtures("brief_answers")
def test_a_template_that_was_killed_for_its_hang_is_asked_no_more(
    make_pool: MakePool,
    start_method: str,
    monkeypatch: pytest.MonkeyPatch,
    reports: Reports,
) -> None:
    """Its death may be seen later than the next start: that would fail with a mere EOFError."""
    looks = []
    really_is = TemplateProcess.is_dead.fget
    assert really_is is not None

    def is_dead(process: TemplateProcess) -> bool:
        # The look that its death causes, and that of the next start.
        if not process._told or len(looks) == 2:
            return really_is(process)
        looks.append(process)
        processes.wait_gone(template)
        return False

    with policies.use(policies.PATIENT):
        pool = make_pool(1)
    pid = pool.submit(tasks.own_pid).result(BOUND)
    template = living_parent(pid)
    monkeypatch.setattr(TemplateProcess, "is_dead", property(is_dead))
    os.kill(template, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    assert pool.submit(tasks.own_pid).result(BOUND) != pid
    causes = [error.__cause__ for error in _reported(reports) if error.__cause__ is not None]
    assert [type(cause) for cause in causes] == [TemplateFailed]


def _reported(reports: Reports) -> Iterator[BaseException]:
    while reports.count():
        yield reports.next()[0]


@pytest.mark.usefixtures("brief_answers")
def test_a_template_that_hangs_as_it_forks_is_replaced_with_its_stack(
    make_pool: MakePool, start_method: str, gate: Gate, reports: Reports
) -> None:
    preload = functools.partial(preloads.announce_and_fork_no_more, gate)
    with policies.use(policies.PATIENT):
        pool = make_pool(1, preload=preload)
    template = gate.arrived()
    cause = reports.next()[0].__cause__
    assert isinstance(cause, TemplateFailed)
    assert cause.pid == template
    assert cause.stack is not None
    assert "in hang" in cause.stack
    processes.wait_gone(template)
    pool.close()


def test_a_template_that_dies_as_it_forks_is_one_failed_start(
    make_pool: MakePool, start_method: str, gate: Gate, reports: Reports
) -> None:
    preload = functools.partial(preloads.announce_and_fork_no_more, gate)
    with policies.use(policies.PATIENT):
        pool = make_pool(1, preload=preload)
    template = gate.arrived()
    os.kill(template, signal.SIGKILL)
    cause = reports.next()[0].__cause__
    assert isinstance(cause, TemplateFailed)
    assert (cause.pid, cause.signal) == (template, signal.SIGKILL)
    # And the next one serves, once its fork may pass.
    gate.arrived()
    gate.open()
    assert pool.submit(tasks.echo, 1).result(BOUND) == 1


def test_close_ends_with_a_stopped_template(
    make_pool: MakePool, start_method: str, gate: Gate
) -> None:
    pool = make_pool(2, grace=0.3)
    pool.wait_warm(BOUND)
    running = pool.submit(hold, gate)
    template = living_parent(gate.arrived())
    os.kill(template, signal.SIGSTOP)
    pool.close()
    assert running.done()
    assert pool.stats().workers == {}
    assert not processes.is_running(template)


HOST = """
    import functools, os, sys
    from pathlib import Path

    from tests.helpers import preloads, tasks
    from tests.helpers.gate import Gate
    from warmpool import WarmPool

    if __name__ == "__main__":
        preload = functools.partial(preloads.announce_and_wait, Gate.at(Path(sys.argv[1])))
        pool = WarmPool(2, start_method="template", preload=preload)
        pool.wait_warm(20)
        print(*[pool.submit(tasks.own_pid).result(20) for _ in range(2)], flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("stage", ["preloading", "ready", "stopped"])
def test_a_killed_host_takes_its_template_along(run_host: RunHost, gate: Gate, stage: str) -> None:
    host = run_host(HOST, gate.path)
    template = gate.arrived()
    if stage != "preloading":
        gate.open()
        host.line()
    if stage == "stopped":
        os.kill(template, signal.SIGSTOP)
    os.kill(host.pid, signal.SIGKILL)
    processes.wait_gone(template)
    host.wait()
    host.wait_deserted()


# ------------------------------------------------------------------------- reload


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_text("old")
    return path


def test_reload_replaces_each_worker_when_it_is_idle(
    make_pool: MakePool, start_method: str, model: Path, gate: Gate
) -> None:
    pool = make_pool(2, preload=functools.partial(preloads.read, model))
    pool.wait_warm(BOUND)
    running = pool.submit(hold, gate, "unharmed")
    old_template = living_parent(gate.arrived())
    model.write_text("new")
    pool.reload()
    # One is busy, and stays so; the other is replaced.
    until(lambda: pool.submit(preloads.text).result(BOUND)[0] == "new", "the new model serves")
    assert not running.done()
    assert processes.is_running(old_template)
    gate.open()
    assert running.result(BOUND) == "unharmed"
    until(lambda: pool.stats().worker_exits == {"reloaded": 2}, "both are replaced")
    processes.wait_gone(old_template)
    pool.wait_warm(BOUND)
    told = [pool.submit(preloads.text).result(BOUND)[0] for _ in range(4)]
    assert told == ["new"] * 4


def test_reload_may_be_what_mends_a_broken_pool(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    with policies.use(policies.STRICT):
        pool = make_pool(1, preload=functools.partial(preloads.read, model))
    until(lambda: pool.health is Health.BROKEN, "it cannot preload")
    with pytest.raises(TemplateFailed):
        pool.reload()
    model.write_text("mended")
    pool.reload()
    until(lambda: pool.health is Health.READY, "it is well")
    assert pool.submit(preloads.text).result(BOUND)[0] == "mended"


def test_reload_that_fails_leaves_all_as_it_was(
    make_pool: MakePool, start_method: str, model: Path
) -> None:
    pool = make_pool(1, preload=functools.partial(preloads.read, model))
    told = pool.submit(preloads.text).result(BOUND)
    model.unlink()
    with pytest.raises(TemplateFailed, match="FileNotFoundError"):
        pool.reload()
    assert pool.submit(preloads.text).result(BOUND) == told
    # New workers are the old template's too.
    os.kill(told[1], signal.SIGKILL)
    processes.wait_gone(told[1])
    assert pool.submit(preloads.text).result(BOUND)[0] == "old"
    assert pool.stats().workers_failed == 0


def test_workers_that_warm_up_during_a_reload_are_replaced_too(
    following: MakePool, start_method: str, orders: faults.Orders, model: Path
) -> None:
    pool = following(1, preload=functools.partial(preloads.read, model), init_timeout=60)
    pool.wait_warm(BOUND)
    (template,) = templates()
    orders.give("initializing", "hangs_asleep")
    os.kill(pool.submit(tasks.own_pid).result(BOUND), signal.SIGKILL)
    hanging = until(lambda: orders.taken_by("initializing"), "one initializes")
    model.write_text("new")
    pool.reload()
    os.kill(hanging, signal.SIGKILL)
    assert pool.submit(preloads.text).result(BOUND)[0] == "new"
    processes.wait_gone(template)


def test_close_during_a_reload_ends_both(
    make_pool: MakePool, start_method: str, tmp_path: Path, gate: Gate
) -> None:
    preload = functools.partial(preloads.hold_the_second_time, tmp_path / "attempts", gate)
    pool = make_pool(1, preload=preload)
    pool.wait_warm(BOUND)
    raised: list[BaseException] = []

    def reload() -> None:
        try:
            pool.reload()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=reload)
    thread.start()
    template = gate.arrived()
    pool.close()
    thread.join(BOUND)
    assert [type(error) for error in raised] == [PoolClosed]
    processes.wait_gone(template)


def test_reload_needs_a_template_and_an_open_pool(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="start_method='template'"):
        make_pool(1, start_method="fork").reload()
    pool = make_pool(1)
    pool.close()
    with pytest.raises(PoolClosed):
        pool.reload()
    threaded = make_pool(1, preload=functools.partial(preloads.leave_a_thread, tmp_path / "a"))
    threaded.wait_warm(BOUND)
    with pytest.raises(RuntimeError, match="leaves threads"):
        threaded.reload()
