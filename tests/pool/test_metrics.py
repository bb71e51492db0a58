"""What Prometheus is told: real pools, scraped over HTTP."""

from __future__ import annotations

import gc
import itertools
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest, parser, start_http_server
from prometheus_client.openmetrics import parser as strict_parser

from tests.helpers import faults, tasks
from tests.helpers.forks import in_fork
from tests.helpers.gate import Gate, hold
from tests.helpers.waiting import BOUND, outcome, until
from warmpool import WarmPool, core
from warmpool.census import WorkerInfo
from warmpool.metrics import PoolCollector, register

MakePool = Callable[..., WarmPool]

FAMILIES = {
    "warmpool_workers": ("gauge", {"pool", "state"}),
    "warmpool_max_workers": ("gauge", {"pool"}),
    "warmpool_queue_length": ("gauge", {"pool"}),
    "warmpool_tasks_running": ("gauge", {"pool"}),
    "warmpool_tasks_submitted": ("counter", {"pool"}),
    "warmpool_tasks": ("counter", {"pool", "outcome"}),
    "warmpool_task_wait_seconds": ("summary", {"pool"}),
    "warmpool_task_duration_seconds": ("summary", {"pool"}),
    "warmpool_worker_start_duration_seconds": ("summary", {"pool"}),
    "warmpool_worker_starts": ("counter", {"pool"}),
    "warmpool_worker_exits": ("counter", {"pool", "reason"}),
    "warmpool_cold_starts": ("counter", {"pool"}),
    "warmpool_pool_health": ("gauge", {"pool", "health"}),
    "warmpool_worker_memory_bytes": ("gauge", {"pool", "worker"}),
}
STATES = {"starting", "initializing", "idle", "busy", "stopping", "killing"}
OUTCOMES = {"returned", "raised", "cancelled"} | {
    *("pool_closed", "pool_saturated", "pool_broken", "queue_timeout", "died", "kill_requested"),
    *("broke_protocol", "out_of_memory", "task_timeout", "unresponsive"),
}
REASONS = {
    *("recycled", "unused", "aged", "reloaded", "closed", "initializer_failed", "died"),
    *("timed_out", "killed", "unresponsive", "out_of_memory", "broke_protocol"),
}
HEALTHS = {"warming", "ready", "degraded", "broken", "closed"}


class Scrape:
    """What one scrape has brought."""

    def __init__(self, text: str) -> None:
        self.families = {f.name: f for f in parser.text_string_to_metric_families(text)}
        found = [sample for family in self.families.values() for sample in family.samples]
        self.samples = {(s.name, *sorted(s.labels.items())): s.value for s in found}
        assert len(self.samples) == len(found), "a series is there twice"

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[(f"warmpool_{name}", *sorted(labels.items()))]

    def values(self, name: str, label: str, **others: str) -> dict[str, float]:
        """The samples of a name by one of its labels; without those that are 0."""
        return {
            dict(labels)[label]: value
            for (sample, *labels), value in self.samples.items()
            if sample == f"warmpool_{name}" and value and others.items() <= dict(labels).items()
        }

    @property
    def pools(self) -> set[str]:
        return {dict(labels)["pool"] for _, *labels in self.samples}

    @property
    def counts(self) -> dict[Any, float]:
        """The samples that never go down."""
        ends = ("_total", "_count", "_sum")
        return {key: value for key, value in self.samples.items() if key[0].endswith(ends)}


@dataclass
class Server:
    """A registry of its own, scraped over HTTP."""

    registry: CollectorRegistry
    url: str

    def get(self, query: str = "", accept: str = "*/*") -> str:
        request = urllib.request.Request(self.url + query, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=BOUND) as response:
            text: str = response.read().decode()
        return text

    def scrape(self) -> Scrape:
        return Scrape(self.get())


@pytest.fixture
def server() -> Iterator[Server]:
    registry = CollectorRegistry()
    http, thread = start_http_server(0, "127.0.0.1", registry)
    yield Server(registry, f"http://127.0.0.1:{http.server_port}/metrics")
    http.shutdown()
    http.server_close()
    thread.join(BOUND)


# ------------------------------------------------------------------------------- what there is


