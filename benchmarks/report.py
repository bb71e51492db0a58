"""The table for people and the JSON for `compare`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures.base import Figure
from benchmarks.measure import Ratio, Reading
from benchmarks.subjects import REFERENCES, SUBJECTS

COLUMNS = ("median", "p90", "p99", "worst", "n", *(f"x {name}" for name in REFERENCES))
DASH = "-"
TITLES = {subject.name: subject.title for subject in SUBJECTS}


def _by_name(readings: Sequence[Reading]) -> dict[str, Reading]:
    return {reading.subject: reading for reading in readings}


def _ratios(reading: Reading, readings: Sequence[Reading]) -> dict[str, Ratio]:
    """Against each reference that was measured, but not of a reference against itself."""
    others = _by_name(readings)
    found = {
        name: reading.against(others[name])
        for name in REFERENCES
        if name in others and name != reading.subject
    }
    return {name: ratio for name, ratio in found.items() if ratio is not None}


def table(figure: Figure, readings: Sequence[Reading], subjects: Sequence[str]) -> str:
    """One figure, a line per subject; a dash for what a subject cannot do."""
    lines = [f"{figure.title}  [{figure.name}, {figure.unit.value}]"]
    lines.append(" " * 24 + "".join(f"{column:>10}" for column in COLUMNS))
    taken = _by_name(readings)
    for name in subjects:
        cells = [DASH] * len(COLUMNS)
        reading = taken.get(name)
        if reading is not None and reading.summary is not None:
            cells = _cells(figure, reading, readings)
        lines.append(f"  {TITLES[name]:<22}" + "".join(f"{cell:>10}" for cell in cells))
        if reading is not None and reading.error is not None:
            lines.append(f"    FAILED  {reading.error}")
    return "\n".join(lines) + "\n"


def _cells(figure: Figure, reading: Reading, readings: Sequence[Reading]) -> list[str]:
    summary = reading.summary
    assert summary is not None
    times = (summary.median, summary.p90, summary.p99, summary.worst)
    ratios = _ratios(reading, readings)
    return [
        *map(figure.unit.show, times),
        str(summary.n),
        *(f"{ratios[name].median:.2f}" if name in ratios else DASH for name in REFERENCES),
    ]


def record(figure: Figure, readings: Sequence[Reading]) -> dict[str, object]:
    """One figure for the JSON; all times in seconds (of one task, for a throughput)."""
    return {
        "title": figure.title,
        "unit": figure.unit.value,
        "subjects": {
            reading.subject: {
                "summary": dataclasses.asdict(reading.summary) if reading.summary else None,
                "block_medians": reading.block_medians(),
                "ratios": {
                    name: dataclasses.asdict(ratio)
                    for name, ratio in _ratios(reading, readings).items()
                },
                "error": reading.error,
            }
            for reading in readings
        },
    }


def save(path: Path, document: dict[str, object]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
