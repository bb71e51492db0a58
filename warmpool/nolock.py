"""In place of the lock of a future that was settled before anybody asked for one."""

from __future__ import annotations

from contextlib import AbstractContextManager


class NoLock(AbstractContextManager["NoLock"]):
    """What ``concurrent.futures.wait()`` and its like may take without anybody's waiting for it."""

    def acquire(self) -> bool:
        """Have it."""
        return True

    def release(self) -> None:
        """Give it back."""

    def __exit__(self, *_: object) -> None:
        self.release()


NO_LOCK = NoLock()
