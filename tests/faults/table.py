"""The table of faults in README.md beside this: what the caller gets, and how fast.

The fault tests note in it what they have seen. With ``--faults-table FILE`` that goes into a file,
of which ``python -m tests.faults.table FILE`` makes the table; without, it has to be what it says.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.faults import FAULTS

PAGE = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
COMMAND = (
    "python -m pytest tests/faults/test_kill_matrix.py --faults-table FILE"
    " && python -m tests.faults.table FILE"
)

_HEAD = ("fault", "stage", "what the caller gets", "how fast: median (slowest), in ms")
_LINE = "|"

STAGES = (
    "starting",
    "initializing",
    "unpickling arguments",
    "in the task",
    "pickling the result",
    "writing the result",
    "idle",
    "leaving",
)
"""Of a worker's life, in this order."""

Key = tuple[str, str]
"""Of a row: fault and stage, in words."""


@dataclass(frozen=True)
class Note:
    """What one test has seen.

    Attributes:
        fault: Its name.
        stage: Where in a worker's life, or its task's, it was committed.
        gets: What the caller got.
        seconds: From the fault, or from the limit that ended it, until the caller had that. None:
            nobody waited for it.
        after: What the time counts from, if that is not the fault.
    """

    fault: str
    stage: str
    gets: str
    seconds: float | None
    after: str = ""


def words(error: BaseException | None) -> str:
    """An error as the table names it."""
    assert error is not None
    text = f"`{type(error).__name__}`"
    number = getattr(error, "signal", None)
    if number is not None:
        return f"{text}, {number.name}"
    exitcode = getattr(error, "exitcode", None)
    return text if exitcode is None else f"{text}, exit code {exitcode}"


def in_words(fault: str) -> str:
    """A fault as the table names it."""
    return fault.replace("_", " ")


class Table:
    """Takes notes, and compares them with the rows that there are.

    Args:
        file: Where the notes go; None: they have to be as the rows say.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._notes: list[Note] = []
        self._rows = {} if file is not None else rows()

    def note(
        self, fault: str, stage: str, gets: str, seconds: float | None = None, after: str = ""
    ) -> None:
        """Note what the caller got; fails if the table says otherwise. See :class:`Note`."""
        if self._file is not None:
            self._notes.append(Note(fault, stage, gets, seconds, after))
            return
        said = self._rows.get((in_words(fault), stage))
        assert said == gets, f"the table says {said!r} of this; make it anew: {COMMAND}"

    def save(self) -> None:
        """Write the notes down."""
        if self._file is not None:
            self._file.write_text(json.dumps([vars(note) for note in self._notes], indent=0))


# ------------------------------------------------------------------------------- the page


def rows(page: Path = PAGE) -> dict[Key, str]:
    """What the table says: of each fault and stage, what the caller gets."""
    _, _, rest = page.read_text().partition(BEGIN)
    found = {}
    for line in rest.partition(END)[0].splitlines():
        cells = [cell.strip() for cell in line.strip(_LINE).split(_LINE)]
        if len(cells) != len(_HEAD) or cells[0] in (_HEAD[0], "---"):
            continue
        faults, stages, gets, _ = cells
        for key in itertools.product(faults.split(", "), stages.split(", ")):
            assert key not in found, f"there are two rows of {key}"
            found[key] = gets
    return found


def render(notes: Iterable[Note]) -> str:
    """The table of these notes; faults and stages in which the caller gets the same are one row.

    Raises:
        ValueError: The same fault at the same stage came to different things.
    """
    gets: dict[Key, tuple[str, str]] = {}
    times: dict[Key, list[float]] = defaultdict(list)
    for note in notes:
        key, got = (note.fault, note.stage), (note.gets, note.after)
        if gets.setdefault(key, got) != got:
            raise ValueError(f"{note}: another time the caller got {gets[key]}")
        if note.seconds is not None:
            times[key].append(note.seconds)
    # First the stages of one fault that come to the same, then the faults that are alike in that.
    stages: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for fault, stage in sorted(gets, key=lambda key: STAGES.index(key[1])):
        stages[fault, *gets[fault, stage]].append(stage)
    alike: dict[tuple[tuple[str, ...], str, str], list[str]] = defaultdict(list)
    for (fault, *got), found in stages.items():
        alike[tuple(found), *got].append(fault)
    lines = [_row(*_HEAD), _row(*("---" for _ in _HEAD))]
    for (found, what, after), faults in alike.items():
        faults.sort(key=list(FAULTS).index)
        seconds = [second for key in itertools.product(faults, found) for second in times[key]]
        names = ", ".join(map(in_words, faults))
        lines.append(_row(names, ", ".join(found), what, _speed(seconds, after)))
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"{_LINE} {f' {_LINE} '.join(cells)} {_LINE}"


def _speed(seconds: list[float], after: str) -> str:
    if not seconds:
        return "nobody waits"
    middle, slowest = 1000 * statistics.median(seconds), 1000 * max(seconds)
    return f"{middle:.3g} ({slowest:.3g}){f' after {after}' if after else ''}"


def write(notes: list[Note], page: Path = PAGE) -> None:
    """Put the table of these notes into the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    made = (
        f"Made by `{COMMAND}`, of {len(notes)} faults, on {time.strftime('%Y-%m-%d')}, "
        f"{platform.system()} {platform.release().partition('-')[0]}, {platform.machine()}, "
        f"{os.cpu_count()} cores that others used too, Python {platform.python_version()}."
    )
    page.write_text(f"{before}{BEGIN}\n{made}\n\n{render(notes)}\n{END}{after}")


if __name__ == "__main__":
    write([Note(**note) for note in json.loads(Path(sys.argv[1]).read_text())])
