"""Small worlds explored to their ends, and what shows that this finds bugs."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence

import pytest

from tests.exploration.case import MOST_FAILURES, Case
from tests.exploration.explore import Explorer, Report, key_of
from tests.exploration.moves import Move, moves
from tests.exploration.orders import counts, mixed, orders
from tests.exploration.snapshot import Camera
from tests.exploration.story import Storyteller
from tests.exploration.tray_mutants import MUTANTS
from tests.exploration.world import World
from tests.exploration.worlds import LARGE, SMALL


@functools.cache
def _explored(case: Case) -> Report:
    return Explorer(case).explore()


@pytest.mark.timeout(300)  # There is no clock in it, but much to do.
@pytest.mark.parametrize("name", SMALL)
def test_nothing_that_can_happen_in_a_small_world_breaks_a_promise(name):
    case = SMALL[name]
    report = _explored(case)
    print(f"{name}: {report}")
    assert report.violation is None, "\n" + Storyteller(case).tell(report.violation)
    assert report.is_complete


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_bug_is_found_and_told(name):
    mutant = MUTANTS[name]
    assert _explored(mutant.case).violation is None, "it is wrong without the bug, too"
    with mutant.applied():
        violation = Explorer(mutant.case).explore().violation
        assert violation is not None, "it was not found"
        assert violation.what.startswith(mutant.found_by)
        story = Storyteller(mutant.case).tell(violation)
    print(story)
    assert story.count("   [at ") == 1 + len(violation), "each step is told"
    assert f"WRONG: {violation.what}" in story


def test_a_story_has_names_that_last():
    """Snapshots name workers anew; whoever reads a story must not notice."""
    mutant = MUTANTS["a_silent_worker_is_thought_not_to_have_started"]
    with mutant.applied():
        violation = Explorer(mutant.case).explore().violation
        story = Storyteller(mutant.case).tell(violation)
    assert "worker 1 falls silent" in story
    assert "send task 1 to worker 2" in story
    assert "worker 3" not in story


# ------------------------------------------------------------------ what it all rests on

WORLDS = {**SMALL, **LARGE}


@pytest.mark.parametrize("name", WORLDS)
def test_a_snapshot_leaves_nothing_out_that_matters(name):
    """Walk at random in a world that is never made of a snapshot, beside one that always is."""
    case = WORLDS[name]
    camera = Camera(case)
    for seed in range(6):
        rng = random.Random(seed)
        real, copy = World(case), World(case)
        real.open()
        for _ in range(60):
            snapshot, workers, tasks = camera.take(real)
            camera.make(snapshot, copy)
            assert camera.take(copy)[0] == snapshot
            possible = [move for _, move in moves(copy)]
            if not possible:
                break
            move = rng.choice(possible)
            picks = [rng.randrange(8)] * 4  # The same for all, in whatever order they come up.
            outcomes = set()
            # Names may matter, and the real ones may be in any order.
            some, for_all = orders(snapshot, case.settings.min_idle is not None)
            for number, order in enumerate(some):
                if counts(move, number, for_all):
                    camera.make(mixed(snapshot, order), copy)
                    numbers = [order.index(place) + 1 for place in range(len(order))]
                    kind, *given = _renamed(move, numbers, {})
                    copy.picks = picks
                    getattr(copy, kind)(*given)
                    copy.check()
                    outcomes.add(key_of(camera.take(copy)[0]))
            kind, *given = _renamed(move, workers, {name: task for task, name in tasks.items()})
            real.picks, real.offered = picks, []
            getattr(real, kind)(*given)
            real.check()
            if _is_tired(real):
                break
            assert key_of(camera.take(real)[0]) in outcomes


def _is_tired(world: World) -> bool:
    """Whether a slot has failed so often that it counts as another one that has not quite as often.

    They get the same delays, but if one of them is to be tried, it is the first.
    """
    slots = world.core.roster.slots
    return len(slots) > 1 and any(slot.failures > MOST_FAILURES for slot in slots)


def _renamed(move: Move, workers: Sequence[int | None], tasks: Mapping[int, int]) -> Move:
    """The same move, of the real world's workers and tasks."""
    kind, *given = move
    if kind in _OF_WORKERS:
        given[0] = workers[given[0] - 1]
    if kind in _OF_TASKS:
        place = int(kind in _OF_WORKERS)
        given[place] = tasks.get(given[place], given[place])
    return (kind, *given)


_OF_TASKS = frozenset({"submit", "lease", "cancel", "cancelled", "withdraw", "kill_task"})


_OF_WORKERS = frozenset(
    {
        "lease",
        "pass_by",
        "spawn",
        "start_failed",
        "greet",
        "ready",
        "initializer_raised",
        "done",
        "lie",
        "garbage_before_start",
        "late",
        "close_channel",
        "fall_silent",
        "measure",
        "give_stack",
        "exit",
        "reap",
    }
)
