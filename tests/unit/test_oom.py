"""The counter of the out-of-memory killer."""

from __future__ import annotations

import pytest

from warmpool import events as ev
from warmpool.failures import to_error
from warmpool.oom import OomCounter


def test_it_grows_when_something_is_killed(tmp_path):
    path = tmp_path / "memory.events"
    path.write_text("low 0\nhigh 3\noom 5\noom_kill 2\noom_group_kill 0\n")
    counter = OomCounter(str(path))
    assert not counter.has_grown
    path.write_text("low 0\nhigh 3\noom 6\noom_kill 3\noom_group_kill 0\n")
    assert counter.has_grown
    counter.look()
    assert not counter.has_grown


@pytest.mark.parametrize("text", [None, "", "oom_kill many\n", "low 0\n"])
def test_where_nothing_is_known_nothing_is_said(tmp_path, text):
    path = tmp_path / "memory.events"
    if text is not None:
        path.write_text(text)
    assert not OomCounter(str(path)).has_grown
    assert not OomCounter().has_grown


def test_an_error_says_it_for_certain():
    facts = {"worker": 1, "pid": 2, "stage": "busy", "exitcode": -9, "uptime": 1.0}
    certain = ev.Failure(ev.FailureKind.DIED, detail="by the kernel's …", **facts)
    assert "killed by SIGKILL, by the kernel's …" in str(to_error(certain, "p"))
    assert "out-of-memory killer?" in str(to_error(ev.Failure(ev.FailureKind.DIED, **facts), "p"))
