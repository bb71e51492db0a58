"""What ``warmpool top`` says of the pools, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from warmpool.failures import size_text
from warmpool.watching import Host, Published

NOBODY = "no pool is published here; make one with WarmPool(..., monitor=True)"
_MOST_WORKERS = 40
"""Lines for the workers of one pool."""
_ORDINARY = ("running", "sleeping", "idle")
"""States of a process of which there is nothing to tell."""


class Line(NamedTuple):
    """A line, and how it should strike the eye: ``"title"``, ``"alarm"``, ``"dim"`` or not."""

    text: str
    tone: str = ""


def lines(found: Iterable[Published]) -> list[Line]:
    """All that there is to show."""
    shown: list[Line] = []
    for published in found:
        if shown:
            shown.append(Line(""))
        shown.extend(_pool(published))
    return shown or [Line(NOBODY)]


def _pool(published: Published) -> Iterator[Line]:
    facts, host = published.facts, published.host
    workers = facts["details"]
    how = host.value
    if host is Host.GONE:
        how = f"died, last seen {_age(published.age)} ago"
    elif host is not Host.LIVE:
        how = f"{how} for {_age(published.age)}"
    yield Line(
        f"{_clean(facts['pool'])}  {_clean(facts['health'].upper())}  pid {facts['pid']} {how}  "
        f"{_clean(facts['start_method'])}  {len(workers)} of {facts['max_workers']} workers",
        "title" if host is Host.LIVE else "alarm",
    )
    rate = "" if facts["rate"] is None else f", {facts['rate']:.1f}/s"
    settled = _counts(facts["tasks_settled"]) or "none done"
    yield Line(f"  tasks: {facts['queued']} queued, {facts['running']} running, {settled}{rate}")
    exits = _counts(facts["worker_exits"]) or "nobody"
    yield Line(f"  gone: {exits}; cold starts: {facts['cold_starts']}")
    if workers:
        yield Line(
            "  worker      pid  state              for      age  done     memory  task", "dim"
        )
    for worker in workers[:_MOST_WORKERS]:
        yield _worker(published, worker)
    if len(workers) > _MOST_WORKERS:
        yield Line(f"  and {len(workers) - _MOST_WORKERS} more", "dim")


def _worker(published: Published, worker: Mapping[str, Any]) -> Line:
    # As of now, if the worker may be taken to be as it was.
    late = published.age if published.host is not Host.GONE else 0.0
    process = published.processes.get(worker["pid"])
    state, tone, memory = worker["state"], "", ""
    if process is not None:
        memory = size_text(process.memory)
        if process.status not in _ORDINARY:
            state, tone = f"{state}, {process.status}", "alarm"
    task = "" if worker["task"] is None else f"{worker['task']} {worker['task_name'] or ''}"
    return Line(
        f"  {worker['id']!s:>6}  {worker['pid'] or ''!s:>7}  {_clean(state):<14}"
        f"{_age(worker['in_state'] + late):>8}  {_age(worker['uptime'] + late):>7}"
        f"  {worker['tasks_done']!s:>4}  {memory:>9}  {_clean(task)}".rstrip(),
        tone,
    )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {_clean(what)}" for what, count in counts.items())


def _clean(text: str) -> str:
    # Names are the application's: one with an escape sequence in it must not get at the terminal.
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
