"""Back-off and restart intensity as functions of history and now."""

from __future__ import annotations

import pytest

from warmpool.restart import FailureWindow, RestartPolicy

POLICY = RestartPolicy()


def test_no_failure_no_delay():
    assert POLICY.delay(0, 0.5) == 0.0


def test_delays_double_up_to_the_longest():
    delays = [POLICY.delay(n, 0.5) for n in range(1, 12)]
    assert delays[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert delays[-1] == POLICY.longest_delay
    assert delays == sorted(delays)


def test_any_number_of_failures_has_a_delay():
    assert POLICY.delay(10**9, 0.5) == POLICY.longest_delay


@pytest.mark.parametrize("failures", [1, 5, 50])
def test_jitter_stays_within_its_bounds(failures):
    middle = POLICY.delay(failures, 0.5)
    assert POLICY.delay(failures, 0.0) == pytest.approx(middle * 0.8)
    assert middle < POLICY.delay(failures, 0.999) < middle * 1.2


def test_the_probe_delay_is_the_longest():
    assert POLICY.probe_delay(0.5) == POLICY.longest_delay
    assert POLICY.shortest_probe_delay == POLICY.probe_delay(0.0)


def test_intensity_is_exceeded_by_one_more_than_is_tolerated():
    window = FailureWindow(period=10.0, tolerated=2)
    assert [window.add(t) for t in (1.0, 2.0, 3.0)] == [False, False, True]


def test_old_failures_do_not_count():
    window = FailureWindow(period=10.0, tolerated=2)
    assert not any(window.add(t) for t in (0.0, 11.0, 22.0, 33.0, 34.0))
    assert window.add(35.0)


def test_the_window_stays_small_and_can_be_cleared():
    window = FailureWindow(period=1e9, tolerated=3)
    assert sum(window.add(float(t)) for t in range(1000)) == 997
    assert len(window._times) == 4
    window.clear()
    assert not window.add(1000.0)


@pytest.mark.parametrize("init_timeout", [0.1, 60.0, 3600.0])
def test_slow_failures_add_up_too(init_timeout):
    """A slot whose workers always hang for all of init_timeout exceeds the intensity."""
    window = FailureWindow(POLICY.period(init_timeout), POLICY.intensity(1))
    now = 0.0
    for failures in range(1, 5):
        now += init_timeout
        if window.add(now):
            return
        now += POLICY.delay(failures, 0.999)
    pytest.fail("waiting tasks would be held for ever")
