"""The command line of the benchmarks; see README.md."""

import argparse
import datetime
import logging
import os
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import guard, machine, report
from benchmarks.figures import FIGURES
from benchmarks.figures.base import Conditions, Figure
from benchmarks.run import measure
from benchmarks.subjects import SUBJECTS
from benchmarks.subjects.base import Subject

QUICK_LIMIT = 60.0
FULL_LIMIT = 900.0
# A load (one minute's average, at the start) above which other programs are in the way.
BUSY = 0.5


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure warmpool beside a bare pipe and its peers, in the same run.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer samples: done within a minute")
    add("--figure", action="append", metavar="NAME", help="only these (repeatable, * matches)")
    add("--subject", action="append", metavar="NAME", help="only these (repeatable, * matches)")
    add("--json", type=Path, metavar="FILE", help="write the readings to FILE, too")
    add(
        "--start-method",
        default="forkserver",
        choices=("forkserver", "spawn", "fork"),
        help="for the figures that do not name their own (default: forkserver)",
    )
    add("--core", type=int, help="where pinned figures run (default: the last core allowed)")
    add("--limit", type=float, metavar="SECONDS", help="end the run, whatever happens, after this")
    add("--list", action="store_true", help="show figures and subjects, measure nothing")
    return parser.parse_args(argv)


def chosen(names: Sequence[str], patterns: Sequence[str] | None) -> list[str]:
    """Names that match, in their own order; a pattern that matches nothing is a mistake."""
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in names):
            raise SystemExit(f"benchmarks: {pattern!r} is none of {', '.join(names)}")
    return [
        name
        for name in names
        if patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)
    ]


def conditions(figure: Figure, args: argparse.Namespace) -> Conditions:
    return Conditions(
        start_method=figure.start_method or args.start_method,
        core=args.core if figure.pinned else None,
    )


def run(args: argparse.Namespace, figures: Sequence[Figure], subjects: Sequence[Subject]) -> bool:
    """Measure and print; True if no subject failed."""
    packages = [subject.package for subject in subjects if subject.package]
    figure_records: dict[str, object] = {}
    document: dict[str, object] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "arguments": {name: value for name, value in vars(args).items() if name != "json"},
        "machine": machine.facts(packages),
        "figures": figure_records,
    }
    if (load := os.getloadavg()[0]) > BUSY:
        print(f"benchmarks: the machine is busy (load {load:.1f}): trust the ratios, not the times")
    print("Each x column: this subject's time over that one's, median of the rounds; <1 is faster.")
    print("Throughput is shown per second, its ratios are of time as well.\n")
    sound = True
    for figure in figures:
        size = figure.quick if args.quick else figure.full
        readings = measure(figure, subjects, conditions(figure, args), size)
        print(report.table(figure, readings, [subject.name for subject in subjects]), flush=True)
        figure_records[figure.name] = report.record(figure, readings)
        if args.json:  # after each: a run that is ended early keeps what it has
            report.save(args.json, document)
        sound = sound and not any(reading.error for reading in readings)
    return sound


def main(argv: Sequence[str]) -> int:
    args = arguments(argv)
    by_figure = {figure.name: figure for figure in FIGURES}
    by_subject = {subject.name: subject for subject in SUBJECTS}
    if args.list:
        for figure in FIGURES:
            print(f"{figure.name:<24}{figure.title}")
        for subject in SUBJECTS:
            print(f"{subject.name:<24}{subject.why_absent() or subject.title}")
        return 0
    figures = [by_figure[name] for name in chosen(list(by_figure), args.figure)]
    subjects = [by_subject[name] for name in chosen(list(by_subject), args.subject)]
    args.limit = args.limit or (QUICK_LIMIT if args.quick else FULL_LIMIT)
    guard.enter(args.limit)
    # Whoever logs a worker's death does so into nothing: the table stays readable, and a
    # terminal's speed is nobody's merit.
    logging.getLogger().addHandler(logging.NullHandler())
    present = []
    for subject in subjects:
        if (absence := subject.why_absent()) is None:
            present.append(subject)
        else:
            print(f"benchmarks: without {subject.name}: {absence}", file=sys.stderr)
    if args.core is None:
        args.core = max(machine.cores())
    return 0 if run(args, figures, present) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
