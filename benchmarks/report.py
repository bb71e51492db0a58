"""One figure: its table for people, and its record for the JSON."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures.base import Figure
from benchmarks.measure import Ratio, Reading
from benchmarks.subjects import PEERS, REFERENCES, SUBJECTS

# The peer that has the lowest median in a figure.
BEST_PEER = "best peer"
COLUMNS = ("median", "p90", "p99", "worst", "n", *(f"x {name}" for name in REFERENCES), "x best")
DASH = "-"
TITLES = {subject.name: subject.title for subject in SUBJECTS}


def best_peer(readings: Sequence[Reading]) -> Reading | None:
    names = {peer.name for peer in PEERS}
    found = [
        (reading.summary.median, reading)
        for reading in readings
        if reading.subject in names and reading.summary is not None
    ]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _ratios(reading: Reading, readings: Sequence[Reading]) -> dict[str, Ratio]:
    """Against each reference that was measured and the best peer, but not against itself."""
    others = {other.subject: other for other in readings if other.subject in REFERENCES}
    if (best := best_peer(readings)) is not None:
        others[BEST_PEER] = best
    found = {
        name: reading.against(other)
        for name, other in others.items()
        if other.subject != reading.subject
    }
    return {name: ratio for name, ratio in found.items() if ratio is not None}


def table(figure: Figure, title: str, readings: Sequence[Reading]) -> str:
    """One figure, a line per subject that is able to do it."""
    lines = [f"{title}  [{figure.name}, {figure.unit.value}]"]
    lines.append(" " * 24 + "".join(f"{column:>10}" for column in COLUMNS))
    for reading in readings:
        name = f"  {TITLES[reading.subject]:<22}"
        if reading.summary is not None:
            cells = _cells(figure, reading, readings)
            lines.append(name + "".join(f"{cell:>10}" for cell in cells))
        if reading.never is not None:
            lines.append(f"{name}    never: {reading.never}")
        if reading.absent is not None:
            lines.append(f"{name}    not available: {reading.absent}")
        if reading.error is not None:
            lines.append(f"{name}    FAILED  {reading.error}")
    return "\n".join(lines) + "\n"


def _cells(figure: Figure, reading: Reading, readings: Sequence[Reading]) -> list[str]:
    summary = reading.summary
    assert summary is not None
    times = (summary.median, summary.p90, summary.p99, summary.worst)
    ratios = _ratios(reading, readings)
    return [
        *map(figure.unit.show, times),
        str(summary.n),
        *(
            f"{ratios[name].median:.2f}" if name in ratios else DASH
            for name in (*REFERENCES, BEST_PEER)
        ),
    ]


def record(figure: Figure, title: str, readings: Sequence[Reading]) -> dict[str, Any]:
    """One figure for the JSON; times in seconds (of one task, for a throughput)."""
    best = best_peer(readings)
    return {
        "title": title,
        "unit": figure.unit.value,
        BEST_PEER: best.subject if best else None,
        "subjects": {
            reading.subject: {
                "summary": dataclasses.asdict(reading.summary) if reading.summary else None,
                "block_medians": reading.block_medians(),
                "ratios": {
                    name: dataclasses.asdict(ratio)
                    for name, ratio in _ratios(reading, readings).items()
                },
                "never": reading.never,
                "absent": reading.absent,
                "error": reading.error,
            }
            for reading in readings
        },
    }


def save(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
