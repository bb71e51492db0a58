"""All figures of a run in one table: medians of everybody, and how ours relate to the others."""

from typing import Any

from benchmarks.figures.base import Unit
from benchmarks.report import BEST_PEER, DASH
from benchmarks.subjects import PEERS

OURS = ("warmpool", "template")
BOUND = "bare"
COLUMNS = (*OURS, BOUND, *(peer.name for peer in PEERS))


def table(document: dict[str, Any]) -> str:
    lines = [
        "Medians. x bound, x best: time (or memory) over the bound's, and over the best peer's.",
        _line("figure", "", [*COLUMNS, "x bound", "x best", "best peer"]),
    ]
    for name, figure in document["figures"].items():
        subjects = figure["subjects"]
        show = Unit(figure["unit"]).show
        cells = [_cell(subjects.get(column), show) for column in COLUMNS]
        unit = "" if figure["unit"] == Unit.TIMES.value else figure["unit"]
        best = figure[BEST_PEER] or DASH
        lines.append(_line(name, unit, [*cells, *_ratios(subjects, OURS[0]), best]))
        if (subjects.get(OURS[1]) or {}).get("summary"):
            blank = [""] * len(COLUMNS)
            lines.append(_line("   template", "", [*blank, *_ratios(subjects, OURS[1]), best]))
    return "\n".join(lines) + "\n"


def _line(name: str, unit: str, cells: list[str]) -> str:
    return f"{name:<24}{unit:<12}" + "".join(f"{cell:>10}" for cell in cells)


def _cell(subject: dict[str, Any] | None, show: Any) -> str:
    if subject is None or subject["absent"]:
        return DASH
    if subject["error"]:
        return "failed"
    if subject["summary"] is None:
        return "never" if subject["never"] else DASH
    shown: str = show(subject["summary"]["median"])
    return shown


def _ratios(subjects: dict[str, Any], name: str) -> list[str]:
    ratios = (subjects.get(name) or {"ratios": {}})["ratios"]
    return [f"{ratios[of]['median']:.2f}" if of in ratios else DASH for of in (BOUND, BEST_PEER)]
