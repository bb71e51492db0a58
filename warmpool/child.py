"""Everything that runs in a worker process.

Import-light: a worker that serves cheap tasks should not pay for the host's side of the library.
Each way out of this process is marked ``# Way out:`` with what the supervisor will observe.

Two threads. The main thread runs initializer and tasks, and blocks reading the data channel
between them, so that a task starts without a thread hop. The control thread beats, so that the
supervisor sees a process that is stopped, and follows the host into its end where the kernel does
not see to that. What happens before any code of the user's is in :mod:`warmpool.early`.
"""

from __future__ import annotations

import _thread
import atexit
import os
import select
import signal
import socket
from multiprocessing.connection import Connection

from warmpool import early, parts, payload, wire
from warmpool.endpoint import Channel, as_socket, leave_with_host, take_over
from warmpool.interruptions import Interruptions
from warmpool.recorder import INTERRUPT_SIGNAL, Recorder
from warmpool.title import Title


class Terms:
    """What all workers of a pool have in common.

    Attributes:
        pool: The pool's name.
        heartbeat_intervals: Seconds between two heartbeats, with tasks and without.
        pickler: The pool's.
        log_level: From it on, what is logged here is forwarded; None: nothing.
        has_tray: Whether each has a tray.
        interpreter: Whether each is an interpreter of its own (``spawn``), which ends like any.
    """

    __slots__ = (
        "has_tray",
        "heartbeat_intervals",
        "interpreter",
        "log_level",
        "pickler",
        "pool",
    )

    def __init__(
        self,
        pool: str,
        heartbeat_intervals: tuple[float, float],
        pickler: str = "pickle",
        log_level: int | None = None,
        *,
        has_tray: bool = False,
        interpreter: bool = False,
    ) -> None:
        self.pool = pool
        self.heartbeat_intervals = heartbeat_intervals
        self.pickler = pickler
        self.log_level = log_level
        self.has_tray = has_tray
        self.interpreter = interpreter


class Endpoints:
    """What a worker holds of the world (I7): its own ends and nothing else.

    Small on purpose: with ``spawn``, ``Process.start()`` blocks for ever when what it has to
    write exceeds a pipe's buffer and the child dies before reading it (cpython#118981).

    Attributes:
        terms: What it has in common with the pool's other workers.
        worker: Its number.
        early: Its lifeline and flight recorder. Unpickled first of all.
        data: Its end of the data channel.
        tray: Its end of its tray, if it has one.
        inherited: Descriptors that the pickled initializer refers to (queues, locks).
        preload: What is to be preloaded here, pickled; None: nothing.
    """

    __slots__ = ("data", "early", "inherited", "preload", "terms", "tray", "worker")

    def __init__(
        self,
        terms: Terms,
        worker: int,
        early: early.Early | None,
        data: Connection | socket.socket,
        tray: Connection | socket.socket | None = None,
        inherited: tuple[payload.Descriptor, ...] = (),
    ) -> None:
        self.terms = terms
        self.worker = worker
        self.early = early
        self.data = data
        self.tray = tray
        self.inherited = inherited
        self.preload: bytes | None = None

    @property
    def name(self) -> str:
        """The process's, for ``multiprocessing``."""
        return f"{self.terms.pool}-{self.worker}"

    @property
    def descriptors(self) -> list[int]:
        """In the host: what :meth:`take_up` takes."""
        assert self.early is not None
        ends = [self.data] if self.tray is None else [self.data, self.tray]
        return [
            *self.early.descriptors,
            *(end.fileno() for end in ends),
            *(descriptor.detach() for descriptor in self.inherited),
        ]

    @classmethod
    def take_up(
        cls, terms: Terms, worker: int, installed: early.Installed, descriptors: list[int]
    ) -> Endpoints:
        """In a fork that is to be a worker: what descriptors that were sent are.

        Args:
            terms: The pool's.
            worker: Its number.
            installed: What the process has had installed that forked it.
            descriptors: In the order of the attribute.
        """
        data, *others = installed.exchange(descriptors)
        tray = as_socket(others.pop(0), socket.SOCK_SEQPACKET) if terms.has_tray else None
        inherited = tuple(map(payload.Descriptor, others))
        return cls(terms, worker, None, as_socket(data), tray, inherited)


class Inherited:
    """What a worker has as a copy of the host (``fork``), and does not get pickled."""

    __slots__ = ("initializer", "preload")

    def __init__(
        self,
        initializer: payload.Initializer = payload.NOTHING,
        preload: payload.Initializer = payload.NOTHING,
    ) -> None:
        self.initializer = initializer
        self.preload = preload


def main(endpoints: Endpoints, inherited: Inherited | None = None) -> None:
    """The target of the worker's ``Process``.

    Args:
        endpoints: Its own ends, and options.
        inherited: What it has to run. None: it comes over the data channel.
    """
    terms = endpoints.terms
    installed = early.installed()
    recorder = installed.recorder
    title = Title(f"warmpool: {terms.pool} {endpoints.worker}")
    # Not a threading.Thread, whose start takes half a millisecond in a process that has just been
    # forked. Nobody waits for it, and it calls nothing that asks for the current thread.
    _thread.start_new_thread(
        _follow_host, (installed.lifeline, recorder, terms.heartbeat_intervals, title)
    )
    global _pid
    _pid = os.getpid()
    tray = None if endpoints.tray is None else take_over(endpoints.tray)
    channel = Channel(take_over(endpoints.data), tray)
    interruptions = Interruptions(recorder, title)  # Before a task can come.
    if terms.log_level is not None:
        _forward_logs(terms.log_level, channel, interruptions, title)
    channel.send(wire.HELLO, 0, b"")
    if _initialize(channel, endpoints, inherited):
        title.stage = "idle"
        channel.send(wire.READY, 0, b"")
        _serve(channel, recorder, payload.dumper(terms.pickler), interruptions)
    title.stage = "stopping"
    # Way out: told to stop, or the initializer raised. Multiprocessing runs the Finalize hooks
    # and waits for non-daemonic threads and children; the supervisor's grace bounds that.
    if not terms.interpreter:
        # Only an interpreter of its own runs these by itself.
        atexit._run_exitfuncs()


