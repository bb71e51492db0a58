"""``template``: a process of the pool's own runs the preload once, and forks the workers.

It is held as a worker is: by a pidfd, with a lifeline and a flight recorder, so that its hangs have
a stack and its deaths a cause. All of it happens on the launcher's thread, except
:meth:`TemplateMethod.reload`. A template that dies while it is idle is replaced at once; workers
live on without it.

Its failures are those of the starts that wait for it: one attempt fails all the starts that were
ordered before it had failed, and the back-off is theirs.
"""

from __future__ import annotations

import os
import threading
import time
from logging import INFO, WARNING
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from warmpool import child, forkguard, forking, forkservers, preloading, servers
from warmpool.early import Early
from warmpool.errors import TemplateFailed
from warmpool.making import make_process
from warmpool.plan import News, Plan
from warmpool.spawning import Spawn
from warmpool.tray import Tray
from warmpool.upbringing import Unfit, Upbringing

ANSWER_PATIENCE = 10.0
"""Seconds that a template has to fork a worker. It takes milliseconds, unless it is stopped or
swapped out, or a hook of forks hangs."""
SHARE_OF_INIT_TIMEOUT = 0.9
"""The preload's part of ``init_timeout``: its hang is to be told with its stack, before the worker
that waits for it is given up."""
DEATH_PATIENCE = 0.25
"""Seconds between the end of a template's link and its death."""
OLD_ENOUGH = 1.0
"""Seconds that a template must have been ready to be replaced at once when it dies. Else the next
start replaces it, which has a back-off."""


class TemplateProcess:
    """A template that has preloaded. *Threads:* the launcher's, but for :meth:`kill`.

    Args:
        upbringing: Of that process.
        patience: Seconds that it has to fork a worker.

    Attributes:
        is_retired: Whether another has taken its place.

    Raises:
        OSError: There is no descriptor left.
    """

    def __init__(self, upbringing: Upbringing, patience: float) -> None:
        self._held = upbringing
        self._patience = patience
        self._ready_at = time.monotonic()
        with forkguard.making():
            # One of its own, for who is told of its death.
            self.watch = servers.Watch(os.dup(upbringing.process.watch))
        data = upbringing.process.data
        data.settimeout(patience)
        self.link = forking.Link(data)
        self.is_retired = False
        self._told = False
        self._was_killed = False

    def await_answer(self, status: int) -> None:
        """See :class:`warmpool.forking.Forker`.

        Raises:
            TemplateFailed: It has died, or hangs, and is killed.
        """
        watch = self._held.process.watch
        ready = wait([status, watch], self._patience) or wait([status, watch], 0)
        if not ready:
            self._told = self._was_killed = True
            raise self._held.hung(f"has not forked a worker within {self._patience:.4g} s")

    @property
    def is_lost(self) -> bool:
        """Whether it is dead, or will be in a moment: it must not be asked any more."""
        # A death by SIGKILL is seen when the process has been scheduled once more.
        return self._was_killed or self.is_dead

    @property
    def is_dead(self) -> bool:
        """Whether it is."""
        return servers.is_readable(self._held.process.watch)

    def death(self, patience: float = 0.0) -> TemplateFailed | None:
        """What it has died of, if it dies within so many seconds; once."""
        if self._told or not wait([self._held.process.watch], patience):
            return None
        self._told = True
        return self._held.died()

    @property
    def is_old_enough(self) -> bool:
        """Whether it was ready for long enough to be replaced at once."""
        return time.monotonic() - self._ready_at >= OLD_ENOUGH

    def retire(self) -> None:
        """Let it end when its last worker has, whose exit status it passes on."""
        self.is_retired = True
        self.link.finish()

    def kill(self) -> None:
        """SIGKILL it. *Threads:* any; never blocks."""
        self._was_killed = True
        self._held.kill()

    def end(self) -> None:
        """Kill and collect it, within a bound."""
        self.link.close()
        self._held.end()


