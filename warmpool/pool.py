"""The public face: check arguments, pickle in the caller's thread, hand over, report."""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

from warmpool import config, events, failures, lifetime, payload
from warmpool.child import Terms
from warmpool.closing import Closable
from warmpool.config import TaskOptions
from warmpool.desk import Desk
from warmpool.errors import PoolSaturated
from warmpool.events import Health
from warmpool.future import TaskFuture
from warmpool.launcher import Launcher
from warmpool.lease import Submission
from warmpool.plan import Plan
from warmpool.pulse import beat_intervals
from warmpool.start import start_method as find_start_method
from warmpool.stats import PoolStats, stats_of
from warmpool.supervisor import Supervisor
from warmpool.views import UNCHANGED, TaskView

T = TypeVar("T")

_pool_numbers = itertools.count(1)


class WarmPool(Closable):
    """A pool of warm, supervised worker processes that cannot wedge.

    A ``concurrent.futures.Executor`` that takes ``ProcessPoolExecutor``'s arguments by their
    names. Every future settles, every place in the pool is refilled, and :meth:`close` ends.

    Args:
        max_workers: Never more processes than that. Default: the usable CPUs.
        mp_context: A ``multiprocessing`` context, for its start method.
        initializer, initargs: Runs in every worker's main thread before it is ready.
        max_tasks_per_child: Tasks after which a worker is replaced; 1: a fresh, warm process for
            every task; None: no limit.
        start_method: ``"template"`` (Linux, its default: a process of the pool's own runs
            ``preload`` once, and forks the workers), ``"forkserver"``, ``"spawn"`` or ``"fork"``.
        preload: Names of modules to import, or a callable to call, before the initializer: once in
            the template, whose workers share it by copy; with other start methods in each worker.
        min_idle: Workers that are kept ready ahead of demand; more are started for tasks that wait.
            None: all of ``max_workers``.
        idle_timeout: Seconds after which an unused worker above ``min_idle`` is retired.
        worker_lifetime: Seconds (give or take a tenth) after which a worker is retired, between
            tasks, when its replacement is warm or, without room for that, one at a time.
        init_timeout: Seconds from a worker's start to its being ready; past it, it is replaced.
        task_timeout: Seconds that a task may run, from dispatch; past it its worker is killed and
            the future fails with :class:`~warmpool.TaskTimeout`. None: no limit.
        queue_timeout: Seconds that a task may wait for a worker. None: no limit.
        max_queue: Tasks that may wait; more make :meth:`submit` raise
            :class:`~warmpool.PoolSaturated`. None: no limit.
        grace: Seconds between asking a worker to stop and SIGKILL.
        heartbeat_interval: Seconds between two heartbeats; at least four fit into the timeout.
        heartbeat_timeout: Seconds without a heartbeat after which a warm worker is killed and
            replaced, its task failing with :class:`~warmpool.WorkerUnresponsive`: it was stopped,
            swapped out, or foreign code held its interpreter's lock. A task that only keeps the
            main thread busy beats all the same. None: never.
        memory_limit: Bytes that a worker and its descendants may use, looked at once a second. A
            busy worker past it is killed and its task fails with
            :class:`~warmpool.MemoryLimitExceeded`; an idle one is retired. None: no limit.
        memory_warning: Bytes past which a line is logged.
        pickler: ``"cloudpickle"`` (an extra) for lambdas and local functions; None: pickle.
        name: For messages, threads and processes.
        on_event: Called with a frozen value of :mod:`warmpool.notices` for each thing that happens,
            in order, on a thread of its own; what it cannot keep up with is dropped, and counted.
        forward_logs: A level, True for the root logger's: from it on, workers' log records are
            handled here, by the loggers of their names, with ``pool``, ``worker`` and ``task``.
        monitor: Whether ``warmpool top`` can see the pool.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of its range.
        PayloadError: The initializer or the preload cannot be pickled.
        RuntimeError: Here no process can be started: this one is daemonic, or imports the main
            module for a worker, or the system has no threads left.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        start_method: str | None = None,
        preload: Any = None,
        min_idle: int | None = None,
        idle_timeout: float | None = None,
        worker_lifetime: float | None = None,
        init_timeout: float = 60.0,
        task_timeout: float | None = None,
        queue_timeout: float | None = None,
        max_queue: int | None = None,
        grace: float = 5.0,
        heartbeat_interval: float = config.DEFAULT_HEARTBEAT_INTERVAL,
        heartbeat_timeout: float | None = config.DEFAULT_HEARTBEAT_TIMEOUT,
        memory_limit: int | None = None,
        memory_warning: int | None = None,
        pickler: str | None = None,
        name: str | None = None,
        on_event: Callable[[Any], object] | None = None,
        forward_logs: bool | int = False,
        monitor: bool = False,
    ) -> None:
        settings = config.settings(
            max_workers=max_workers,
            max_tasks_per_child=max_tasks_per_child,
            min_idle=min_idle,
            idle_timeout=idle_timeout,
            worker_lifetime=worker_lifetime,
            init_timeout=init_timeout,
            grace=grace,
            max_queue=max_queue,
            heartbeat_interval=heartbeat_interval,
            heartbeat_timeout=heartbeat_timeout,
            memory_limit=memory_limit,
            memory_warning=memory_warning,
            forwards_logs=(log_level := config.log_level(forward_logs)) is not None,
            is_observed=on_event is not None,
        )
        config.check_others(initializer, initargs, on_event, name)
        config.check_duration("task_timeout", task_timeout, optional=True)
        self._options = TaskOptions(task_timeout, queue_timeout)
        method = find_start_method(config.start_method_name(start_method, mp_context))
        self._pickler, self._dumps = config.pickler_name(pickler)
        config.refuse_daemonic_parents()
        self._name = name or f"warmpool-{next(_pool_numbers)}"
        self._settings, self._method = settings, method
        self._tasks = itertools.count(1)
        plan = Plan(
            self._name,
            init_timeout,
            payload.Initializer(initializer, tuple(initargs)),
            config.preload(preload),
        )
        if method.pickles:
            plan = plan.pickle(self._dumps)
        try:
            terms = Terms(
                self._name,
                beat_intervals(heartbeat_interval, heartbeat_timeout),
                self._pickler,
                log_level,
                has_tray=settings.lays_out,
                interpreter=method.name == "spawn",
            )
            supervisor = Supervisor(
                self._name,
                settings,
                lambda report, news: Launcher(method, plan, terms, report, news),
                None if plan.first_frame else plan.first_message,
                on_event,
                config.about(self._name, method.name, settings.max_workers) if monitor else None,
            )
        except BaseException:
            plan.close()  # Out of descriptors, and these are some.
            raise
        self._desk = Desk(supervisor)
        self._unopened = [None]
        try:
            # Forgotten by its user, a pool finishes what it has, and ends.
            self._forgotten = weakref.finalize(self, lifetime.forget_pool, self._desk)
            self._forgotten.atexit = False  # See lifetime.
            # A module that workers import, to find a task in it, may make a pool. Workers of that
            # which were started at once would import the module too, and make pools, without end:
            # it opens when it is first used.
            if not (payload.is_loading() or config.imports_main()):
                self._open()
        except BaseException:
            # No thread left, or a Ctrl-C at any line of it: nobody else would end what there is.
            self._desk.abort()
            raise

    def _open(self) -> None:
        """Start supervisor and workers, unless that has been done."""
        config.refuse_endless_workers()
        try:
            self._unopened.pop()
        except IndexError:
            return
        try:
            lifetime.begin(self._desk, self._settings.grace)
        except BaseException:
            # No thread left, or a Ctrl-C at any line of it: nobody else would end what there is.
            self._desk.abort()
            raise

    # ------------------------------------------------------------------ tasks

    @property
    def _pool(self) -> WarmPool:
        return self  # Not an attribute: a circle would put off the end of a forgotten pool.

    def _submit(
        self,
        options: TaskOptions,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> TaskFuture[T]:
        desk = self._desk
        desk.ensure_open()
        if self._unopened:
            self._open()
        id = next(self._tasks)
        future: TaskFuture[T] = TaskFuture(desk, id, time.monotonic())
        try:
            body = self._dumps.task(fn, args, kwargs)
        except Exception as error:
            failure = failures.not_pickled(error, self._pickler)
            future.settle_failed(failure, time.monotonic())
            return future
        spec = events.TaskSpec(
            id,
            options.timeout,
            options.queue_timeout,
            options.retries,
            options.soft_timeout,
            fn.__qualname__ if type(fn) is FunctionType else payload.name_of(fn),
            len(body),
        )
        submission = Submission(spec, future, body)
        if self._settings.max_queue is None:
            desk.submit(submission)
            return future
        desk.admit(submission)
        if isinstance(saturated := future.refusal, PoolSaturated):
            raise saturated
        return future

    def options(
        self,
        *,
        timeout: float | None = UNCHANGED,
        queue_timeout: float | None = UNCHANGED,
        retries: int = UNCHANGED,
        soft_timeout: float | None = UNCHANGED,
    ) -> TaskView:
        """A light view of the pool whose tasks have other limits.

        Args:
            timeout: Seconds that a task may run; None: no limit.
            queue_timeout: Seconds that it may wait; None: no limit.
            retries: How often a task is run again whose worker died or was killed by a limit.
                What a task raises is its result and no cause to run it again.
            soft_timeout: Seconds after which :class:`~warmpool.SoftTimeout` is raised in the task,
                so that it can clean up; None: not at all.

        *Threads:* any; does not block.
        """
        return TaskView(self, self._options).options(
            timeout=timeout,
            queue_timeout=queue_timeout,
            retries=retries,
            soft_timeout=soft_timeout,
        )

    # ------------------------------------------------------------------ state

    @property
    def name(self) -> str:
        """The pool's name."""
        return self._name

    @property
    def max_workers(self) -> int:
        """The number of slots."""
        return self._settings.max_workers

    @property
    def start_method(self) -> str:
        """The start method in use."""
        return self._method.name

    @property
    def health(self) -> Health:
        """How the pool is. *Threads:* any; does not block."""
        return self._desk.health

    @property
    def available(self) -> bool:
        """Whether a task submitted now has a prospect: neither BROKEN nor CLOSED."""
        return self.health not in (Health.BROKEN, Health.CLOSED)

    def wait_warm(self, timeout: float | None = None) -> None:
        """Wait until every worker is warm.

        Args:
            timeout: Seconds; None for as long as it takes to get warm or to fail.

        Raises:
            WorkerError: The pool cannot get warm; this is the last cause.
            PoolClosed: It was closed.
            TimeoutError: It takes longer than the timeout.

        *Threads:* any; blocks.
        """
        config.check_duration("timeout", timeout, optional=True, zero=True)
        if self._unopened and not self._desk.has_ended:
            self._open()
        if not self._desk.wait_warm(timeout):
            self._desk.ensure_open()
            raise TimeoutError(
                f"pool {self._name!r} was not warm within {timeout} s: {self._describe()}"
            ) from self._desk.last_error()

    def reload(self) -> None:
        """Preload anew beside the workers, then replace those one by one, each when it is idle.

        New code, or a new model, without an outage; ``start_method="template"`` only.

        Raises:
            TemplateFailed: The preload failed. The old template stays, and so do the workers.
            PoolClosed: The pool is closed.
            RuntimeError: The pool has no template.

        *Threads:* any; blocks until the preload is done. Workers are replaced afterwards.
        """
        self._desk.ensure_open(may_be_broken=True)  # This may be what mends it.
        if self._unopened:
            self._open()
        self._desk.reload(self._method.reload)

    def stats(self) -> PoolStats:
        """Count what there is, all at one instant. *Threads:* any; blocks for a moment."""
        return stats_of(self._desk.census())

    def __repr__(self) -> str:
        return f"<WarmPool {self._name!r} {self.health.name} [{self._describe()}]>"

    def _describe(self) -> str:
        stats = self.stats()
        workers = ", ".join(f"{count} {state}" for state, count in stats.workers.items())
        return f"{workers or 'no workers'} | {stats.queued} queued"
