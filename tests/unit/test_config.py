"""Options are checked where they are given."""

from __future__ import annotations

import inspect
import math
import multiprocessing

import pytest

from warmpool import WarmPool, config, payload, start, tray
from warmpool.config import TaskOptions
from warmpool.state import Settings


@pytest.mark.parametrize(
    "option",
    [
        {"max_workers": 0},
        {"max_workers": -1},
        {"max_workers": 10_001},
        {"min_idle": -1},
        {"min_idle": 3, "max_workers": 2},
        {"idle_timeout": 5.0},
        {"idle_timeout": 0.0, "min_idle": 1},
        {"worker_lifetime": 0.0},
        {"memory_limit": 0},
        {"memory_warning": -1},
        {"max_tasks_per_child": 0},
        {"max_queue": -1},
        {"init_timeout": 0},
        {"init_timeout": -1.0},
        {"init_timeout": math.inf},
        {"init_timeout": math.nan},
        {"grace": -1},
        {"grace": math.inf},
        {"heartbeat_interval": 0},
        {"heartbeat_timeout": 0},
        {"heartbeat_timeout": math.inf},
        {"task_timeout": 0},
        {"task_timeout": math.inf},
        {"queue_timeout": -1},
        {"start_method": "thread"},
        {"pickler": "dill"},
        {"start_method": "spawn", "mp_context": multiprocessing.get_context("fork")},
    ],
    ids=lambda option: ", ".join(
        f"{name}={str(value).partition(' ')[0]}" for name, value in option.items()
    ),
)
def test_out_of_range(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        WarmPool(**option)


@pytest.mark.parametrize(
    "option",
    [
        {"max_workers": "4"},
        {"on_event": 5},
        {"max_workers": 2.0},
        {"max_workers": True},
        {"init_timeout": None},
        {"init_timeout": "60"},
        {"task_timeout": True},
        {"initializer": "not callable"},
        {"initargs": 5},
        {"mp_context": "spawn"},
        {"name": 5},
        {"heartbeat_interval": None},
        {"heartbeat_timeout": "60"},
    ],
    ids=str,
)
def test_of_the_wrong_type(option):
    with pytest.raises(TypeError, match=next(iter(option))):
        WarmPool(**option)


def test_names_and_callables_can_be_preloaded():
    assert config.preload(None) is payload.NOTHING
    assert config.preload(list).function is list
    for given in ("os.path", ["os.path"], iter(["os.path"])):
        preload = config.preload(given)
        assert (preload.function, preload.args) == (payload.import_modules, ("os.path",))


@pytest.mark.parametrize("given", [1, [1], ["os", list], "no module", "os.", ["a.b", ""]], ids=str)
def test_nothing_else_can_be_preloaded(given):
    with pytest.raises(TypeError, match="preload must be"):
        config.preload(given)


def test_the_signature_is_the_contract():
    parameters = inspect.signature(WarmPool).parameters
    assert list(parameters) == [
        "max_workers",
        "mp_context",
        "initializer",
        "initargs",
        "max_tasks_per_child",
        "start_method",
        "preload",
        "min_idle",
        "idle_timeout",
        "worker_lifetime",
        "init_timeout",
        "task_timeout",
        "queue_timeout",
        "max_queue",
        "grace",
        "heartbeat_interval",
        "heartbeat_timeout",
        "memory_limit",
        "memory_warning",
        "pickler",
        "name",
        "on_event",
        # Beyond the contract:
        "forward_logs",
        "monitor",
    ]
    assert parameters["init_timeout"].default == 60.0
    assert parameters["grace"].default == 5.0


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"queue_timeout": -1},
        {"retries": -1},
        {"soft_timeout": 0},
        {"soft_timeout": 2.0, "timeout": 2.0},
    ],
    ids=str,
)
def test_task_options_are_checked_too(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TaskOptions(**options)


def test_defaults():
    given = {
        name: parameter.default
        for name, parameter in inspect.signature(WarmPool).parameters.items()
        if name in inspect.signature(config.settings).parameters
    }
    settings = config.settings(**given)
    assert settings == Settings(settings.max_workers, lays_out=tray.AVAILABLE)
    assert settings.max_workers == config.usable_cpus() >= 1
    assert config.start_method_name(None, None) == start.AVAILABLE[0]
    assert config.start_method_name(None, multiprocessing.get_context("spawn")) == "spawn"
