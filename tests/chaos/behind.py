"""Tasks that went with a worker which another task had ruined.

A worker takes its next task from its tray by itself. One that has written garbage, and goes on, may
have done so before the host has read that and kills it; what it began in between is lost with it.
An error that says so is believed only if the task is found that did it.
"""

from __future__ import annotations

import signal
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
class _Lost:
    began: float | None
    error: WorkerError
    wrong: str | None


class Behind:
    """Which tasks were lost with their workers. *Threads:* one at a time."""

    def __init__(self) -> None:
        self._lost: dict[tuple[str, int | None], list[_Lost]] = {}

    def add(self, pool: str, began: float | None, error: WorkerError, wrong: str | None) -> None:
        """One more.

        Args:
            pool: Whose.
            began: When it was given to its worker.
            error: What it failed with.
            wrong: What is to be complained of, unless it was for another one; None: nothing.
        """
        lost = _Lost(began, error, wrong)
        self._lost.setdefault((pool, error.worker_id), []).append(lost)

    def unfounded(self) -> list[str]:
        """What was wrong with those that say so, where nobody else was the cause."""
        return [
            lost.wrong
            for all_of_a_worker in self._lost.values()
            for lost in all_of_a_worker
            if lost.wrong is not None
            and says_so(lost.error)
            and not any(_is_cause(other, lost) for other in all_of_a_worker)
        ]


def _is_cause(other: _Lost, lost: _Lost) -> bool:
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
