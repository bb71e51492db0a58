"""The families of metrics: what of a pool's figures Prometheus is told, and by which names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from warmpool.census import Census, Total
from warmpool.events import ExitReason, FailureKind, Health, Outcome
from warmpool.lifecycle import LIVE, State

try:
    from prometheus_client.core import (  # type: ignore[import-not-found, unused-ignore]
        REGISTRY,
        CollectorRegistry,
        CounterMetricFamily,
        GaugeMetricFamily,
        Metric,
        SummaryMetricFamily,
    )
except ImportError as error:
    raise ImportError(
        "warmpool.metrics needs an extra: pip install 'warmpool-executor[metrics]'"
    ) from error

# Theirs too: whoever imports them from here is told of the extra.
__all__ = [
    "FAMILIES",
    "REGISTRY",
    "CollectorRegistry",
    "Figures",
    "Metric",
    "Reading",
    "add_up",
    "lasting",
    "read",
]

Values = Mapping[str, float]
"""Figures of one family by the value of its own label; of a summary, ``count`` and ``sum``."""

Figures = Mapping[str, Values]
"""Figures by the name of the family."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A pool at one instant."""

    census: Census
    health: Health
    max_workers: int


@dataclass(frozen=True, slots=True)
class Family:
    """One family of metrics, and where its figures come from."""

    name: str
    help: str
    read: Callable[[Reading], Values]
    label: str | None = None

    def metric(self, by_pool: Mapping[str, Figures]) -> Metric:
        """The family with the samples of each pool that has any."""
        metric = self._empty()
        for pool, figures in by_pool.items():
            for value, figure in figures.get(self.name, {}).items():
                metric.add_metric([pool] if self.label is None else [pool, value], figure)
        return metric

    def _empty(self) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if self.is_cumulative else GaugeMetricFamily
        return kind(self.name, self.help, labels=self._labels, unit=self._unit)

    @property
    def is_cumulative(self) -> bool:
        """Whether what was counted stays counted when its pool is gone."""
        return self.name.endswith("_total")

    @property
    def _labels(self) -> list[str]:
        return ["pool"] if self.label is None else ["pool", self.label]

    @property
    def _unit(self) -> str:
        last = self.name.rpartition("_")[2]
        return last if last in ("seconds", "bytes") else ""


class _Summary(Family):
    """A family of counts and sums."""

    __slots__ = ()

    def metric(self, by_pool: Mapping[str, Figures]) -> Metric:
        metric = SummaryMetricFamily(self.name, self.help, labels=self._labels, unit=self._unit)
        for pool, figures in by_pool.items():
            if values := figures.get(self.name):
                metric.add_metric([pool], int(values["count"]), values["sum"])
        return metric

    @property
    def is_cumulative(self) -> bool:
        return True


# ---------------------------------------------------------------------------- what is read

_NO_TASKS = {
    FailureKind.START_FAILED,
    FailureKind.INITIALIZER_RAISED,
    FailureKind.INITIALIZER_TIMEOUT,
}
"""What only workers fail of that have no task yet."""

_STATES = [state.value for state in State if state in LIVE]
_REASONS = [reason.value for reason in ExitReason]
_OUTCOMES = [*(outcome.value for outcome in Outcome), "cancelled"]
_FAILURES = [kind.value for kind in FailureKind if kind not in _NO_TASKS]


def _each(known: Iterable[str], counted: Mapping[str, int]) -> Values:
    # All that are known, as zero: what is not there before it has happened once cannot be seen to
    # rise from zero to one.
    return {name.replace(" ", "_"): counted.get(name, 0) for name in (*known, *counted)}


def _one(figure: float) -> Values:
    return {"": figure}


def _total(total: Total) -> Values:
    return {"count": total.count, "sum": total.seconds}


def _tasks(reading: Reading) -> Values:
    # Those that failed are told apart by their causes.
    settled = {k: n for k, n in reading.census.tasks_settled.items() if k != "failed"}
    return {
        **_each(_OUTCOMES, settled),
        **_each(_FAILURES, reading.census.tasks_failed),
    }


def _health(reading: Reading) -> Values:
    return {health.value: float(health is reading.health) for health in Health}


def _memory(reading: Reading) -> Values:
    # By the process: workers of two pools of one name have the same numbers.
    return {
        str(worker.pid): worker.memory
        for worker in reading.census.details
        if worker.memory is not None
    }


FAMILIES = (
    Family(
        "warmpool_workers",
        "Workers by state.",
        lambda pool: _each(_STATES, pool.census.workers),
        "state",
    ),
    Family(
        "warmpool_max_workers",
        "The most workers that there can be; 0 once the pool has ended.",
        lambda pool: _one(pool.max_workers),
    ),
    Family(
        "warmpool_queue_length",
        "Tasks that wait for a worker.",
        lambda pool: _one(pool.census.queued),
    ),
    Family(
        "warmpool_tasks_running",
        "Tasks that a worker has.",
        lambda pool: _one(pool.census.running),
    ),
    Family(
        "warmpool_tasks_submitted_total",
        "Tasks that were submitted.",
        lambda pool: _one(pool.census.tasks_submitted),
    ),
    Family(
        "warmpool_tasks_total",
        "Tasks that have ended: returned, raised, cancelled, or failed of the cause.",
        _tasks,
        "outcome",
    ),
    _Summary(
        "warmpool_task_wait_seconds",
        "How long tasks waited for a worker, each run by itself.",
        lambda pool: _total(pool.census.waits),
    ),
    _Summary(
        "warmpool_task_duration_seconds",
        "How long workers had tasks, each run by itself, those that failed included.",
        lambda pool: _total(pool.census.runs),
    ),
    _Summary(
        "warmpool_worker_start_duration_seconds",
        "How long workers took from their start to being ready.",
        lambda pool: _total(pool.census.warm_ups),
    ),
    Family(
        "warmpool_worker_starts_total",
        "Workers that were started.",
        lambda pool: _one(pool.census.workers_started),
    ),
    Family(
        "warmpool_worker_exits_total",
        "Workers that are gone, by the reason.",
        lambda pool: _each(_REASONS, pool.census.worker_exits),
        "reason",
    ),
    Family(
        "warmpool_cold_starts_total",
        "Tasks that waited until a worker had warmed up for them.",
        lambda pool: _one(pool.census.cold_starts),
    ),
    Family(
        "warmpool_pool_health",
        "1 for the health that the pool has; of several pools of one name, how many have it.",
        _health,
        "health",
    ),
    Family(
        "warmpool_worker_memory_bytes",
        "Memory of a worker, by its process, and of what that started, where somebody looks.",
        _memory,
        "worker",
    ),
)


def read(reading: Reading) -> Figures:
    """All figures of a pool."""
    return {family.name: family.read(reading) for family in FAMILIES}


def lasting(figures: Figures) -> Figures:
    """Those that stay true of a pool when it is gone."""
    return {family.name: figures[family.name] for family in FAMILIES if family.is_cumulative}


def add_up(one: Figures, other: Figures) -> Figures:
    """The figures of two pools as if they were one."""
    return {name: _sum(one.get(name, {}), other.get(name, {})) for name in {**one, **other}}


def _sum(one: Values, other: Values) -> Values:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