class TemplateMethod:
    """See :class:`warmpool.start.StartMethod`."""

    name = "template"
    via_server = True
    pickles = True

    def __init__(self) -> None:
        self._plan = Plan("", 0.0)
        self._news = News(lambda _watch: None, lambda _error, _consequence, _level: None)
        # Held while a template is made or buried: the heir of a launcher that hung waits here until
        # break_off() ends what its predecessor waits for.
        self._lock = threading.Lock()
        self._spawn = Spawn()
        self._under_way: set[Upbringing] = set()
        """Templates that preload: one for starts, and those of reload()."""
        self._template: TemplateProcess | None = None
        self._retired: list[TemplateProcess] = []
        self._failure: TemplateFailed | None = None
        self._failed_at = 0.0
        self._fallback: forkservers.ForkServer | None = None
        self._closed = False

    def open(self, plan: Plan, news: News) -> None:
        self._plan = plan
        self._news = news

    # ------------------------------------------------------------------ workers

    def start(self, endpoints: child.Endpoints, name: str, ordered_at: float) -> BaseProcess:
        while True:
            template = self._living(ordered_at)
            if template is None:
                assert self._fallback is not None
                return self._fallback.start(endpoints, name, ordered_at)
            process = forking.Process(template, endpoints, name)
            try:
                process.start()
            except (EOFError, OSError) as error:
                # Without its traceback, which would keep the process's descriptors.
                failure: Exception = error.with_traceback(None)
            else:
                return process
            if template.is_retired:
                continue  # Just now, by reload(): the new one is to be asked.
            # Mostly it has died; the pidfd may tell a moment later.
            raise template.death(DEATH_PATIENCE) or failure

    def renew(self) -> None:
        if self._closed:
            return
        try:
            self._living(time.monotonic(), is_asked=False)
        except TemplateFailed as failure:
            # Without its traceback, whose frames would keep the template's channel open.
            failure = failure.with_traceback(None)
            self._news.server_failed(failure, "the next start tries again", WARNING)
        except Exception:
            # The system's limits, or the pool has ended. The launcher's thread must live on, and
            # nothing is lost: the next start tries again, and its failure is told of.
            return

    # ------------------------------------------------------------------ the template

    def _living(self, ordered_at: float, *, is_asked: bool = True) -> TemplateProcess | None:
        """A template that lives, as far as can be told; None: workers are started otherwise.

        Raises:
            TemplateFailed: It cannot be had.
        """
        with self._lock:
            self._bury_retired()
            spent = False
            if self._template is not None and self._template.is_lost:
                spent = not self._template.is_old_enough
                if (death := self._template.death(DEATH_PATIENCE)) is not None:
                    consequence = "it is to be replaced; its workers live on"
                    self._news.server_failed(death, consequence, WARNING)
                self._forget()
            if self._template is None and self._fallback is None and (is_asked or not spent):
                self._template = self._make_for(ordered_at)
            if self._closed:
                # The thread of a start that was left to itself comes to life when all is over.
                self._forget()
                raise ProcessLookupError("the pool has ended")
            return self._template

    def _make_for(self, ordered_at: float) -> TemplateProcess | None:
        if self._failure is not None and ordered_at <= self._failed_at:
            raise self._failure
        try:
            return self._introduce(self._make(self._spawn))
        except Unfit as unfit:
            self._fall_back(unfit)
            return None
        except TemplateFailed as failure:
            self._failure, self._failed_at = failure, time.monotonic()
            raise

    def _make(self, spawn: Spawn) -> TemplateProcess:
        plan = self._plan

        def start(early: Early, data: Connection, _tray: Tray | None) -> BaseProcess:
            title = f"warmpool: {plan.pool} template"
            boot = preloading.Boot(early, data, title)
            return spawn.start_at(preloading.main, boot, f"{plan.pool}-template")

        process = make_process(0, start, via_server=False)
        upbringing = Upbringing(plan.pool, process, plan.pickled_preload or b"")
        self._under_way.add(upbringing)
        limit = SHARE_OF_INIT_TIMEOUT * plan.init_timeout
        try:
            if self._closed:
                raise ProcessLookupError("the pool has ended")
            upbringing.see_through(limit)
            return TemplateProcess(upbringing, min(ANSWER_PATIENCE, limit))
        except BaseException:
            upbringing.end()
            raise
        finally:
            self._under_way.discard(upbringing)

    def _introduce(self, template: TemplateProcess) -> TemplateProcess:
        self._news.server_started(template.watch)
        return template

    def _fall_back(self, unfit: Unfit) -> None:
        self._fallback = forkservers.ForkServer()
        self._fallback.open(self._plan, self._news)
        if self._plan.pickled_preload is None:
            # It was the import of __main__. Nothing is lost but the template.
            consequence, level = "workers are started by 'forkserver' instead", INFO
        else:
            consequence = "workers are started by 'forkserver' instead, and each preloads by itself"
            level = WARNING
        self._news.server_failed(unfit.failure, consequence, level)

    def _forget(self) -> None:
        template, self._template = self._template, None
        if template is not None:
            template.end()

    def _bury_retired(self) -> None:
        for template in list(self._retired):
            if template.is_dead:
                self._retired.remove(template)
                template.end()

    def reload(self) -> None:
        """Have a new template preload, and then start workers from it.

        Raises:
            TemplateFailed: It failed. The old one stays.
            RuntimeError: There is no template, since the preload leaves threads.
            ProcessLookupError: The pool has ended meanwhile.

        *Threads:* any; blocks for as long as the preload takes, ``init_timeout`` at most, and as
        long again if a start waits for another template at this moment.
        """
        if self._fallback is not None:
            raise RuntimeError("there is no template: the preload leaves threads running")
        try:
            new = self._make(Spawn())
        except Unfit as unfit:
            raise unfit.failure from None
        except Exception:
            if self._closed:
                raise ProcessLookupError("the pool has ended") from None
            raise
        self._introduce(new)
        try:
            with self._lock:
                old, self._template = self._template, new
                if old is not None:
                    old.retire()
                    self._retired.append(old)
                if self._closed:
                    self._forget()
                    raise ProcessLookupError("the pool has ended")
        except BaseException:
            # A Ctrl-C as it waits for the lock, say: nobody else would end it.
            if self._template is not new:
                new.end()
            raise

    # ------------------------------------------------------------------ the end

    def break_off(self) -> None:
        # A start waits for the preload, or for the template's answer: its death ends both.
        self._spawn.break_off()
        for upbringing in list(self._under_way):
            upbringing.kill()
        if self._template is not None:
            self._template.kill()
        if self._fallback is not None:
            self._fallback.break_off()

    def abandon(self) -> None:
        # A template that preloads, be it for reload() or in place of one that died, keeps nobody's
        # start waiting: it would not be broken off.
        self._closed = True
        for upbringing in list(self._under_way):
            upbringing.kill()

    def close(self) -> None:
        self.abandon()
        self._forget()
        while self._retired:
            self._retired.pop().end()
        if self._fallback is not None:
            self._fallback.close()
