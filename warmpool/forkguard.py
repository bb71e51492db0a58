"""What a fork of the host must not take along (I7).

A forked copy of the host, be it a worker under ``fork`` or a child that the application forked,
holds copies of all the supervisor's ends. With those a worker would not notice the death of its
host while any sibling lives. So every object that owns such an end is enrolled here, and a hook
closes the copies in each forked child.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Guarded(Protocol):
    """Owns descriptors, or threads, that a forked copy must not use."""

    def close_after_fork(self) -> None:
        """In the forked child: let go of them. Other threads' locks may be held for ever."""


class _Making:
    """Held while an end is made and enrolled, and while a worker is forked.

    Without it a worker of one pool could be forked between the making of another pool's end and
    its enrolment.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()


_making = _Making()
_enrolled: weakref.WeakSet[Guarded] = weakref.WeakSet()


def making() -> threading.Lock:
    """The lock to hold while making and enrolling ends, and while forking a worker."""
    return _making.lock


def enroll(guarded: Guarded) -> None:
    """Let go of it in every fork of this process."""
    _enrolled.add(guarded)


def _after_fork_in_child() -> None:
    _making.lock = threading.Lock()
    for guarded in list(_enrolled):
        guarded.close_after_fork()
    _enrolled.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
