"""Tasks that went with a worker which another task had ruined.

A worker takes its next task from its tray by itself. One that has written garbage, and goes on, may
have done so before the host has read that and kills it; what it began in between is lost with it.
An error that says so is believed only if the task is found that did it.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos import kinds
from warmpool import WorkerError

_TEXT = "by the pool, for what another task of the same worker had done"

_CULPRITS = frozenset({kinds.BROKE, kinds.LATE, kinds.SILENT, kinds.LARGE})
"""For what the pool kills a worker by itself."""


def says_so(error: WorkerError) -> bool:
    """Whether an error says that its worker was killed for another task."""
    return (
        type(error).__name__ == kinds.DIED
        and error.signal == signal.SIGKILL
        and error.stage == "busy"
        and error.started
        and _TEXT in str(error)
    )


@dataclass
class Lost:
    """A task that has failed with its worker.

    Attributes:
        number: Its own.
        began: When it was given to the worker.
        error: What it has failed with.
        wrong: What is to be complained of, unless it was for another one; None: nothing.
    """

    number: int
    began: float | None
    error: WorkerError
    wrong: str | None


class Behind:
    """Which tasks were lost with their workers. *Threads:* one at a time."""

    def __init__(self) -> None:
        self._lost: dict[tuple[str, int | None], list[Lost]] = {}

    def add(self, pool: str, lost: Lost) -> None:
        """One more of a pool's."""
        self._lost.setdefault((pool, lost.error.worker_id), []).append(lost)

    def unfounded(self, runs: Counter[int]) -> Iterator[str]:
        """What was wrong with those that say so, and were not lost for that.

        Args:
            runs: How often each was run.
        """
        for lost in self._lost.values():
            claims = [each for each in lost if each.wrong is not None and says_so(each.error)]
            claims.sort(key=lambda claim: claim.began or 0.0)
            for claim in claims:
                assert claim.wrong is not None
                if not any(_is_cause(other, claim) for other in lost):
                    yield claim.wrong
                elif not runs[claim.number] and claim is not claims[-1]:
                    # The one that was being begun may not have come to any line; what lay behind
                    # that was to be taken back.
                    yield f"it was never begun, and others behind it are lost: {claim.wrong}"


def _is_cause(other: Lost, lost: Lost) -> bool:
    """Whether the pool has killed their worker for the other, with nothing between these two."""
    if other.wrong is not None or type(other.error).__name__ not in _CULPRITS:
        return False
    if other.error.pid != lost.error.pid or other.began is None or lost.began is None:
        return False
    *before, end = lost.error.story
    kills = 0
    while before and before[-1].endswith("-> killing"):
        before.pop()
        kills += 1
    was_killed = kills > 0 and end.endswith("-> dead")
    return other.began <= lost.began and was_killed and before[-1:] == [*other.error.story[-1:]]
