"""A minute of chaos: enough for what breaks often."""

from __future__ import annotations

import os
import random

import pytest

from tests.chaos.outside import play

SECONDS = 40.0
"""Of harm. What starts, heals and ends around it takes about as long on a slow machine."""
SEED = "WARMPOOL_CHAOS_SEED"


@pytest.mark.skipif(
    not os.environ.get(SEED),
    reason=f"by {SEED}=N, or tox -e chaos: one finding of it, seed 3, is not understood yet",
)
@pytest.mark.timeout(600)
def test_a_minute_of_chaos() -> None:
    seed = int(os.environ.get(SEED) or random.randrange(1_000_000))
    print(f"seed {seed}; again by {SEED}={seed}, or python -m tests.chaos --seed {seed}")
    report = play(seed, SECONDS)
    print(report)
    assert not report.problems, "\n".join([f"seed {seed}", *report.problems])
    assert report.killed
    assert sum(report.faults.values()) > 20
