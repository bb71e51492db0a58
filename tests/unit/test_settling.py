"""Whoever waits for a task that has failed is woken at once, and let go first, once in a turn."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from warmpool import events as ev
from warmpool import settling


class Parker:
    def __init__(self, told):
        self._told = told

    def unpark(self):
        self._told.append("woken")


class Future:
    """One that a thread waits for in ``result()``."""

    has_audience = False

    def __init__(self, told):
        self._told = told

    def settle_failed(self, error, now):
        self._told.append("settled")

    def parked(self):
        return [Parker(self._told)]


@pytest.fixture
def told(monkeypatch):
    happened = []
    monkeypatch.setattr(settling, "make_way", lambda: happened.append("way"))
    return happened


def test_who_waits_for_a_failure_is_let_go_first_once_in_a_turn(told):
    settler = settling.Settler("p", SimpleNamespace(put=lambda *_: None), SimpleNamespace())
    for task in (1, 2, 3):
        settler.enter(SimpleNamespace(spec=SimpleNamespace(id=task), future=Future(told)))
    failure = ev.Failure(ev.FailureKind.POOL_CLOSED)
    # Beside a thread that computes, each time would cost milliseconds: the GIL's.
    settler.settle(ev.SettleTask(1, failure=failure))
    settler.settle(ev.SettleTask(2, failure=failure))
    assert told == ["settled", "woken", "way", "settled", "woken"]
    settler.unpark()
    told.clear()
    settler.settle(ev.SettleTask(3, failure=failure))
    assert told == ["settled", "woken", "way"]
