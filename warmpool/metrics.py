"""The figures of pools for Prometheus. Needs the extra ``metrics``.

>>> from prometheus_client import start_http_server
>>> from warmpool import WarmPool, metrics
>>> with WarmPool(4, name="thumbnails") as pool:           # doctest: +SKIP
...     metrics.register(pool)
...     start_http_server(9100)

A pool's series have its name in the label ``pool``:

* Several pools of one name are one in the metrics: their figures are added up. So there is no
  series twice, and a pool that replaces another goes on with its counts. (Begins anew, if a scrape
  has come between the two: Prometheus knows that from programs that were started again.)
* A forgotten pool gives figures until it has ended. One that has ended gives its last ones, without
  workers and with health ``closed``, as long as somebody holds it; then they are kept in the sums
  of its name. The series of a name end with the last pool that has it.
* A name of which a pool does not answer in time is left out of that scrape: no figures rather than
  old ones, or than counters that go down.
* A fork of the process has no figures of the pools that it did not make itself.

Under ``prometheus_client``'s multiprocess mode there are none: it knows no collectors but its own.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping

from warmpool import config, families
from warmpool.families import REGISTRY, CollectorRegistry, Figures, Metric
from warmpool.pool import WarmPool

__all__ = ["PoolCollector", "register"]

DEFAULT_TIMEOUT = 1.0
"""Seconds. A supervisor answers within a millisecond; Prometheus gives a scrape ten seconds."""


class _Member:
    """A pool of a collector's. Does not keep it from being forgotten."""

    def __init__(self, pool: WarmPool) -> None:
        self.name = pool.name
        self.desk = pool._desk  # It outlives a forgotten pool, until all of its tasks have ended.
        self._max_workers = pool.max_workers
        self._pool = weakref.ref(pool)

    @property
    def is_gone(self) -> bool:
        """Whether nobody holds the pool, and its figures are its last."""
        return self._pool() is None and self.desk.has_ended

    def figures(self, timeout: float) -> Figures:
        """What it has counted.

        Raises:
            TimeoutError: It does not answer in time, in seconds.
        """
        desk = self.desk
        max_workers = 0 if desk.has_ended else self._max_workers
        census = desk.census(timeout)
        # Of the desk: after a collapse, the core's is what it was before.
        return families.read(families.Reading(census, desk.health, max_workers))


class PoolCollector:
    """A custom collector of ``prometheus_client`` over any number of pools.

    A registry can have one: two would give each family twice, so the second is refused. Other pools
    are added to the first, by :meth:`add` or :func:`register`. A pool may be in collectors of
    several registries. Pools are held by weak reference.

    Args:
        pools: The pools.
        timeout: Seconds that each pool has to answer in a scrape.

    Raises:
        TypeError: Something is no pool, or the timeout no number.
        ValueError: The timeout is not positive.
    """

    def __init__(self, *pools: WarmPool, timeout: float = DEFAULT_TIMEOUT) -> None:
        config.check_duration("timeout", timeout)
        self._timeout = timeout
        self._state: tuple[tuple[_Member, ...], Mapping[str, Figures]] = ((), {})
        # Members, and by name what those have counted that are gone. One value, which is replaced
        # and never changed: a scrape that saw a pool in both, or in neither, would miscount.
        _all_collectors.add(self)
        self.add(*pools)

    def add(self, *pools: WarmPool) -> None:
        """Collect from these as well. One that is there already is not added again.

        Raises:
            TypeError: Something is no pool.

        *Threads:* any, but no signal handler; does not block.
        """
        for pool in pools:
            if not isinstance(pool, WarmPool):
                raise TypeError(f"pools must be WarmPools, not {pool!r}")
        with _lock:
            members, past = self._state
            known = {member.desk for member in members}
            # Another process's pool has nobody here who could count.
            new = [p for p in dict.fromkeys(pools) if not (p._desk in known or p._desk.is_foreign)]
            self._state = (*members, *map(_Member, new)), past
            # Here too: nobody may ever scrape. Last: the new ones may have the names of the gone.
            self._let_go()

    def describe(self) -> list[Metric]:
        """The families without samples: a registry asks for their names, and need ask no pool.

        *Threads:* any; does not block.
        """
        return [family.metric({}) for family in families.FAMILIES]

    def collect(self) -> Iterator[Metric]:
        """All families, of all pools. What a scrape calls.

        *Threads:* any; blocks for a moment, and for each pool no longer than the timeout.
        """
        with _lock:
            self._let_go()
            members, past = self._state
        by_pool = dict(past)
        silent = set()
        for member in members:
            try:
                figures = member.figures(self._timeout)
            except TimeoutError:
                silent.add(member.name)
            else:
                by_pool[member.name] = families.add_up(by_pool.get(member.name, {}), figures)
        for name in silent:
            by_pool.pop(name, None)
        for family in families.FAMILIES:
            yield family.metric(by_pool)

    def _let_go(self) -> None:
        """Keep of those that are gone what they have counted, as long as others have the name."""
        members, past = self._state
        gone = [member for member in members if member.is_gone]
        if not gone:
            return
        kept = tuple(member for member in members if member not in gone)
        sums = dict(past)
        for member in gone:
            # After the end nobody has to be waited for.
            last = families.lasting(member.figures(self._timeout))
            sums[member.name] = families.add_up(sums.get(member.name, {}), last)
        names = {member.name for member in kept}
        self._state = kept, {name: figures for name, figures in sums.items() if name in names}


def register(pool: WarmPool, registry: CollectorRegistry = REGISTRY) -> PoolCollector:
    """Have a registry give a pool's figures, for as long as there is the pool.

    Args:
        pool: The pool.
        registry: Where; by default where ``prometheus_client`` has its own.

    Returns:
        The registry's collector, the same for all pools that are registered here.

    Raises:
        TypeError: It is no pool.
        ValueError: The registry has a :class:`PoolCollector` that was not made here; add the pool
            to that one.

    *Threads:* any, but no signal handler; does not block.
    """
    collector = PoolCollector(pool)
    with _registering:
        known = _by_registry.get(registry)
        if known is not None:
            collector = known
        try:
            registry.register(collector)
        except ValueError:
            if known is None:
                raise
            # It is there still. Had its user unregistered it, it would be there again now.
        _by_registry[registry] = collector
    collector.add(pool)
    return collector


_lock = threading.Lock()
"""Held while a collector's state is replaced, never while somebody is waited for."""
_registering = threading.Lock()
_by_registry: weakref.WeakKeyDictionary[CollectorRegistry, PoolCollector] = (
    weakref.WeakKeyDictionary()
)
_all_collectors: weakref.WeakSet[PoolCollector] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # Another thread may have held them, and is not here to let go.
    global _lock, _registering
    _lock, _registering = threading.Lock(), threading.Lock()
    for collector in list(_all_collectors):
        collector._state = (), {}


os.register_at_fork(after_in_child=_after_fork_in_child)
