"""Tasks by other names: of those that have the same options it does not matter which is which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.exploration.codes import Snapshot


def named(place: tuple[Any, ...], names: Mapping[int, int]) -> tuple[Any, ...]:
    """A place whose tasks have these names."""
    one, *rest = place
    if not one:
        return place
    task, running, trays = one[3], one[4], one[12]
    if task:
        task = (names[task[0]], *task[1:])
    if trays:
        tray_at, reach, tray, behind, frames = trays
        trays = (
            tray_at,
            reach,
            tuple([(names[task[0]], *task[1:]) for task in tray]),
            tuple([names.get(id, id) for id in behind]),
            tuple([names.get(id, id) for id in frames]),
        )
    return ((*one[:3], task, names.get(running, running), *one[5:12], trays), *rest)


def renamed(snapshot: Snapshot, names: Mapping[int, int]) -> Snapshot:
    """A snapshot whose tasks have these names."""
    places, queue, *rest = snapshot
    return (
        tuple([named(place, names) for place in places]),
        tuple([((names[task[0]], *task[1:]), at) for task, at in queue]),
        *rest,
    )


def names_of(
    snapshot: Snapshot, alike: Mapping[int, int], twins: Mapping[int, Sequence[int]]
) -> dict[int, int]:
    """Names by which those come first that come first in a snapshot.

    Args:
        snapshot: Whose tasks they are.
        alike: All tasks, and the first one that has the same options.
        twins: Of each such first one all that have the same.

    Returns:
        For each task its name, which is another one's of those that are alike.
    """
    met: list[int] = []
    for one, *_ in snapshot[0]:
        if one:
            met += one[3][:1]
            if one[12]:
                met += [task[0] for task in one[12][2]]
    met += [task[0] for task, _ in snapshot[1]]
    free = {first: iter(all) for first, all in twins.items()}
    names = {id: next(free[alike[id]]) for id in met}
    for id, first in alike.items():
        if id not in names:
            names[id] = next(free[first])
    return names
