"""One selector, one waker, a few timers. It knows descriptors and callables, nothing of workers.

Some facts about readiness, and what follows:

* epoll goes on reporting a closed descriptor while a forked copy of it is open somewhere: a
  descriptor is forgotten before it is closed (I6).
* A batch of ready descriptors is a snapshot: what the first callback closes may be in it again
  further down. Each is looked up again before its callback is called.
* A wake-up must neither block nor depend on a lock that the woken thread needs (I12): the waker is
  an eventfd (elsewhere a pipe), non-blocking, and a full one is a success, for it is readable.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import selectors
from collections.abc import Callable, Sized

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

Callback = Callable[[int], None]
Ready = list[tuple[selectors.SelectorKey, int]]

_LONGEST_SLEEP = 86_400.0
"""Seconds. epoll refuses more than 24 days; to wake up once a day for nothing does no harm."""


class _Descriptor:
    """A descriptor that is closed with the last reference to it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class Waker:
    """Makes one descriptor readable, from any thread, a signal handler or a finalizer.

    Without a lock (I12): a thread that is interrupted or stopped half way through a wake-up must
    not hold up the one that closes. Who writes holds a reference to the descriptor meanwhile, so
    its number cannot become a stranger's.
    """

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            reading = writing = _Descriptor(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
            self._token = b"\1" * 8  # Any number but 0, in either byte order.
        else:
            reading, writing = map(_Descriptor, os.pipe())
            os.set_blocking(reading.number, False)
            os.set_blocking(writing.number, False)
            self._token = b"\0"
        self._ends: tuple[_Descriptor, _Descriptor] | None = reading, writing

    def fileno(self) -> int:
        assert self._ends is not None
        return self._ends[0].number

    def wake(self) -> None:
        """Make the descriptor readable. *Threads:* any; never blocks."""
        ends = self._ends
        if ends is not None:
            try:
                os.write(ends[1].number, self._token)
            except BlockingIOError:
                pass  # Full, and so readable: the wake-up is as good as delivered.

    def drain(self) -> None:
        """Make it unreadable again."""
        try:
            while len(os.read(self.fileno(), 4096)) == 4096:
                pass
        except BlockingIOError:
            pass  # Somebody's write was coalesced with the last one.

    def close(self) -> None:
        """Let go of it; waking has no effect any more."""
        self._ends = None


def _raw_epoll(selector: selectors.BaseSelector) -> select.epoll | None:
    """The selector's epoll set as such, None if it has none."""
    if not (hasattr(selectors, "EpollSelector") and isinstance(selector, selectors.EpollSelector)):
        return None
    # By a descriptor of its own: an epoll object closes what it is made of.
    return select.epoll.fromfd(os.dup(selector.fileno()))


class Timer:
    """Something that the loop will call; ``cancel()`` unmakes it."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget it. The entry in the heap goes when its time comes."""
        self.callback = None


class Loop:
    """Waits for descriptors, timers and wake-ups. *Threads:* one, but for :meth:`wake`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._waker = Waker()
        self._watched: dict[int, Callback] = {}
        # Invariant: what the selector watches; asked for each ready descriptor, and much faster
        # than the selector's own map.
        self.watch(self._waker.fileno(), READ, self._on_wake)
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._asleep = False
        self._raw = _raw_epoll(self._selector)

    def wake(self) -> None:
        """Make :meth:`wait` return. *Threads:* any; never blocks.

        The caller has first put what it wants seen where the loop's owner looks for it. Writing
        is skipped while the owner is awake: it looks again before it sleeps. No caller changes
        ``_asleep``, so one that is interrupted half way costs nobody else a wake-up.
        """
        if self._asleep:
            self._waker.wake()

    def watch(self, descriptor: int, events: int, callback: Callback) -> None:
        """Call back with the ready events whenever there are any.

        Raises:
            OSError: The system is out of memory or of epoll entries.
        """
        self._selector.register(descriptor, events, callback)
        self._watched[descriptor] = callback

    def rewatch(self, descriptor: int, events: int) -> None:
        """Watch for other events."""
        self._selector.modify(descriptor, events, self._watched[descriptor])

    @property
    def can_mute(self) -> bool:
        """Whether :meth:`mute` can be called."""
        return self._raw is not None

    def mute(self, descriptor: int) -> None:
        """Do not report that a watched descriptor is readable, until :meth:`unmute`.

        Errors, and the other side's end, are reported all the same, but once.
        """
        # Not by the selector, which refuses that, and takes ten times as long. Once: whoever has
        # it muted may be unable to do anything about that end before he unmutes it, and epoll would
        # report it at each call.
        assert self._raw is not None
        self._raw.modify(descriptor, select.EPOLLONESHOT)

    def unmute(self, descriptor: int) -> None:
        """Report again."""
        assert self._raw is not None
        events = self._selector.get_key(descriptor).events
        mask = select.EPOLLIN if events & READ else 0
        self._raw.modify(descriptor, mask | (select.EPOLLOUT if events & WRITE else 0))

    def forget(self, descriptor: int) -> None:
        """Watch it no more, if it is watched; to be called before it is closed (I6)."""
        if self._watched.pop(descriptor, None) is not None:
            self._selector.unregister(descriptor)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back at a time of the monotonic clock."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def next_timer(self) -> float | None:
        """When the earliest timer is due."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def run_timers(self, now: float) -> None:
        """Call those that are due."""
        while self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()

    def wait(self, timeout: float | None, pending: Sized) -> Ready:
        """Sleep until something is ready, and tell what is, for :meth:`call_back`.

        Args:
            timeout: Seconds, None for as long as it takes.
            pending: Looked at once the loop counts as asleep: what is in it was put there by
                somebody who could not know yet that a wake-up was needed.
        """
        self._asleep = True
        try:
            if timeout is not None and timeout > _LONGEST_SLEEP:
                timeout = _LONGEST_SLEEP
            return self._selector.select(0 if pending else timeout)
        finally:
            self._asleep = False

    def call_back(self, ready: Ready) -> None:
        """Call back for what is ready."""
        watched = self._watched
        for key, events in ready:
            callback = watched.get(key.fd)
            if callback is not None and callback is key.data:
                callback(events)

    def close(self) -> None:
        """Close selector and waker; what was watched is its owner's to close."""
        self._close_selector()
        self._waker.close()

    def _close_selector(self) -> None:
        self._selector.close()
        if self._raw is not None:
            self._raw.close()

    def close_after_fork(self) -> None:
        """Close the forked copies. Nothing is unregistered: the epoll set is the parent's."""
        self._close_selector()
        self._waker.close()

    def _on_wake(self, _events: int) -> None:
        self._waker.drain()
