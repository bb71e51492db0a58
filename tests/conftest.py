"""What every test gets: a check that it leaves nothing behind, and pools that end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

_ROOT = str(Path(__file__).parent.parent)
if _ROOT not in sys.path:
    # Handed on to workers, which import the functions of tests.helpers.
    sys.path.insert(0, _ROOT)

from tests.faults.table import Table  # noqa: E402
from tests.helpers import leaks  # noqa: E402
from tests.helpers.gate import Gate  # noqa: E402
from tests.helpers.hosts import run_host  # noqa: E402, F401
from tests.helpers.leaks import nothing_left_behind  # noqa: E402, F401
from tests.helpers.waiting import BOUND  # noqa: E402
from warmpool import WarmPool  # noqa: E402

START_METHODS = ("template", "forkserver", "spawn", "fork")

leaks.prepare()
# How long an example takes is the machine's affair; hangs are pytest-timeout's.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
# A shell has what it runs in the background ignore Ctrl-C; hosts inherit that, and workers.
signal.signal(signal.SIGINT, signal.default_int_handler)


_TABLE = pytest.StashKey[Table]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults-table",
        metavar="FILE",
        type=Path,
        help="note what the fault tests see there, for python -m tests.faults.table",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = Table(config.getoption("--faults-table"))


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_TABLE].save()


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    """Takes notes of what the caller gets; see :mod:`tests.faults.table`."""
    return request.config.stash[_TABLE]


@pytest.fixture(scope="module", params=START_METHODS)
def start_method(request: pytest.FixtureRequest) -> str:
    """Each start method in turn."""
    name: str = request.param
    return name


@pytest.fixture
def make_pool(request: pytest.FixtureRequest) -> Iterator[Callable[..., WarmPool]]:
    """Make pools, of the test's ``start_method`` if it has one; they end with the test."""
    pools: list[WarmPool] = []
    options: dict[str, Any] = {}
    if "start_method" in request.fixturenames:
        options["start_method"] = request.getfixturevalue("start_method")

    def make(max_workers: int = 2, **more: Any) -> WarmPool:
        pool = WarmPool(max_workers, **{**options, **more})
        pools.append(pool)
        return pool

    yield make
    while pools:
        pools.pop().close(BOUND)


@pytest.fixture
def make_gate(tmp_path: Path) -> Iterator[Callable[[], Gate]]:
    """Make places where tasks announce themselves and wait."""
    gates: list[Gate] = []

    def make() -> Gate:
        gates.append(Gate(tmp_path / f"gate-{len(gates)}"))
        return gates[-1]

    yield make
    for gate in gates:
        gate.close()


@pytest.fixture
def gate(make_gate: Callable[[], Gate]) -> Gate:
    """One such place."""
    return make_gate()
