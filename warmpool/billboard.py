"""The folder in which the pools of a user are published: where it is, and whose it has to be.

Whoever else could write into it could show things that are not so; whoever else could read it would
learn what runs. What is in it is opened by way of a descriptor of the folder, which was looked at:
a name in a temporary directory may be given to something else after the look.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def places() -> list[Path]:
    """Where the pools of this user may be: hosts have not all been started in the same way.

    A login has a folder of its own for such things, and tells of it. What was started by a timer or
    by ``su`` is told nothing, or of somebody else's; and at the last logout the folder goes.
    """
    found = []
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    if _is_own_directory(runtime):
        found.append(Path(runtime) / "warmpool")
    found.append(Path(tempfile.gettempdir()) / f"warmpool-{os.geteuid()}")
    return found


def _is_own_directory(path: str) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    # Not root in another's: a folder of root's in there would keep its owner from publishing.
    return os.path.isabs(path) and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


@contextmanager
def opened(place: Path, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the folder, once it is certain that it is this user's alone.

    Args:
        place: One of :func:`places`.
        make: Whether to make it where there is none.

    Raises:
        FileNotFoundError: It is not there.
        PermissionError: It is no directory, or another user's, or open to others.
        OSError: It cannot be made or opened.
    """
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, 0o700)
    try:
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise _refusal(place) from None
        raise
    try:
        found = os.fstat(folder)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise _refusal(place)
        yield folder
    finally:
        os.close(folder)


def _refusal(place: Path) -> PermissionError:
    return PermissionError(
        f"{place} has to be a directory of this user alone (mode 0700), and is not: remove it"
    )


def write(folder: int, name: str, text: str) -> None:
    """Put a file there, or replace it in one step: a reader finds the old one or the new one.

    Raises:
        OSError: It cannot be written. What was there before is there still.
    """
    draft = f"{name}{DRAFT}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        remove(folder, draft)
        raise


DRAFT = ".new"
"""How the name of a file ends that is being written; one that is there for long was given up."""


LONGEST = 1 << 24
"""Bytes of a file that is read: a thousand workers take a fiftieth of that."""


def read(folder: int, name: str) -> str | None:
    """What is in a file; None if it cannot be read, is no file, or is too long to be of ours."""
    # Not blocking: somebody may have put a named pipe there.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, encoding="ascii", closefd=False) as file:
            text = file.read(LONGEST + 1)
            return text if len(text) <= LONGEST else None
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)


def remove(folder: int, name: str) -> None:
    """Remove a file, if it is there and that can be done."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
