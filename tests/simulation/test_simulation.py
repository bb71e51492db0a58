"""Ten thousand hours of pools, and what shows that this finds bugs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.course import Course
from tests.simulation.mutants import MUTANTS
from tests.simulation.scenario import Failed, run

ROOT = Path(__file__).parents[2]
POOL_HOURS = 10_000
MOST_SEEDS = 150
"""Within which a bug has to be found."""


@pytest.mark.timeout(900)  # There is no clock in it, but much to do.
def test_ten_thousand_hours_of_pools_break_no_promise():
    course = Course(0)
    while course.hours < POOL_HOURS:
        course.step()
    print(course, dict(course.outcomes))
    # It was not for nothing.
    assert course.faults > 1_000
    for outcome in ("returned", "WorkerDied", "TaskTimeout", "WorkerUnresponsive", "PoolClosed"):
        assert course.outcomes[outcome]


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.timeout(300)
def test_a_bug_is_found_and_told(name):
    course = Course(1, "storm")
    with MUTANTS[name].applied(), pytest.raises(Failed) as found:
        course.go_on(MOST_SEEDS)
    story = str(found.value)
    print(story)
    assert f"--seed {found.value.seed} --only storm" in story
    assert "WRONG" in story


@pytest.mark.parametrize("kind", ["storm", "everyday"])
def test_a_seed_replays_exactly(kind):
    assert run(3, kind) == run(3, kind)


def test_a_seed_replays_exactly_in_another_process():
    # Whatever the order of its sets, and the addresses of its objects.
    script = "from tests.simulation.scenario import run; print(run(2, 'storm').fingerprint)"
    fingerprints = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(fingerprints) == 1
    assert fingerprints == {f"{run(2, 'storm').fingerprint}\n"}


def test_two_seeds_differ():
    assert run(3, "storm").fingerprint != run(4, "storm").fingerprint
