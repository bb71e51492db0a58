"""What is made of what pools have published."""

from __future__ import annotations

import json

import pytest

from warmpool import cli_top, publishing, watching
from warmpool.watching import Host, Published

FACTS = {
    "format": publishing.FORMAT,
    "pool": "painters",
    "pid": 1234,
    "created": 1.5,
    "at": 1000.0,
    "start_method": "forkserver",
    "max_workers": 4,
    "health": "ready",
    "workers": {"busy": 1},
    "queued": 3,
    "running": 1,
    "tasks_settled": {"returned": 10, "raised": 2},
    "worker_exits": {"died": 1},
    "cold_starts": 2,
    "details": [
        {
            "id": 7,
            "pid": 1300,
            "state": "busy",
            "task": 17,
            "task_name": "paint",
            "in_state": 3.0,
            "uptime": 300.0,
            "tasks_done": 12,
        }
    ],
}


def test_a_snapshot_is_read():
    assert watching.parse(json.dumps(FACTS)) == FACTS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        json.dumps(FACTS | {"format": 0}),
        json.dumps(FACTS | {"pid": "1234"}),
        json.dumps(FACTS | {"details": [{"id": 7}]}),
        json.dumps(FACTS | {"details": [7]}),
        json.dumps({name: value for name, value in FACTS.items() if name != "queued"}),
        json.dumps(FACTS)[:-20],
    ],
)
def test_what_is_none_is_passed_over(text):
    assert watching.parse(text) is None


@pytest.mark.parametrize(
    ("age", "exists", "is_stopped", "host"),
    [
        (0.5, True, False, Host.LIVE),
        (60.0, True, False, Host.SILENT),
        (0.5, True, True, Host.STOPPED),
        (0.5, False, False, Host.GONE),
    ],
)
def test_how_a_host_is(age, exists, is_stopped, host):
    assert watching.judge(age, exists, is_stopped) is host


def published(host=Host.LIVE, age=0.5, **changes) -> Published:
    return Published(FACTS | changes, age, host, {1300: 50 << 20})


def text_of(*found, rates=None) -> str:
    return "\n".join(cli_top.lines(found, rates or cli_top.Rates()))


def test_what_is_shown_of_a_live_pool():
    text = text_of(published())
    assert "painters  READY  pid 1234 live  forkserver  1 of 4 workers" in text
    assert "3 queued, 1 running, 10 returned, 2 raised" in text
    assert "gone: 1 died; cold starts: 2" in text
    assert "busy         3.5 s    5 min    12     50 MiB  17 paint" in text


def test_what_is_shown_of_others():
    assert "silent for 12.0 s" in text_of(published(Host.SILENT, 12.0))
    assert "stopped for 12.0 s" in text_of(published(Host.STOPPED, 12.0))
    assert "died, last seen 3 h ago" in text_of(published(Host.GONE, 3 * 3600.0))
    assert "monitor=True" in text_of()


def test_rates_are_from_one_snapshot_to_the_next():
    rates = cli_top.Rates()
    assert "/s" not in text_of(published(), rates=rates)
    later = published(at=1002.0, tasks_settled={"returned": 22, "raised": 2})
    assert "6.0/s" in text_of(later, rates=rates)
