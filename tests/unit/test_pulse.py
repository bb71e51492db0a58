"""How often a worker beats."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from warmpool import child
from warmpool.pulse import BEATS_PER_TIMEOUT, RESTING, beat_intervals


def test_one_that_rests_takes_longer() -> None:
    assert beat_intervals(2.5, 60.0) == (2.5, 2.5 * RESTING)


def test_without_a_timeout_too() -> None:
    assert beat_intervals(1.0, None) == (1.0, 1.0 * RESTING)


@pytest.mark.parametrize("interval", [0.1, 0.24, 0.3, 1.0, 5.0])
def test_enough_beats_fit_into_the_timeout(interval: float) -> None:
    assert all(each * BEATS_PER_TIMEOUT <= 1.0 for each in beat_intervals(interval, 1.0))


class Script:
    """What a worker does between two beats; stands where it waits for the next."""

    def __init__(self, *steps: dict[str, Any]) -> None:
        self.recorder = SimpleNamespace(last_started=0, beat=lambda: None)
        self.title = SimpleNamespace(task=0, stage="initializing", show=lambda: None)
        self.pauses: list[float] = []
        self._steps = list(steps)

    def register(self, descriptor: int, mask: int) -> None:
        pass

    def poll(self, pause: float) -> bool:
        self.pauses.append(pause / 1e3)
        if not self._steps:
            return True  # The end of the lifeline.
        step = self._steps.pop(0)
        self.recorder.last_started = step.get("started", self.recorder.last_started)
        self.title.task = step.get("task", self.title.task)
        self.title.stage = step.get("stage", self.title.stage)
        return False


@pytest.fixture
def pauses_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pauses before each beat, and before the end, as the steps are done in between."""

    def run(*steps: dict[str, Any]) -> list[float]:
        script: Any = Script(*steps)
        monkeypatch.setattr(child.select, "poll", lambda: script)
        monkeypatch.setattr(child, "leave_with_host", lambda: None)
        monkeypatch.setattr(signal, "pthread_sigmask", lambda *_: None)
        lifeline: Any = SimpleNamespace(fileno=lambda: -1)
        child._follow_host(lifeline, script.recorder, (1.0, 4.0), script.title)
        return script.pauses

    return run


def test_a_worker_beats_often_until_it_has_rested_for_a_while(pauses_of: Any) -> None:
    assert pauses_of({}, {"stage": "idle"}, {}, {}) == [1.0, 1.0, 1.0, 4.0, 4.0]


def test_a_worker_that_is_not_warm_yet_does_not_rest(pauses_of: Any) -> None:
    assert pauses_of({}, {}, {}) == [1.0] * 4


def test_a_worker_that_runs_a_task_beats_often(pauses_of: Any) -> None:
    busy = {"task": 1, "started": 1}
    assert pauses_of({"stage": "idle"}, {}, busy, {}, {}) == [1.0, 1.0, 4.0, 1.0, 1.0, 1.0]


def test_a_worker_whose_tasks_are_short_beats_often(pauses_of: Any) -> None:
    steps = [{"stage": "idle"}, *({"started": task} for task in range(1, 4)), {}]
    assert pauses_of(*steps) == [1.0, 1.0, 1.0, 1.0, 1.0, 4.0]
