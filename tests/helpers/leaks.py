"""Finds what a test leaves behind: processes, threads, descriptors, temporary files."""

from __future__ import annotations

import gc
import multiprocessing.heap
import multiprocessing.process
import multiprocessing.util
import os
import re
import resource
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from tests.helpers import processes
from warmpool import lifetime
from warmpool.desk import Desk

GRACE = 2.0
"""Seconds that a test's last processes and threads have to be gone."""

_TAG = resource.RLIMIT_MSGQUEUE
# A soft limit nobody here uses is inherited by every descendant, through fork, exec, setsid and
# the death of its parent alike: whoever has ours is ours.


def prepare() -> None:
    """Mark this process and its descendants, and make what is made once and stays."""
    _, hard = resource.getrlimit(_TAG)
    own = 1 + os.getpid() % (hard - 1 if hard > 1 else sys.maxsize)
    resource.setrlimit(_TAG, (own, hard))
    resource_tracker.ensure_running()
    multiprocessing.util.get_temp_dir()
    multiprocessing.heap.BufferWrapper(1)  # An arena for what is shared, kept when it is free.
    # multiprocessing names its semaphores at random; these can be told from other people's.
    config = multiprocessing.process.current_process()._config  # type: ignore[attr-defined]
    config["semprefix"] = _semaphore_prefix()


def _semaphore_prefix() -> str:
    return f"/warmpool-tests-{os.getpid()}"


def descendants() -> list[int]:
    """The processes that descend from this one, however far they have gone away."""
    own = f"{'Max msgqueue size':25} {resource.getrlimit(_TAG)[0]} ".encode()
    return [pid for pid in processes.all_pids() if pid != os.getpid() and own in _limits(pid)]


def _limits(pid: int) -> bytes:
    # Not by pathlib: this is done for every process of the system, twice for each test.
    try:
        descriptor = os.open(f"/proc/{pid}/limits", os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        return b""
    try:
        return os.read(descriptor, 4096)
    except ProcessLookupError:
        return b""
    finally:
        os.close(descriptor)


def _processes() -> dict[object, str]:
    found: dict[object, str] = {}
    for pid in descendants():
        state = processes.state(pid)
        if state is None or (state == "Z" and processes.parent(pid) != os.getpid()):
            continue  # Ended; its collection is another's duty.
        command = processes.command_line(pid)
        if "multiprocessing.resource_tracker" not in command:
            found[processes.identity(pid)] = f"process {pid} ({state}): {command}"
    return found


def _threads() -> dict[object, str]:
    kept = _announcers_of_living_pools()
    found = (thread for thread in threading.enumerate() if thread not in kept)
    return {thread: f"thread {thread.name!r}" for thread in found}


def _descriptors() -> dict[object, str]:
    # 0 to 2 are pytest's, which redirects them as it captures output.
    kept = _parkers_of_living_pools()
    found = ((fd, to) for fd, to in processes.descriptors(os.getpid()).items() if fd > 2)
    return {(fd, to): f"descriptor {fd}: {to}" for fd, to in found if fd not in kept}


# A pool that several tests share keeps the pipes by which it once woke somebody, and a thread once
# somebody has waited for a future by concurrent.futures' own functions.


def _living_pools() -> list[Desk]:
    return [desk for desk in list(lifetime._running) if not desk.has_ended]


def _parkers_of_living_pools() -> set[int]:
    free = [parker for desk in _living_pools() for parker in list(desk.parkers._free)]
    return {fd for parker in free for fd in (parker._reading, parker._writing)}


def _announcers_of_living_pools() -> set[threading.Thread]:
    announcers = [desk._supervisor._helpers.announcer._runner for desk in _living_pools()]
    return {thread for announcer in announcers for thread in announcer.threads}


def _files(private: Path | None) -> dict[object, str]:
    shared = Path("/dev/shm").glob(f"*{_semaphore_prefix()[1:]}*")
    kept = Path(multiprocessing.util.get_temp_dir()).iterdir()
    own = private.rglob("*") if private is not None else ()
    return {path: f"file {path}" for path in (*shared, *kept, *own)}


@dataclass(frozen=True)
class Snapshot:
    """What there is at one instant, each thing with a line that describes it."""

    private: Path | None = None
    things: dict[object, str] = field(default_factory=dict)

    @classmethod
    def take(cls, private: Path | None = None) -> Snapshot:
        """Look around; ``private`` is a folder of temporary files that should be empty."""
        things = {**_processes(), **_threads(), **_descriptors(), **_files(private)}
        return cls(private, things)

    def leaks(self, *, same_shape: bool = False) -> dict[object, str]:
        """What is there now and was not then, after a grace.

        Args:
            same_shape: Accept that things were replaced by things of their kind.
        """
        give_up_at = time.monotonic() + GRACE
        new = self._new(same_shape)
        while new and time.monotonic() < give_up_at:
            gc.collect()
            time.sleep(0.02)
            new = self._new(same_shape)
        return {thing: _with_stack(thing, line) for thing, line in new.items()}

    def _new(self, same_shape: bool) -> dict[object, str]:
        now = Snapshot.take(self.private).things
        new = {thing: line for thing, line in now.items() if thing not in self.things}
        if not same_shape:
            return new
        more = Counter(map(_kind, now.values())) - Counter(map(_kind, self.things.values()))
        # Each template is one fork ahead, or was about to be in the instant of the first look.
        more["process"] -= sum(map(_is_template, now))
        more = +more
        return {thing: line for thing, line in new.items() if _kind(line) in more}


def _is_template(thing: object) -> bool:
    if not isinstance(thing, processes.Identity) or processes.parent(thing.pid) != os.getpid():
        return False
    return processes.command_line(thing.pid).endswith(" template")


def _kind(line: str) -> str:
    # A worker changes its title with its first heartbeat, and then with its tasks: processes are
    # counted. Of everything else all that is not a digit tells.
    return "process" if line.startswith("process ") else re.sub(r"\d+", "#", line)


def _with_stack(thing: object, line: str) -> str:
    if not isinstance(thing, threading.Thread):
        return line
    frame = sys._current_frames().get(thing.ident or 0)
    stack = "".join(traceback.format_stack(frame)) if frame is not None else "(ended)\n"
    return f"{line}, at:\n{stack}".rstrip()


def _kill_processes(things: Iterable[object]) -> None:
    """End what a test has left, so that the next one does not suffer from it."""
    for identity in things:
        if not isinstance(identity, processes.Identity):
            continue
        processes.kill(identity.pid)
        if processes.parent(identity.pid) == os.getpid():
            processes.wait_gone(identity.pid)


@contextmanager
def nothing_left(private: Path | None = None, *, same_shape: bool = False) -> Iterator[None]:
    """Fail if the block leaves anything behind."""
    before = Snapshot.take(private)
    yield
    if left := before.leaks(same_shape=same_shape):
        _kill_processes(left)
        pytest.fail("left behind:\n" + "\n".join(left.values()), pytrace=False)


@contextmanager
def private_temporary_folder() -> Iterator[Path]:
    """Let temporary files go to a folder of their own."""
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    # Short: the path of a socket of AF_UNIX must not exceed 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="wp-"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before[1]
        if before[0] is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before[0]
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_left_behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Every test leaves the world as it was, or, with a shared pool, in the same shape."""
    tmp_path_factory.getbasetemp()  # Else made by the first who asks, in the private folder.
    same_shape = any(name.endswith(("shared_pool", "_shelf")) for name in request.fixturenames)
    with private_temporary_folder() as folder, nothing_left(folder, same_shape=same_shape):
        yield
