"""What other threads leave for the supervisor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """Taken in by any thread, emptied by one, and after that one's end answered by any.

    No lock: a signal handler or a finalizer may interrupt any line of this and do the same.
    Appending is atomic. Whoever sees that the end was faster answers the item themselves; whoever
    does not was seen by :meth:`end`, which looks once more after having said so.

    Args:
        wake: Makes the emptying thread look. Never blocks.
        reject: Answers what comes after the end. *Threads:* any; each item once.
    """

    def __init__(self, wake: Callable[[], None], reject: Callable[[Item], None]) -> None:
        self.items: deque[Item] = deque()
        self.has_ended = False
        # Invariant: once True, nobody empties this but _reject_all().
        self._wake = wake
        self._reject = reject

    def post(self, item: Item) -> None:
        """Leave an item. *Threads:* any; never blocks."""
        self.items.append(item)
        if self.has_ended:
            self._reject_all()
        else:
            self._wake()

    def end(self) -> None:
        """Reject what is here, and what comes from now on."""
        self.has_ended = True
        self._reject_all()

    def _reject_all(self) -> None:
        while True:
            try:
                item = self.items.popleft()
            except IndexError:
                return
            self._reject(item)
