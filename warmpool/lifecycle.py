"""One worker: its states, and the one table of its transitions.

Rules:

1. Everything that moves a worker from state to state is in :data:`TRANSITIONS`; nobody assigns
   ``Worker.state`` but :meth:`Worker.move`.
2. A pair that is not in the table is refused and changes nothing.
3. States go one way: IDLE and BUSY alternate, every other move is forward, and DEAD is the end
   (I9). What outlives a worker (back-off, history) belongs to its slot.

A key of the table is the type of an event (something happened to the worker) or of a command
(the core decided something about it). ::

    STARTING ──► INITIALIZING ──► IDLE ⇄ BUSY ──► STOPPING ──► KILLING ──► DEAD

The line shows the longest way; from each state before it a worker may also be killed, and it may
exit in any state.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from warmpool import events as ev


class State(enum.Enum):
    """Where a worker is on its way."""

    STARTING = "starting"
    """Being started: the process may not exist yet, or imports ``__main__``."""
    INITIALIZING = "initializing"
    """The initializer runs."""
    IDLE = "idle"
    """Warm, waiting for a task."""
    BUSY = "busy"
    """Has a task."""
    STOPPING = "stopping"
    """Asked to leave, or about to: it gets no more tasks, and a deadline."""
    KILLING = "killing"
    """Its end is decided, and nothing it says counts any more: SIGKILL is sent, or will be as soon
    as its stack is written down, which has a deadline."""
    DEAD = "dead"
    """Gone and reaped."""

    # Members are compared by identity anyway; Enum's own hash is a Python function, on each look-up
    # in the table below.
    __hash__ = object.__hash__


STARTING, INITIALIZING, IDLE, BUSY = State.STARTING, State.INITIALIZING, State.IDLE, State.BUSY
STOPPING, KILLING, DEAD = State.STOPPING, State.KILLING, State.DEAD

WARM = frozenset({IDLE, BUSY})
WARMING = frozenset({STARTING, INITIALIZING})
LEAVING = frozenset({STOPPING, KILLING})
LIVE = frozenset(State) - {DEAD}

Input = type[ev.Event] | type[ev.Command]

# What a worker said before the kill reached it may be read after: its answer was given when the
# kill was decided, so it is heard and has no effect. The same holds for STOPPING after an end of
# file: readiness of both channels can be reported in either order.
_LATE: tuple[Input, ...] = (
    ev.WorkerSpawned,
    ev.WorkerGreeted,
    ev.WorkerReady,
    ev.InitializerRaised,
    ev.TaskDone,
    ev.WorkerBrokeProtocol,
    ev.WorkerChannelClosed,
    ev.StackTaken,
)


def _all(inputs: Iterable[Input], state: State) -> dict[Input, State]:
    return dict.fromkeys(inputs, state)


TRANSITIONS: dict[State, dict[Input, State]] = {
    STARTING: {
        ev.WorkerSpawned: STARTING,
        ev.WorkerGreeted: INITIALIZING,
        ev.WorkerChannelClosed: STOPPING,
        ev.WorkerStartFailed: DEAD,
        ev.WorkerExited: DEAD,
        ev.WorkerBrokeProtocol: KILLING,
        ev.TakeStack: KILLING,
        ev.KillWorker: KILLING,
    },
    INITIALIZING: {
        ev.WorkerReady: IDLE,
        ev.InitializerRaised: STOPPING,
        ev.WorkerChannelClosed: STOPPING,
        ev.WorkerExited: DEAD,
        ev.WorkerBrokeProtocol: KILLING,
        ev.TakeStack: KILLING,
        ev.KillWorker: KILLING,
    },
    IDLE: {
        ev.DispatchTask: BUSY,
        ev.TaskTaken: BUSY,
        ev.StopWorker: STOPPING,
        ev.WorkerChannelClosed: STOPPING,
        ev.WorkerExited: DEAD,
        ev.WorkerBrokeProtocol: KILLING,
        ev.TakeStack: KILLING,
        ev.KillWorker: KILLING,
    },
    BUSY: {
        ev.TaskDone: IDLE,
        # The caller cancelled in the instant of dispatch: the task was not sent.
        ev.TaskCancelled: IDLE,
        # It had not yet taken the task that it was believed to have.
        ev.TakenBack: IDLE,
        ev.WorkerChannelClosed: STOPPING,
        ev.WorkerExited: DEAD,
        ev.WorkerBrokeProtocol: KILLING,
        ev.TakeStack: KILLING,
        ev.KillWorker: KILLING,
    },
    STOPPING: {
        ev.WorkerChannelClosed: STOPPING,
        ev.WorkerExited: DEAD,
        ev.WorkerBrokeProtocol: KILLING,
        ev.KillWorker: KILLING,
    },
    KILLING: {
        **_all(_LATE, KILLING),
        ev.KillWorker: KILLING,
        ev.WorkerStartFailed: DEAD,
        ev.WorkerExited: DEAD,
        ev.AbandonWorker: DEAD,
    },
    DEAD: {},
}


class InvalidTransition(Exception):
    """A pair of state and input that the table does not have: a bug in warmpool, or a lie of
    the worker, which the core turns into a broken protocol.
    """


@dataclass(slots=True)
class Worker:
    """One process from its start to its reaping. Never reused (I9)."""

    id: int
    slot: int
    started_at: float
    deadline: float | None
    """When the core must act on it unasked (monotonic); what that means depends on the state."""
    state: State = STARTING
    pid: int | None = None
    task: int | None = None
    # Invariant: task is not None exactly in BUSY, in STOPPING after an end of file while BUSY, and
    # in KILLING as long as that waits for the stack, or for what is found in its tray.
    noted: int = 0
    """What its flight recorder says as long as it has not started the task that it has."""
    ready_at: float | None = None
    aged_at: float | None = None
    """When it will be too old."""
    soft_at: float | None = None
    """When its task is to be asked to end."""
    memory: int | None = None
    """Bytes that it and its descendants were last seen to use."""
    memory_reported: bool = False
    tasks_done: int = 0
    reason: ev.ExitReason | None = None
    """Why it is leaving; None as long as nobody here has decided that."""
    suspicion: ev.Failure | None = None
    """Why it is leaving, where its exit or its stack may yet tell more."""
    tray: deque[int] = field(default_factory=deque)
    """Tasks that are laid out for it, the next one first; see :mod:`warmpool.trays`."""
    tray_at: float | None = None
    """When what is still in its tray is to be taken back."""
    reach: int = 0
    """How many may be in it."""
    _moves: deque[tuple[float, Input, State]] = field(default_factory=lambda: deque(maxlen=12))

    @property
    def awaits_stack(self) -> bool:
        """Whether its kill waits for its stack."""
        return self.state is KILLING and self.deadline is not None

    def may_have_started(self, last_started: int) -> bool:
        """Whether it may have started its task, by what its flight recorder says.

        A task can scribble over that, and must not be run again for it: only what was there before
        the task came says that it never started.
        """
        return self.task is not None and last_started != self.noted

    @property
    def moved_at(self) -> float:
        """Since when it is in its state."""
        return self._moves[-1][0] if self._moves else self.started_at

    def allows(self, cause: Input) -> bool:
        """Whether the table has a transition from the present state."""
        return cause in TRANSITIONS[self.state]

    def move(self, cause: Input, now: float) -> State:
        """Go where the table says and return the state that was left.

        Raises:
            InvalidTransition: There is no such transition. Nothing has changed.
        """
        before = self.state
        after = TRANSITIONS[before].get(cause)
        if after is None:
            raise InvalidTransition(f"{cause.__name__} while worker {self.id} is {before.value}")
        self.state = after
        self._moves.append((now, cause, after))
        return before

    def note_passed(self, taken_at: float, done_at: float) -> None:
        """Note in the story that it had a task, of which the core has heard when it was over."""
        assert self.state is IDLE
        self._moves.append((taken_at, ev.TaskTaken, BUSY))
        self._moves.append((done_at, ev.TaskDone, IDLE))

    def story(self) -> tuple[str, ...]:
        """Its last transitions as lines of text, oldest first."""
        return tuple(
            f"+{at - self.started_at:.3f}s {cause.__name__} -> {state.value}"
            for at, cause, state in self._moves
        )
