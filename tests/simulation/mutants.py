"""Bugs of the layers around the core that a simulation has to find, each a small change."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from warmpool import events as ev
from warmpool import process
from warmpool.channel import Channel
from warmpool.fleet import Fleet
from warmpool.future import TaskFuture
from warmpool.lending import Lender
from warmpool.loop import Loop
from warmpool.overtaking import Overtaken
from warmpool.settling import Settler
from warmpool.starts import Starts
from warmpool.supervisor import Supervisor


@dataclass(frozen=True)
class Mutant:
    """A bug."""

    what: str
    owner: Any
    name: str
    change: Callable[[Callable[..., Any]], Callable[..., Any]]
    """Makes the mutated function of the original."""

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Have the bug for a while."""
        original = getattr(self.owner, self.name)
        with mock.patch.object(self.owner, self.name, self.change(original)):
            yield


MUTANTS: dict[str, Mutant] = {}


def _mutant(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(change: Callable[..., Any]) -> Callable[..., Any]:
        title = change.__name__
        MUTANTS[title] = Mutant(title.replace("_", " "), owner, name, change)
        return change

    return register


# ---------------------------------------------------------------------------- descriptors


@_mutant(Fleet, "_unwatch_data")
def a_channel_is_closed_while_it_is_watched(original):
    def unwatch(self, held):
        held.listening = False

    return unwatch


@_mutant(Loop, "unmute")
def a_worker_is_not_heard_again_after_a_lease(original):
    return lambda self, descriptor: None


@_mutant(Fleet, "_release")
def what_a_dead_worker_had_stays_open(original):
    return lambda self, held: held.channel.close()


# ---------------------------------------------------------------------------- messages


@_mutant(Fleet, "_see_to_the_rest")
def the_rest_of_a_partial_write_is_lost(original):
    return lambda self, held, all_sent: None


@_mutant(Channel, "send_rest")
def the_rest_of_a_taken_task_is_lost(original):
    return lambda self, rest: True


@_mutant(Fleet, "_hear_last_words")
def last_words_are_not_heard(original):
    def hear(self, worker):
        held = self._held.get(worker)
        if held is not None:
            self._unwatch_data(held)
        original(self, worker)

    return hear


@_mutant(Fleet, "take_over")
def what_a_reader_has_left_is_thrown_away(original):
    return lambda self, worker, data: original(self, worker, None)


# ---------------------------------------------------------------------------- deaths


@_mutant(Fleet, "_collect_later")
def the_status_is_looked_for_only_once(original):
    return lambda self, worker, held, now, give_up_at: None


@_mutant(process.WorkerProcess, "_pid_is_ours")
def a_group_is_killed_whose_number_may_be_a_stranger_s(original):
    return lambda self: True


@_mutant(Starts, "_break_off_later")
def a_start_that_hangs_is_never_broken_off(original):
    return lambda self, worker: None


# ---------------------------------------------------------------------------- hand-offs


@_mutant(Supervisor, "_read_heartbeats")
def heartbeats_are_not_handed_on(original):
    return lambda self, command: None


@_mutant(Lender, "hear")
def what_was_taken_is_not_told(original):
    def hear(self, settler, handle):
        return original(
            self, settler, lambda event: isinstance(event, ev.TaskTaken) or handle(event)
        )

    return hear


@_mutant(Overtaken, "add")
def a_turn_that_was_overtaken_is_forgotten(original):
    return lambda self, worker, turn: None


@_mutant(Settler, "unpark")
def nobody_is_woken(original):
    return lambda self: self._to_unpark.clear()


@_mutant(TaskFuture, "_claim")
def a_task_is_both_cancelled_and_run(original):
    return lambda self: self.__dict__.get("_unclaimed", False) is True


@_mutant(Fleet, "empty_tray")
def what_is_left_in_a_tray_is_forgotten(original):
    return lambda self, worker: ()
