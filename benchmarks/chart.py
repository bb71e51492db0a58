"""A run as a chart in SVG: how much longer than warmpool everybody takes, figure by figure.

python -m benchmarks.chart RUN.json FILE.svg
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Reading
from benchmarks.svg import dot, line, text

# What all others are set in proportion to: the first of them that can do a figure.
OURS = ("warmpool", "template")
# Name -> colour, in the order of the legend.  The bound is a bar and not a dot.
BOUND = "bare"
COLOURS = {
    "template": "#d7301f",
    "ppe": "#1f78b4",
    "mp.Pool": "#33a02c",
    "pebble": "#6a3d9a",
    "loky": "#ff7f00",
    "billiard": "#b15928",
    "mpire": "#e7298a",
    "deadpool": "#66a6a6",
}
LEFT, RIGHT, TOP, ROW = 370, 40, 86, 24
WIDTH = 1000
# Ratios beyond this are drawn at the edge, with "never".
FIRST, LAST = 0.02, 1000.0


def draw(document: dict[str, Any]) -> str:
    figures = document["figures"]
    height = TOP + ROW * len(figures) + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(
            16, 24, "Time (or memory) over warmpool's, in the same run; right of 1: slower", size=15
        ),
        *_legend(),
        *_axis(height),
    ]
    for row, figure in enumerate(figures.values()):
        parts += _row(TOP + ROW * row + ROW / 2, figure)
    parts.append(text(16, height - 14, _where(document), colour="#555555", size=11))
    return "\n".join([*parts, "</svg>", ""])


def _row(y: float, figure: dict[str, Any]) -> Iterator[str]:
    yield text(16, y + 4, figure["title"], size=10.5)
    yield line(LEFT, y, WIDTH - RIGHT, y, "#eeeeee")
    subjects = figure["subjects"]
    ours = next(filter(None, (_reading(subjects, name) for name in OURS)), None)
    if ours is None:
        return
    yield line(_x(1), y - 7, _x(1), y + 7, "#d7301f", width=3)
    for name in (BOUND, *COLOURS):
        theirs = _reading(subjects, name)
        ratio = theirs.against(ours) if theirs else None
        if ratio is None:
            if subjects.get(name, {}).get("never"):
                yield text(WIDTH - RIGHT + 2, y + 4, "✕", colour=COLOURS.get(name, "#000000"))
        elif name == BOUND:
            x = _x(ratio.median)
            yield line(x, y - 8, x, y + 8, "#000000", width=2)
        else:
            yield dot(_x(ratio.median), y, COLOURS[name], f"{name}: {ratio.median:.2f} times")


def _reading(subjects: dict[str, Any], name: str) -> Reading | None:
    if not subjects.get(name, {}).get("block_medians"):
        return None
    reading = Reading(name)
    reading.blocks = [[median] for median in subjects[name]["block_medians"]]
    return reading


def _x(ratio: float) -> float:
    share = math.log(min(max(ratio, FIRST), LAST) / FIRST) / math.log(LAST / FIRST)
    return LEFT + share * (WIDTH - RIGHT - LEFT)


def _axis(height: float) -> Iterator[str]:
    for tick in (0.1, 1, 10, 100, 1000):
        yield line(_x(tick), TOP - 6, _x(tick), height - 40, "#bbbbbb")
        yield text(_x(tick), TOP - 12, f"{tick:g}", colour="#555555", anchor="middle")


def _legend() -> Iterator[str]:
    x = 16.0
    for name, colour in {"warmpool": "#d7301f", "bound": "#000000", **COLOURS}.items():
        if name in ("warmpool", "bound"):
            yield line(x + 4, 42, x + 4, 56, colour, width=3 if name == "warmpool" else 2)
        else:
            yield dot(x + 4, 49, colour, name)
        yield text(x + 14, 53, name)
        x += 34 + 7 * len(name)
    yield text(x, 53, "✕ never")


def _where(document: dict[str, Any]) -> str:
    machine = document["machine"]
    return (
        f"{document['date'][:10]}, {machine['processor']}, {machine['cores']} cores, "
        f"Linux {machine['kernel']}, {machine['python']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chart", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    paths = parser.parse_args()
    document = json.loads(paths.run.read_text(encoding="utf-8"))
    paths.file.write_text(draw(document), encoding="utf-8")


if __name__ == "__main__":
    main()
