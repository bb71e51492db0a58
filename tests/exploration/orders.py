"""In which orders the places of a snapshot have to be tried, since the core goes by their names.

It does so in three cases. Of simultaneous deadlines, that of the first worker or slot comes first.
Of vacant slots that have failed as often, the first is filled first, if not all of them are. And of
trays in which there is as much, the first is emptied first.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any, TypeAlias

from tests.exploration.codes import LAID, NEVER, Snapshot
from tests.exploration.moves import IS_TIME, Move

Order: TypeAlias = tuple[int, ...]
"""Which place comes to stand where."""


def _deadlines(place: tuple[Any, ...]) -> set[float]:
    """All that a place waits for."""
    one, _, start_at, _, _ = place
    times = {start_at}
    if one:
        times |= {one[1], one[10]}
        if one[11]:
            times.add(one[11][0])
        if one[12]:
            times.add(one[12][0])
    return times - {NEVER}


def orders(snapshot: Snapshot, is_elastic: bool) -> tuple[list[Order], bool]:
    """Orders of the places, the present one first, and whether all moves are to be tried in each.

    Else only those are that handle deadlines.

    Args:
        snapshot: Whose places they are.
        is_elastic: Whether some slots may be left vacant.
    """
    places = snapshot[0]
    if len(places) == 1:
        return [(0,)], False
    if is_elastic and not all(place[0] for place in places):
        return _different(places, list(range(len(places)))), True
    if sum(bool(place[0]) and place[0][2] & LAID > 0 for place in places) > 1:
        return _different(places, list(range(len(places)))), True
    times = [_deadlines(place) for place in places]
    tied = [
        index
        for index, place in enumerate(places)
        if any(
            other != place and times[index] & times[number] for number, other in enumerate(places)
        )
    ]
    return _different(places, tied), False


def _different(places: tuple[Any, ...], tied: list[int]) -> list[Order]:
    """All orders of those that are tied, but for those that come to the same."""
    found: dict[tuple[Any, ...], Order] = {}
    for permutation in permutations(tied):
        order = list(range(len(places)))
        for to, source in zip(tied, permutation, strict=True):
            order[to] = source
        found.setdefault(tuple([places[source] for source in order]), tuple(order))
    return list(found.values())


def mixed(snapshot: Snapshot, order: Order) -> Snapshot:
    """The snapshot with its places in another order."""
    return (tuple([snapshot[0][source] for source in order]), *snapshot[1:])


def counts(move: Move, number: int, for_all: bool) -> bool:
    """Whether a move is to be tried in the order of this number."""
    return not number or for_all or move[0] in IS_TIME