def _forward_logs(level: int, channel: Channel, interruptions: Interruptions, title: Title) -> None:
    from warmpool.forwarding import Forwarder

    channel.share()
    Forwarder(
        level,
        lambda body: channel.send(wire.LOG, title.task, body),
        interruptions.held_off,
    ).install()


def _follow_host(
    lifeline: int, recorder: Recorder, intervals: tuple[float, float], title: Title
) -> None:
    # Else the kernel may have this thread take it, and a system call of the main thread goes on.
    signal.pthread_sigmask(signal.SIG_BLOCK, {INTERRUPT_SIGNAL})
    poll = select.poll()
    poll.register(lifeline, 0)  # Its end is always reported.
    interval, idle_interval = intervals
    pause, last, stage = interval, 0, ""
    while not poll.poll(pause * 1e3):
        recorder.beat()
        title.show()
        # One that rests need not be seen to live as often: a hundred of them are a load.
        rests = not title.task and title.stage == stage == "idle" and recorder.last_started == last
        last, stage = recorder.last_started, title.stage
        pause = idle_interval if rests else interval
    # Way out: the host closed the lifeline, or is gone; or user code has closed it here.
    leave_with_host()


def _initialize(channel: Channel, endpoints: Endpoints, inherited: Inherited | None) -> bool:
    kind, _, body = channel.receive()
    if kind == wire.STOP:
        return False
    note: str | None = PRELOAD_FAILED
    try:
        if inherited is not None:
            inherited.preload.run()
        elif endpoints.preload is not None:
            payload.load_initializer(endpoints.preload).run()
        note = None
        if inherited is not None:
            inherited.initializer.run()
        else:
            payload.load_initializer(body, endpoints.inherited).run()
    except BaseException as error:
        # SystemExit too: an initializer that calls sys.exit() has not made a warm worker.
        channel.send(wire.INITIALIZER_RAISED, 0, payload.dump_error(error, payload.dumps, note))
        return False
    return True


PRELOAD_FAILED = "preload raised"
"""The note with which the error of a preload travels that a worker has run."""


def _serve(
    channel: Channel, recorder: Recorder, dumps: parts.Dumps, interruptions: Interruptions
) -> None:
    receive, send, note_started = channel.receive, channel.send, recorder.note_started
    while True:
        kind, task, body = receive()
        if kind != wire.RUN:
            return
        # From here on user code runs, in the unpickling of arguments already.
        note_started(task)
        answer, result = run_task(body, dumps, task, interruptions)
        send(answer, task, result)
        # Arguments and result are let go before the next wait, not after it.
        del body, result


_pid = 0


def _end_if_forked(error: BaseException) -> None:
    """End a process that the task has forked and that would come back into our loop."""
    if os.getpid() == _pid:
        return
    # Way out: not the worker's. Nobody observes it but the task, by the status that any process
    # has that ends so.
    code = 1
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        code = error.code or 0
    else:
        import traceback

        text = f"{error.code}\n" if isinstance(error, SystemExit) else traceback.format_exc()
        os.write(2, text.encode("utf-8", "backslashreplace"))
    os._exit(code & 0xFF)


def _is_for_want_of_main(error: BaseException) -> bool:
    # By pickle's own words: somebody's __str__ is not to run here.
    said = error.args[0] if type(error) is AttributeError and error.args else None
    # "Can't get attribute 'f' on <module '__main__' ...>", or "module '__main__' has ..." (3.14).
    main = ("module '__main__'", "module '__mp_main__'")
    return type(said) is str and any(name in said for name in main)


def run_task(
    body: wire.Body, dumps: parts.Dumps, task: int, interruptions: Interruptions
) -> tuple[int, wire.Body]:
    """Run one task and give the kind and body of its answer, whatever it does."""
    try:
        function, args, kwargs = payload.load_task(body)
    except BaseException as error:
        note = "the task's function or arguments could not be unpickled in the worker"
        if _is_for_want_of_main(error):
            note += (
                " (its __main__ has nothing that was typed in, came by -c or standard input, or "
                "stands under if __name__ == '__main__': put it into a module, or use "
                "pickler='cloudpickle')"
            )
        return wire.RAISED, payload.dump_error(error, dumps, note)
    try:
        result = interruptions.call(task, function, args, kwargs)
        del function, args, kwargs
        try:
            return wire.RETURNED, dumps.result(result)
        except Exception as error:
            return wire.RAISED, payload.dump_error(
                error, dumps, "the task's result could not be pickled"
            )
    except BaseException as error:
        # SystemExit and KeyboardInterrupt too: they are the task's answer, not this process's.
        _end_if_forked(error)
        return wire.RAISED, payload.dump_error(error, dumps)
