"""Walks every sequence of events, breadth first: what it finds is found on a shortest way."""

from __future__ import annotations

import gc
import marshal
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tests.exploration.case import Case
from tests.exploration.codes import Snapshot
from tests.exploration.moves import IMPOSSIBLE, Move, moves
from tests.exploration.orders import counts, mixed, orders
from tests.exploration.snapshot import Camera
from tests.exploration.violation import Step, Violation, explain
from tests.exploration.ways import WAYS, Stuck, Way
from tests.exploration.world import World

PATIENCE = 400
"""Moves on one way, beyond which it leads nowhere."""
_GOAL = -1
_UNKNOWN = -2
_BEYOND = -1

Made: TypeAlias = tuple[Snapshot, int]


def key_of(snapshot: Snapshot) -> int:
    """A number for a snapshot: the same for equal ones, and for no others."""
    # With 64 bits, ten million states collide with a probability of three in a million. Version 2
    # of the format, since later ones depend on which objects are shared.
    return hash(marshal.dumps(snapshot, 2))


@dataclass
class Report:
    """What an exploration has found."""

    states: int = 0
    """Different ones, whatever faults may still come."""
    transitions: int = 0
    depth: int = 0
    """The length of the longest of the shortest ways to a state."""
    beyond: int = 0
    """States that were met on the ways to the goals only, after the last fault that is allowed."""
    is_complete: bool = True
    """Whether there is nothing else to be seen."""
    seconds: float = 0.0
    """Of the processor."""
    violation: Violation | None = None

    def __str__(self) -> str:
        return (
            f"{self.states:,} states{'' if self.is_complete else ' (there are more)'}, "
            f"{self.transitions:,} transitions, depth {self.depth}, {self.seconds:.1f} s, "
            f"{self.states / max(self.seconds, 1e-9):,.0f} states/s"
        )


class _Found(Exception):
    """There is a violation: it is in the report."""