def test_every_family_has_its_type_its_labels_and_a_word_of_help(
    server: Server, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    unweighed = core.Core._info

    def weighed(self: core.Core, worker: Any, now: float) -> WorkerInfo:
        info = unweighed(self, worker, now)
        return WorkerInfo(**{name: getattr(info, name) for name in info.__slots__} | {"memory": 7})

    monkeypatch.setattr(core.Core, "_info", weighed)
    pool = make_pool(2, start_method="fork", name="seen")
    pool.wait_warm(BOUND)
    register(pool, server.registry)
    scrape = server.scrape()
    found = {
        name: (family.type, {label for sample in family.samples for label in sample.labels})
        for name, family in scrape.families.items()
    }
    assert found == FAMILIES
    assert all(family.documentation for family in scrape.families.values())
    pids = {str(worker.pid) for worker in pool.stats().details}
    assert scrape.values("worker_memory_bytes", "worker") == dict.fromkeys(pids, 7.0)


def test_every_value_of_a_label_is_there_before_it_has_happened(
    server: Server, make_pool: MakePool
) -> None:
    pool = make_pool(3, start_method="fork", name="new")
    pool.wait_warm(BOUND)
    register(pool, server.registry)
    scrape = server.scrape()
    known = {"state": STATES, "outcome": OUTCOMES, "reason": REASONS, "health": HEALTHS}
    for label, values in known.items():
        found = {dict(rest)[label] for _, *rest in scrape.samples if label in dict(rest)}
        assert found == values
        assert all(re.fullmatch("[a-z]+(_[a-z]+)*", value) for value in found)
    assert scrape.values("workers", "state") == {"idle": 3}
    assert scrape.values("pool_health", "health") == {"ready": 1}
    assert scrape("max_workers", pool="new") == 3
    assert scrape("worker_starts_total", pool="new") == 3
    assert scrape("worker_start_duration_seconds_count", pool="new") == 3
    assert scrape("worker_start_duration_seconds_sum", pool="new") > 0
    assert not scrape.values("tasks_total", "outcome")
    assert not scrape.values("worker_exits_total", "reason")


def test_openmetrics_is_as_well_formed(server: Server, make_pool: MakePool) -> None:
    register(make_pool(1, start_method="fork", name='odd "name"\n\\'), server.registry)
    text = server.get(accept="application/openmetrics-text; version=1.0.0")
    families = list(strict_parser.text_string_to_metric_families(text))
    assert {family.name for family in families} == set(FAMILIES)
    assert {family.unit for family in families} == {"", "seconds", "bytes"}
    pools = {sample.labels["pool"] for family in families for sample in family.samples}
    assert pools == {'odd "name"\n\\'}


def test_some_families_can_be_asked_for(server: Server, make_pool: MakePool) -> None:
    register(make_pool(1, start_method="fork"), server.registry)
    names = set(Scrape(server.get("?name[]=warmpool_queue_length")).families)
    assert names == {"warmpool_queue_length"}


# ------------------------------------------------------------------------------- figures


def test_figures_follow_what_becomes_of_tasks(
    server: Server, make_pool: MakePool, gate: Gate
) -> None:
    pool = make_pool(1, start_method="fork", name="busy")
    register(pool, server.registry)
    pool.wait_warm(BOUND)
    held = pool.submit(hold, gate)
    gate.arrived()
    waiting = [pool.submit(tasks.echo, 1), pool.submit(tasks.echo, 2)]
    scrape = server.scrape()
    assert scrape("tasks_running", pool="busy") == 1
    assert scrape("queue_length", pool="busy") == 2
    assert scrape.values("workers", "state") == {"busy": 1}
    assert scrape("tasks_submitted_total", pool="busy") == 3
    assert waiting[1].cancel()
    gate.open()
    assert outcome(held) is outcome(waiting[0]) is None
    outcome(pool.submit(faults.raises))
    outcome(pool.options(timeout=0.2).submit(faults.hangs_asleep))
    outcome(pool.submit(faults.dies_of_sigkill))
    killed = pool.submit(hold, gate)
    gate.arrived()
    killed.kill()
    outcome(killed)
    pool.wait_warm(BOUND)
    scrape = server.scrape()
    assert scrape.values("tasks_total", "outcome") == {
        "returned": 2,
        "raised": 1,
        "cancelled": 1,
        "task_timeout": 1,
        "died": 1,
        "kill_requested": 1,
    }
    assert scrape("tasks_submitted_total", pool="busy") == 7
    assert scrape.values("worker_exits_total", "reason") == {"timed_out": 1, "died": 1, "killed": 1}
    assert scrape("worker_starts_total", pool="busy") == 4
    assert scrape("cold_starts_total", pool="busy") == 2
    assert scrape("task_wait_seconds_count", pool="busy") == 6
    assert scrape("task_duration_seconds_count", pool="busy") == 6
    assert scrape("task_duration_seconds_sum", pool="busy") >= 0.2
    assert scrape("tasks_running", pool="busy") == scrape("queue_length", pool="busy") == 0


def test_a_broken_pool_says_so(server: Server, make_pool: MakePool) -> None:
    pool = make_pool(1, start_method="fork", name="ill", initializer=faults.raises)
    register(pool, server.registry)
    outcome(pool.submit(tasks.echo, 1))
    scrape = server.scrape()
    assert scrape.values("pool_health", "health") == {"broken": 1}
    assert scrape.values("tasks_total", "outcome") == {"pool_broken": 1}
    assert set(scrape.values("worker_exits_total", "reason")) <= {"initializer_failed"}


# ------------------------------------------------------------------------------- the end


@pytest.mark.parametrize("way", ["shutdown", "close"])
def test_counters_never_go_down_and_scrapes_end_while_a_pool_does(
    server: Server, make_pool: MakePool, gate: Gate, way: str
) -> None:
    pool = make_pool(2, start_method="fork", name="ending")
    register(pool, server.registry)
    pool.wait_warm(BOUND)
    outcome(pool.submit(tasks.echo, 1))
    outcome(pool.submit(faults.raises))
    pool.submit(hold, gate)
    gate.arrived()
    scrapes = [server.scrape()]
    end = pool.shutdown if way == "shutdown" else lambda: pool.close(1.0)
    ending = threading.Thread(target=end)
    ending.start()
    until(lambda: server.scrape().values("pool_health", "health") == {"closed": 1}, "it closes")
    scrapes.append(server.scrape())
    assert scrapes[-1]("tasks_running", pool="ending") == 1
    assert scrapes[-1]("max_workers", pool="ending") == 2
    if way == "shutdown":
        gate.open()
    while ending.is_alive():
        scrapes.append(server.scrape())
    ending.join()
    scrapes.append(server.scrape())
    for before, after in itertools.pairwise(scrapes):
        assert before.counts.keys() == after.counts.keys()
        assert all(after.counts[key] >= value for key, value in before.counts.items())
    last = scrapes[-1]
    assert last.values("tasks_total", "outcome") == (
        {"returned": 2, "raised": 1}
        if way == "shutdown"
        else {"returned": 1, "raised": 1, "pool_closed": 1}
    )
    assert last.values("worker_exits_total", "reason") == {"closed": 2}
    assert last.values("workers", "state") == {}
    assert last("max_workers", pool="ending") == last("tasks_running", pool="ending") == 0


def test_a_forgotten_pool_is_seen_until_it_has_ended(server: Server, gate: Gate) -> None:
    pool = WarmPool(1, start_method="fork", name="forgotten")
    register(pool, server.registry)
    future = pool.submit(hold, gate)
    gate.arrived()
    del pool
    gc.collect()
    scrape = server.scrape()
    assert scrape.values("pool_health", "health") == {"closed": 1}
    assert scrape("tasks_running", pool="forgotten") == 1
    gate.open()
    assert outcome(future) is None
    until(lambda: not server.scrape().pools, "it has ended, and its series with it")


def test_a_pool_that_does_not_answer_is_left_out(server: Server, make_pool: MakePool) -> None:
    deaf = make_pool(1, start_method="fork", name="deaf")
    other = make_pool(1, start_method="fork", name="other")
    namesake = make_pool(1, start_method="fork", name="deaf")
    server.registry.register(PoolCollector(deaf, other, namesake, timeout=0.2))
    assert server.scrape().pools == {"deaf", "other"}
    release = threading.Event()
    deaf._desk._post(lambda: release.wait(BOUND) and None)
    assert server.scrape().pools == {"other"}
    release.set()
    until(lambda: server.scrape().pools == {"deaf", "other"}, "it answers again")


def test_a_fork_of_the_process_has_only_its_own(server: Server, make_pool: MakePool) -> None:
    pool = make_pool(1, start_method="fork", name="the parent's")
    collector = register(pool, server.registry)
    pool.wait_warm(BOUND)

    def look() -> bool:
        collector.add(pool)
        return b"the parent's" in generate_latest(server.registry)

    assert look()
    assert in_fork(look) is False


# ------------------------------------------------------------------------------- several


def test_pools_of_one_name_are_added_up(server: Server) -> None:
    first = WarmPool(1, start_method="fork", name="twin")
    second = WarmPool(2, start_method="fork", name="twin")
    collector = register(first, server.registry)
    assert register(second, server.registry) is collector
    for pool in (first, second):
        pool.wait_warm(BOUND)
        outcome(pool.submit(tasks.echo, 1))
    both = server.scrape()
    assert both("max_workers", pool="twin") == 3
    assert both.values("workers", "state") == {"idle": 3}
    assert both.values("pool_health", "health") == {"ready": 2}
    assert both.values("tasks_total", "outcome") == {"returned": 2}

    first.close(BOUND)
    ended = server.scrape()
    del first, pool
    gc.collect()
    one = server.scrape()
    assert ended.counts == one.counts
    assert all(one.counts[key] >= value for key, value in both.counts.items())
    assert ended.values("pool_health", "health") == {"ready": 1, "closed": 1}
    assert one.values("pool_health", "health") == {"ready": 1}
    assert one("max_workers", pool="twin") == 2

    second.close(BOUND)
    del second
    gc.collect()
    assert not server.scrape().samples


def test_a_pool_that_replaces_another_goes_on_with_its_counts(server: Server) -> None:
    for number in (1, 2, 3):
        pool = WarmPool(1, start_method="fork", name="again")
        register(pool, server.registry)
        outcome(pool.submit(tasks.echo, 1))
        scrape = server.scrape()
        assert scrape.values("tasks_total", "outcome") == {"returned": number}
        assert scrape("max_workers", pool="again") == 1
        assert scrape.values("pool_health", "health") == {"ready": 1}
        pool.close(BOUND)
        del pool
        gc.collect()
    assert not server.scrape().samples


def test_a_pool_may_be_in_several_registries_and_only_once_in_each(make_pool: MakePool) -> None:
    pool = make_pool(2, start_method="fork", name="shared")
    registries = [CollectorRegistry(), CollectorRegistry(auto_describe=True)]
    for registry in registries:
        for _ in range(2):
            collector = register(pool, registry)
        collector.add(pool, pool)
        assert Scrape(generate_latest(registry).decode())("max_workers", pool="shared") == 2


def test_a_registry_has_one_collector(make_pool: MakePool) -> None:
    pool = make_pool(1, start_method="fork", name="one")
    registry = CollectorRegistry()
    own = PoolCollector()
    registry.register(own)
    with pytest.raises(ValueError, match="warmpool_"):
        registry.register(PoolCollector(pool))
    with pytest.raises(ValueError, match="warmpool_"):
        register(pool, registry)
    assert not Scrape(generate_latest(registry).decode()).samples
    registry.unregister(own)
    for _ in range(2):
        collector = register(pool, registry)
        assert Scrape(generate_latest(registry).decode()).pools == {"one"}
        registry.unregister(collector)


def test_only_pools_are_collected_from(make_pool: MakePool) -> None:
    pool = make_pool(1, start_method="fork")
    registry = CollectorRegistry()
    with pytest.raises(TypeError, match="TaskOptions"):
        register(pool.options(timeout=1), registry)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout"):
        PoolCollector(pool, timeout=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout"):
        PoolCollector(pool, timeout=0)
    register(pool, registry)


# ------------------------------------------------------------------------------- the extra


def test_nothing_is_imported_unasked_and_the_extra_is_named_where_it_is_missing() -> None:
    script = (
        "import sys, warmpool\n"
        "[getattr(warmpool, name) for name in warmpool.__all__]\n"
        "assert 'prometheus_client' not in sys.modules\n"
        "sys.modules['prometheus_client'] = None\n"
        "try:\n"
        "    import warmpool.metrics\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert "pip install 'warmpool-executor[metrics]'" in done.stdout
