"""What is made of what pools have published."""

from __future__ import annotations

import json

import pytest

from warmpool import publishing, watching
from warmpool.census import Census
from warmpool.cli_top_view import lines
from warmpool.events import Health
from warmpool.watching import Host, Process, Published

FACTS = {
    "format": publishing.FORMAT,
    "pool": "painters",
    "pid": 1234,
    "born": 1.5,
    "at": 1000.0,
    "time": 1.7e9,
    "rate": 6.0,
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
        json.dumps(FACTS | {"details": [FACTS["details"][0] | {"tasks_done": "many"}]}),
        json.dumps(FACTS | {"details": [FACTS["details"][0] | {"pid": 1e3}]}),
        json.dumps(FACTS | {"tasks_settled": {"returned": "many"}}),
        json.dumps(FACTS | {"worker_exits": {"died": None}}),
        json.dumps(FACTS | {"at": float("nan")}),
        json.dumps(FACTS | {"at": float("inf")}),
        json.dumps(FACTS | {"rate": 10**400}),
        json.dumps(FACTS | {"pid": True}),
        json.dumps(FACTS).replace("1234", "9" * 5000),
        "[" * 100_000,
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


def published(host=Host.LIVE, age=0.5, status="sleeping", **changes) -> Published:
    return Published(FACTS | changes, age, host, {1300: Process(50 << 20, status)})


def text_of(*found) -> str:
    return "\n".join(line.text for line in lines(found))


def test_what_is_shown_of_a_live_pool():
    text = text_of(published())
    assert "painters  READY  pid 1234 live  forkserver  1 of 4 workers" in text
    assert "3 queued, 1 running, 10 returned, 2 raised, 6.0/s" in text
    assert "gone: 1 died; cold starts: 2" in text
    assert "busy             3.5 s    5 min    12     50 MiB  17 paint" in text


def test_what_is_shown_of_others():
    assert "silent for 12.0 s" in text_of(published(Host.SILENT, 12.0))
    assert "stopped for 12.0 s" in text_of(published(Host.STOPPED, 12.0))
    assert "died, last seen 3 h ago" in text_of(published(Host.GONE, 3 * 3600.0))
    assert "monitor=True" in text_of()
    assert "/s" not in text_of(published(rate=None))


def test_a_worker_that_is_stopped_strikes_the_eye():
    found = lines([published(status="stopped")])
    assert [line for line in found if line.tone == "alarm"] == [found[-1]]
    assert "busy, stopped" in found[-1].text


def test_names_do_not_get_at_the_terminal():
    worker = FACTS["details"][0] | {"task_name": "a\x1b[2Jb\nc\udc80"}
    text = text_of(published(pool="p\x1b]0;title\x07", details=[worker]))
    assert "\x1b" not in text
    assert "p\\x1b]0;title\\x07  READY" in text
    assert r"17 a\x1b[2Jb\nc\udc80" in text


# ---------------------------------------------------------------------------- who publishes


def make_publisher(ask=lambda: None) -> publishing.Publisher:
    return publishing.Publisher("painters", {"pool": "painters"}, ask)


def test_rates_are_from_earlier_snapshots(monkeypatch):
    publisher, now = make_publisher(), [1000.0]
    monkeypatch.setattr("warmpool.publishing.time.monotonic", lambda: now[0])

    def rate(settled):
        census = Census(Health.READY, tasks_settled={"returned": settled, "raised": 0})
        return publisher._snapshot(census)["rate"]

    assert rate(100) is None
    now[0] += 2.0
    assert rate(112) == 6.0
    for _ in range(6):
        now[0] += 1.0
        last = rate(112)
    assert last == 0.0


def test_what_goes_wrong_is_told_once(caplog, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def ask():
        raise ZeroDivisionError("whatever it is")

    publisher = make_publisher(ask)
    for _ in range(3):
        publisher._try_to_publish()
    assert [record.getMessage() for record in caplog.records] == [
        "pool 'painters' cannot be seen by warmpool top: whatever it is"
    ]