class Explorer:
    """Explores a case.

    Args:
        case: The case.
        most: States after which to stop; None: all of them.
    """

    def __init__(self, case: Case, most: int | None = None) -> None:
        self.report = Report()
        self._case = case
        self._most = most
        self._camera = Camera(case)
        self._world = World(case)
        self._is_elastic = case.settings.min_idle is not None
        self._numbers: dict[int, int] = {}
        # By the number of a state:
        self._left = array("h")
        """How many faults might still come when it was met, at the most."""
        self._visit = array("q")
        """When it was met first."""
        self._next = {way: array("q") for way in WAYS}
        """The state after it on each way."""
        # By the number of a visit:
        self._before = array("q")
        self._steps: list[Step] = []

    def explore(self) -> Report:
        """Walk everywhere, or until something is wrong."""
        report, began = self.report, time.process_time()
        had_gc = gc.isenabled()
        gc.disable()  # There are no circles, but millions of tuples to look at.
        try:
            self._walk()
            self._find_circles()
        except _Found:
            pass
        finally:
            report.seconds = time.process_time() - began
            report.beyond = self._left.count(_BEYOND)
            report.states = len(self._left) - report.beyond
            if had_gc:
                gc.enable()
        return report

    # ------------------------------------------------------------------ the walk

    def _walk(self) -> None:
        report = self.report
        left = self._case.faults or 0
        first = self._origin = self._first()
        number = self._number(key_of(first), _BEYOND)
        self._check(_BEYOND)
        self._left[number], self._visit[number] = left, _BEYOND
        frontier = [(first, left, _BEYOND, number)]
        while frontier:
            later: list[tuple[Snapshot, int, int, int]] = []
            for snapshot, left, visit, number in frontier:
                made: dict[Move, Made] = {}
                following = self._following(snapshot, visit)
                for cost, step, after in self._successors(snapshot, visit, following):
                    key = key_of(after)
                    if not (step.order or any(step.picks)):
                        made[step.move] = after, key
                    left_after = left - cost
                    if left_after < 0:
                        continue
                    known = self._numbers.get(key)
                    if known is None:
                        known = self._number(key, len(self._steps))
                        is_new = True
                    elif self._left[known] >= left_after:
                        continue
                    else:
                        is_new = self._left[known] == _BEYOND
                    self._before.append(visit)
                    self._steps.append(step)
                    here = len(self._steps) - 1
                    self._left[known] = left_after
                    if is_new:
                        self._visit[known] = here
                        self._check(here)
                    later.append((after, left_after, here, known))
                self._go_on(number, following, made, visit)
                if self._most is not None and len(self._left) >= self._most:
                    report.is_complete = False
                    return
            frontier = later
            report.depth += bool(later)

    def _first(self) -> Snapshot:
        try:
            self._world.open()
            return self._camera.take(self._world)[0]
        except Exception as error:
            raise self._violation(error, ()) from error

    def _number(self, key: int, visit: int) -> int:
        number = self._numbers[key] = len(self._left)
        self._left.append(_BEYOND)
        self._visit.append(visit)
        for following in self._next.values():
            following.append(_UNKNOWN)
        return number

    def _successors(
        self, snapshot: Snapshot, visit: int, following: list[Move | None]
    ) -> Iterator[tuple[int, Step, Snapshot]]:
        """Make each move that is possible, and give what it costs in faults and comes to.

        Also the following ones on the ways, though they may be impossible in this case.
        """
        camera, world, roster = self._camera, self._world, self._world.core.roster
        places = snapshot[0]
        twins = [index + 1 for index in range(1, len(places)) if places[index] == places[index - 1]]
        possible = moves(world, twins)  # Nothing has been done to it since.
        others = set(following) - {None} - {move for _, move in possible}
        possible += [(IMPOSSIBLE, move) for move in others]
        some, for_all = orders(snapshot, self._is_elastic)
        original = snapshot
        for number, order in enumerate(some):
            if number:
                snapshot = mixed(original, order)
                if for_all:
                    camera.make(snapshot, world)
                    possible = moves(world)
            for cost, move in possible:
                if not counts(move, number, for_all):
                    continue
                picks: tuple[int, ...] | None = ()
                while picks is not None:
                    camera.make(snapshot, world)
                    failed, world.picks = roster.failed, picks
                    try:
                        getattr(world, move[0])(*move[1:])
                        after, *_ = camera.take(world)
                    except Exception as error:
                        step = Step(move, number, picks)
                        raise self._violation(error, (*self._way_to(visit), step)) from error
                    self.report.transitions += 1
                    failures = roster.failed - failed + world.faults
                    yield self._price(cost, failures), Step(move, number, picks), after
                    picks = _next(picks, world.offered)

    def _price(self, cost: int, failures: int) -> int:
        if cost == IMPOSSIBLE:
            return cost
        return 0 if self._case.faults is None else max(cost, failures)

    def _check(self, visit: int) -> None:
        try:
            self._world.check()
        except Exception as error:
            raise self._violation(error, self._way_to(visit)) from error

    def _way_to(self, visit: int) -> tuple[Step, ...]:
        steps = []
        while visit >= 0:
            steps.append(self._steps[visit])
            visit = self._before[visit]
        return tuple(reversed(steps))

    def _violation(
        self,
        error: BaseException,
        steps: tuple[Step, ...],
        then: tuple[Step, ...] = (),
        way: Way | None = None,
    ) -> _Found:
        name = None if way is None else way.__name__
        self.report.violation = Violation(*explain(error), steps, then, name)
        return _Found()

    # ------------------------------------------------------------------ the ways to the goals

    def _following(self, snapshot: Snapshot, visit: int) -> list[Move | None]:
        """The next moves on each of the ways."""
        self._camera.make(snapshot, self._world)
        moves = []
        for way in WAYS:
            try:
                moves.append(way(self._world))
            except Stuck as error:
                raise self._violation(error, self._way_to(visit), (), way) from error
        return moves

    def _go_on(
        self, number: int, following: list[Move | None], made: dict[Move, Made], visit: int
    ) -> None:
        """Note where each way leads from a state whose moves have been made."""
        for way, move in zip(WAYS, following, strict=True):
            if move is None:
                self._next[way][number] = _GOAL
                continue
            snapshot, key = made[move]
            after = self._numbers.get(key)
            if after is None:
                after = self._number(key, visit)
                self._camera.make(snapshot, self._world)
                self._check(visit)
            self._next[way][number] = after
            if self._left[after] == _BEYOND:
                self._follow(way, snapshot, after, visit, move)

    def _follow(self, way: Way, snapshot: Snapshot, number: int, visit: int, first: Move) -> None:
        """Follow a way until it comes to a state from which it is known, or will be."""
        world, camera, following = self._world, self._camera, self._next[way]
        then = [Step(first)]
        try:
            while self._left[number] == _BEYOND and following[number] == _UNKNOWN:
                camera.make(snapshot, world)
                move = way(world)
                if move is None:
                    following[number] = _GOAL
                    return
                then.append(Step(move))
                getattr(world, move[0])(*move[1:])
                snapshot, *_ = camera.take(world)
                key = key_of(snapshot)
                after = self._numbers.get(key)
                if after is None:
                    after = self._number(key, visit)
                    world.check()
                following[number] = number = after
                if len(then) > PATIENCE:
                    raise Stuck("it takes for ever")
        except Exception as error:
            raise self._violation(error, self._way_to(visit), tuple(then), way) from error

    def _find_circles(self) -> None:
        """See that no way goes round and round."""
        for way, following in self._next.items():
            seen = array("q", [0]) * len(following)
            for start in range(len(following)):
                number = start
                while number >= 0 and not seen[number]:
                    seen[number] = start + 1
                    number = following[number]
                if number >= 0 and seen[number] == start + 1:
                    self._report_circle(way, start)

    def _report_circle(self, way: Way, number: int) -> None:
        steps = self._way_to(self._visit[number])
        world, camera = self._world, self._camera
        snapshot = self._origin
        for step in steps:
            snapshot = self._made(snapshot, step)
        passed, then = set(), []
        while (key := key_of(snapshot)) not in passed:
            passed.add(key)
            camera.make(snapshot, world)
            step = Step(way(world) or ())
            then.append(step)
            snapshot = self._made(snapshot, step)
        raise self._violation(
            Stuck("the pool is busy for ever and gets nowhere"), steps, tuple(then), way
        )

    def _made(self, snapshot: Snapshot, step: Step) -> Snapshot:
        if step.order:
            snapshot = mixed(snapshot, orders(snapshot, self._is_elastic)[0][step.order])
        self._camera.make(snapshot, self._world)
        self._world.picks = step.picks
        getattr(self._world, step.move[0])(*step.move[1:])
        return self._camera.take(self._world)[0]


def _next(picks: tuple[int, ...], offered: list[int]) -> tuple[int, ...] | None:
    """What is to be picked after this, of so many each time; None: that was all."""
    full = [*picks, *[0] * (len(offered) - len(picks))]
    while full:
        last = full.pop() + 1
        if last < offered[len(full)]:
            return (*full, last)
    return None
