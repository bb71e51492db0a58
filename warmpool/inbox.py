"""What other threads leave for the supervisor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """Taken in by any thread, emptied by one, and after that one's end answered by any.

    No lock: a signal handler or a finalizer may interrupt any line of this and do the same.
    Appending is atomic. Whoever sees that the end was faster answers their own item, unless
    :meth:`end` has; whoever does not see it was seen by that, which looks after having said so.
    Nobody answers another's: a Ctrl-C in between would lose it.

    Args:
        wake: Makes the emptying thread look. Never blocks.
        reject: Answers what comes after the end. *Threads:* any; each item once.
    """

    def __init__(self, wake: Callable[[], None], reject: Callable[[Item], None]) -> None:
        self.items: deque[Item] = deque()
        self.has_ended = False
        # Invariant: once True, nobody takes in what is here.
        self._wake = wake
        self._reject = reject

    def post(self, item: Item) -> None:
        """Leave an item. *Threads:* any; never blocks."""
        self.items.append(item)
        if self.has_ended:
            self._withdraw(item)
        else:
            self._wake()

    def end(self) -> None:
        """Reject what is here, and have what comes from now on rejected. *Threads:* one."""
        self.has_ended = True
        while True:
            try:
                item = self.items.popleft()
            except IndexError:
                return
            self._reject(item)

    def _withdraw(self, item: Item) -> None:
        while True:
            try:
                self.items.remove(item)
            except ValueError:
                return  # The end was faster after all.
            except IndexError:
                continue  # Another thread has withdrawn its own in the middle of this.
            self._reject(item)
            return
