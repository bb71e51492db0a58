"""What a host, and a round, have to say."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Report:
    """Figures, and what is wrong.

    Attributes:
        settled: How many tasks came to which end, by the pools' labels.
        faults: How often each was committed.
        closings: Seconds that ``close()`` took, the longest.
        lingering: Seconds that anything outlived a host that was killed, the longest.
        killed: Hosts that were.
        memory: MiB of the host at each calm moment.
        problems: What must not be.
    """

    settled: dict[str, dict[str, int]] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    closings: float = 0.0
    lingering: float = 0.0
    killed: int = 0
    memory: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Take another one in."""
        for label, endings in other.settled.items():
            self.settled[label] = dict(Counter(self.settled.get(label, {})) + Counter(endings))
        self.faults = dict(Counter(self.faults) + Counter(other.faults))
        self.closings = max(self.closings, other.closings)
        self.lingering = max(self.lingering, other.lingering)
        self.killed += other.killed
        self.memory += other.memory
        self.problems += other.problems

    def dumps(self) -> str:
        """As a line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, line: str) -> Report:
        """Read such a line."""
        found: dict[str, Any] = json.loads(line)
        return cls(**found)

    def __str__(self) -> str:
        total: Counter[str] = Counter()
        for endings in self.settled.values():
            total.update(endings)
        lines = [f"{sum(total.values())} tasks settled: {_counts(total)}"]
        lines += [f"  {label}: {_counts(Counter(self.settled[label]))}" for label in self.settled]
        lines.append(f"{sum(self.faults.values())} faults: {_counts(Counter(self.faults))}")
        lines.append(
            f"close() took {self.closings:.2f} s at most; of {self.killed} hosts that were killed "
            f"something lived on for {self.lingering:.2f} s at most; MiB: "
            + ", ".join(map(str, self.memory))
        )
        lines += [f"WRONG: {problem}" for problem in self.problems]
        return "\n".join(lines)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())
