"""Rules of the core: looking after workers that say nothing by themselves.

Heartbeats and memory are looked at now and then, as long as there is anybody to look at. What is
read may come late, or never, where reading a stuck process blocks: so memory is asked for of those
only whose last answer has come.
"""

from __future__ import annotations

from warmpool import events as ev
from warmpool.deadlines import Owner
from warmpool.events import ExitReason, FailureKind
from warmpool.lifecycle import BUSY, IDLE, INITIALIZING, WARM, Worker
from warmpool.staffing import Staffing
from warmpool.state import smallest_limit

MEMORY_INTERVAL = 1.0
"""Seconds between two looks at the workers' memory."""
_CALM = 0.9
"""Of ``memory_warning``: below it, the next excess is worth another line in the log."""

_GROWING = WARM | {INITIALIZING}


class Oversight(Staffing):
    """Who is silent, and who is too large."""

    def _watch_over(self, worker: Worker) -> None:
        if worker.state in WARM and self.pulses.begin(self._now):
            self._look_at_heartbeats_later()
        if self._memory_at is None and smallest_limit(self.settings) is not None:
            self._look_at_memory_later()

    # ------------------------------------------------------------------ heartbeats

    def _heartbeat_deadline_passed(self) -> None:
        warm = self.roster.in_states(WARM)
        self._out.append(ev.ReadHeartbeats(tuple(worker.id for worker in warm)))

    def _on_heartbeats_read(self, event: ev.HeartbeatsRead) -> None:
        warm = {w: n for w, n in event.beats.items() if self._is_warm_worker(w)}
        for silence in self.pulses.check(warm, self._now):
            worker, limit = self.roster[silence.worker], self.settings.heartbeat_timeout
            assert limit is not None
            if silence.is_fatal:
                failure = self._failure(
                    FailureKind.UNRESPONSIVE,
                    worker,
                    limit=limit,
                    silent=silence.seconds,
                    # Until the flight recorder has been asked.
                    started=worker.state is BUSY,
                )
                self._condemn(worker, failure)
            else:
                stage = worker.state.value
                self._out.append(
                    ev.ReportSilence(
                        worker.id, worker.pid, stage, worker.task, silence.seconds, limit
                    )
                )
        self._look_at_heartbeats_later()

    def _is_warm_worker(self, id: int) -> bool:
        worker = self.roster.workers.get(id)
        return worker is not None and worker.state in WARM

    def _look_at_heartbeats_later(self) -> None:
        if self.pulses.next_at is not None:
            self._note(self.pulses.next_at, Owner.PULSE, 0)

    # ------------------------------------------------------------------ memory

    def _look_at_memory_later(self) -> None:
        self._memory_at = self._now + MEMORY_INTERVAL
        self._note(self._memory_at, Owner.MEMORY, 0)

    def _memory_deadline_passed(self) -> None:
        self._memory_at = None
        if not self.roster.workers:
            return
        growing = self.roster.in_states(_GROWING)
        wanted = tuple(worker.id for worker in growing if worker.id not in self._memory_asked)
        if wanted:
            self._memory_asked.update(wanted)
            self._out.append(ev.ReadMemory(wanted))
        self._look_at_memory_later()

    def _on_memory_read(self, event: ev.MemoryRead) -> None:
        self._memory_asked.discard(event.worker)
        worker = self.roster.workers.get(event.worker)
        if worker is None or event.used is None or worker.state not in _GROWING:
            return
        worker.memory = used = event.used
        limit, warning = self.settings.memory_limit, self.settings.memory_warning
        if limit is not None and used > limit:
            self._grown_too_large(worker, used, limit)
        elif warning is not None and used > warning and not worker.memory_reported:
            worker.memory_reported = True
            self._out.append(self._memory_report(worker, used, warning, is_limit=False))
        elif warning is not None and used < _CALM * warning:
            worker.memory_reported = False

    def _grown_too_large(self, worker: Worker, used: int, limit: int) -> None:
        if worker.state is IDLE:
            if worker.id not in self.roster.due:
                self._out.append(self._memory_report(worker, used, limit, is_limit=True))
            self.roster.retire_soon(worker, ExitReason.OUT_OF_MEMORY)
            return
        failure = self._failure(
            FailureKind.OUT_OF_MEMORY,
            worker,
            limit=limit,
            used=used,
            task=self._describe_task(worker),
            started=worker.state is BUSY,
        )
        self._condemn(worker, failure)

    def _memory_report(
        self, worker: Worker, used: int, limit: int, *, is_limit: bool
    ) -> ev.ReportMemory:
        stage, task = worker.state.value, self._describe_task(worker)
        return ev.ReportMemory(worker.id, worker.pid, stage, task, used, limit, is_limit)

    def _describe_task(self, worker: Worker) -> str | None:
        if worker.task is None:
            return None
        name = self.book.tasks[worker.task].spec.name
        return f"task {worker.task}" + ("" if name is None else f" ({name})")
