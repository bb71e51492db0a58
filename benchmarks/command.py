"""The command line of the benchmarks; see README.md."""

import argparse
import datetime
import logging
import os
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks import chart, guard, machine, report, summary
from benchmarks.figures import FIGURES
from benchmarks.figures.base import Conditions, Figure, Size
from benchmarks.run import measure
from benchmarks.subjects import PEERS, REFERENCES, SUBJECTS
from benchmarks.subjects.base import Subject

QUICK_LIMIT = 60.0
FULL_LIMIT = 900.0
# Packages beside the subjects' own that make a difference.
OTHERS = ("psutil", "setproctitle", "numpy")
PEER_NAMES = {peer.name for peer in PEERS}
# The part of the limit after which a run gives up the peers in what is left of it: better than to
# be ended before its last figures.
LATE = 0.7
# Left out of the lesser figures of a quick run.
ONLY_PEERS = PEER_NAMES - set(REFERENCES)
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
    add("--chart", type=Path, metavar="FILE", help="draw them as SVG into FILE, too")
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


def conditions(figure: Figure, size: Size, args: argparse.Namespace) -> Conditions:
    return Conditions(
        start_method=figure.start_method or args.start_method,
        core=args.core if figure.pinned else None,
        amount=size.amount,
        sample=size.sample,
        limit=size.limit,
    )


def run(args: argparse.Namespace, figures: Sequence[Figure], subjects: Sequence[Subject]) -> bool:
    """Measure and print; True if nobody failed, or only peers."""
    packages = [subject.package for subject in subjects if subject.package]
    records: dict[str, Any] = {}
    document: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "arguments": {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(args).items()
        },
        "machine": machine.facts([*packages, *OTHERS]),
        "figures": records,
    }
    if (load := os.getloadavg()[0]) > BUSY:
        print(f"benchmarks: the machine is busy (load {load:.1f}): trust the ratios, not the times")
    print("Each x column: this subject's time over that one's, median of the rounds; <1 is faster.")
    print("What is shown per second has ratios of time as well.\n")
    sound, start = True, time.monotonic()
    for figure in figures:
        size = figure.quick if args.quick else figure.full
        began = time.monotonic()
        late = began - start > LATE * args.limit
        invited = [
            one for one in subjects if one.name not in ONLY_PEERS or (size.peers and not late)
        ]
        if late and size.peers:
            print(f"benchmarks: the run is late: {figure.name} is without the peers")
        readings = measure(figure, invited, conditions(figure, size, args), size)
        title = figure.title.format(amount=size.amount)
        print(report.table(figure, title, readings), flush=True)
        elapsed = round(time.monotonic() - began, 2)
        records[figure.name] = {**report.record(figure, title, readings), "seconds": elapsed}
        if args.json:  # after each: a run that is ended early keeps what it has
            report.save(args.json, document)
        sound = sound and not any(
            reading.error for reading in readings if reading.subject not in PEER_NAMES
        )
    print(summary.table(document))
    if args.chart:
        args.chart.write_text(chart.draw(document), encoding="utf-8")
    return sound


def main(argv: Sequence[str]) -> int:
    args = arguments(argv)
    by_figure = {figure.name: figure for figure in FIGURES}
    by_subject = {subject.name: subject for subject in SUBJECTS}
    if args.list:
        for figure in FIGURES:
            title = figure.title.format(amount=(figure.quick if args.quick else figure.full).amount)
            print(f"{figure.name:<24}{title}")
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
    code = 0 if run(args, figures, present) else 1
    # Threads of a pool that is stuck would keep the interpreter from its end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
