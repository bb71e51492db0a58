"""Two runs side by side: ``python -m benchmarks.compare BEFORE.json AFTER.json``.

Times of two runs differ by what the machine did meanwhile as much as by the code.  The ratio to
the bare echo of the same run does not, so `change` is the change of that ratio where there is
one; `noise` is half of the span that the middle half of the rounds of either run lies in.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFERENCE = "bare"
# What has to agree before two runs may be compared at all.
SAME = ("processor", "cores", "kernel", "python")


@dataclass(frozen=True)
class Line:
    figure: str
    subject: str
    before: float
    after: float
    noise: float | None  # None: the figure has no ratio, the two are plain times

    def __str__(self) -> str:
        change = f"{(self.after / self.before - 1) * 100:+8.1f} %" if self.before > 0 else "-"
        if self.noise is None:
            values = f"{self.before * 1e3:>9.2f} ms {self.after * 1e3:>9.2f} ms"
            return f"{self.figure:<26}{self.subject:<12}{values} {change:>11}"
        values = f"{self.before:>10.2f} x {self.after:>10.2f} x"
        clear = "" if abs(self.after / self.before - 1) > self.noise else "  within noise"
        noise = f"+-{self.noise * 100:.0f} %"
        return f"{self.figure:<26}{self.subject:<12}{values} {change:>11} {noise:>9}{clear}"


def lines(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Line]:
    """What both runs measured."""
    for figure, old in before["figures"].items():
        new = after["figures"].get(figure, {"subjects": {}})
        for subject in old["subjects"].keys() & new["subjects"].keys():
            pair = old["subjects"][subject], new["subjects"][subject]
            ratios = [one["ratios"].get(REFERENCE) for one in pair]
            if all(ratios):
                noise = max((r["high"] - r["low"]) / 2 / r["median"] for r in ratios)
                yield Line(figure, subject, ratios[0]["median"], ratios[1]["median"], noise)
            elif all(one["summary"] for one in pair):
                medians = [one["summary"]["median"] for one in pair]
                yield Line(figure, subject, medians[0], medians[1], None)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    paths = parser.parse_args()
    before, after = (
        json.loads(path.read_text(encoding="utf-8")) for path in (paths.before, paths.after)
    )
    for fact in SAME:
        if before["machine"][fact] != after["machine"][fact]:
            print(f"NOT COMPARABLE: {fact}: {before['machine'][fact]} / {after['machine'][fact]}")
    heads = f"{'before':>12} {'after':>12} {'change':>11} {'noise':>9}"
    print(f"{'figure':<26}{'subject':<12}{heads}")
    for line in sorted(lines(before, after), key=lambda line: (line.subject, line.figure)):
        print(line)


if __name__ == "__main__":
    main()
