"""A minute of chaos in each run of the tests, another one each time."""

from __future__ import annotations

import os
import random

import pytest

from tests.chaos.outside import play

SECONDS = 40.0
"""Of harm. What starts, heals and ends around it takes half as long on a slow machine."""
SEED = "WARMPOOL_CHAOS_SEED"


@pytest.mark.timeout(600)  # A phase that hangs tells where after five minutes, and ends.
def test_a_minute_of_chaos(capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get(SEED) or random.randrange(1_000_000))
    with capsys.disabled():
        # Also of a run that is right, or is killed.
        print(f"\nchaos: seed {seed}; again by {SEED}={seed}")
        report = play(seed, SECONDS)
        print(report)
    assert not report.problems, "\n".join([f"seed {seed}", *report.problems])
    assert report.killed
    assert sum(report.faults.values()) > 20
