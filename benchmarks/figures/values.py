"""How fast do large arguments and results travel?

The bound sends bytes as they are (`send_bytes`), and arrays as `Connection.send` pickles them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec

from benchmarks.figures.base import Block, Conditions, Figure, Size, Unit, opened
from benchmarks.subjects.base import Ability, NotAvailableError, Opening, Subject

KINDS = {"bytes": "bytes", "array": "a numpy array"}


@contextmanager
def prepare(
    subject: Subject, conditions: Conditions, *, kind: str, direction: str
) -> Iterator[Block]:
    if kind == "array" and find_spec("numpy") is None:
        raise NotAvailableError("numpy is not installed")
    opening = Opening(1, conditions.start_method, values=True)
    with opened(subject, opening) as session:
        session.wait_ready()
        carry = session.take if direction == "in" else session.give
        carry(kind, conditions.count)  # Makes the value, and the memory for it, on both sides.

        def sample() -> float:
            began = time.perf_counter()
            carry(kind, conditions.count)
            return (time.perf_counter() - began) / conditions.count

        yield lambda samples: [sample() for _ in range(samples)]


FIGURES = tuple(
    Figure(
        name=f"{kind}-{direction}",
        title=f"{{amount:g}} MB of {what} as {role}",
        needs=Ability.VALUES,
        prepare=partial(prepare, kind=kind, direction=direction),
        unit=Unit.MEGABYTES_PER_SECOND,
        full=Size(rounds=5, samples=3, amount=64, seconds=18),
        quick=Size(rounds=1, samples=1, amount=16, seconds=0.5, peers=False),
    )
    for kind, what in KINDS.items()
    for direction, role in (("in", "an argument"), ("out", "a result"))
)
