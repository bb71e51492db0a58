"""The floor: a child process that echoes bytes over a pipe, without any pool around it."""

import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

from benchmarks import tasks
from benchmarks.stamp import Stamp
from benchmarks.subjects.base import Ability, Opening, Session, Subject

# As many bytes as a no-op task takes: what a pool at least has to carry.
PAYLOAD = pickle.dumps((tasks.noop, (), {}), protocol=pickle.HIGHEST_PROTOCOL)
# Messages, and bytes, under way to one child in a flood.  Without a bound both pipes would fill up,
# and host and child would wait for each other.
WINDOW = 64
WINDOW_BYTES = 65_536


class Echo:
    """One child and the pipe to it."""

    def __init__(self, start_method: str, target: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context(start_method)
        self.connection, theirs = context.Pipe()
        # Contexts share an interface; typeshed only knows their union.
        self.process = context.Process(  # type: ignore[attr-defined]
            target=target, args=(theirs, *arguments), daemon=True
        )
        self.process.start()
        theirs.close()

    def wait_ready(self) -> None:
        if self.connection.recv_bytes() != tasks.READY:
            raise RuntimeError("the echo began with something else")

    def run(self, function: object, *arguments: object) -> None:
        self.connection.send_bytes(b"")
        self.connection.send_bytes(pickle.dumps((function, arguments)))

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def close(self) -> None:
        self.kill()
        self.connection.close()
        self.process.close()


class BareSession:
    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._echoes = [self._new() for _ in range(opening.workers)]
        self._greeted = False

    def _new(self) -> Echo:
        target = tasks.serve_values if self._opening.values else tasks.serve
        return Echo(self._opening.start_method, target)

    def wait_ready(self) -> None:
        if not self._greeted:
            for echo in self._echoes:
                echo.wait_ready()
            self._greeted = True

    def assemble(self, workers: int) -> None:
        self.wait_ready()

    def vacate(self) -> None:
        """Its forks are gone before the next one is made."""

    def call(self) -> None:
        if not self._greeted:
            self.wait_ready()
        connection = self._echoes[0].connection
        connection.send_bytes(PAYLOAD)
        connection.recv_bytes()

    def flood(self, count: int) -> None:
        self._echo([PAYLOAD] * count)

    def map(self, count: int, chunk: int) -> None:
        answers = self._echo(
            [
                pickle.dumps((tasks.same, list(range(first, min(first + chunk, count)))))
                for first in range(0, count, chunk)
            ]
        )
        results = [item for answer in answers for item in pickle.loads(answer)[1]]
        if len(results) != count:
            raise RuntimeError("the map's results are others")

    def _echo(self, messages: list[bytes]) -> list[bytes]:
        connections = [echo.connection for echo in self._echoes]
        ways, count = len(connections), len(messages)
        window = max(1, min(WINDOW, WINDOW_BYTES // len(messages[0])))
        ahead = min(count, window * ways)
        for turn in range(ahead):
            connections[turn % ways].send_bytes(messages[turn])
        answers = []
        for turn in range(count):
            connection = connections[turn % ways]
            answers.append(connection.recv_bytes())
            if turn + ahead < count:
                connection.send_bytes(messages[turn + ahead])
        return answers

    def take(self, kind: str, megabytes: int) -> None:
        connection, value = self._echoes[0].connection, tasks.made(kind, megabytes)
        connection.send(("take", kind, megabytes))
        connection.send_bytes(value) if kind == "bytes" else connection.send(value)
        connection.recv_bytes()

    def give(self, kind: str, megabytes: int) -> None:
        connection = self._echoes[0].connection
        connection.send(("give", kind, megabytes))
        len(connection.recv_bytes() if kind == "bytes" else connection.recv())

    def die(self, stamp: Stamp) -> None:
        self._echoes[0].run(tasks.die, stamp.path)
        try:
            self._echoes[0].connection.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        raise RuntimeError("the task was meant to die, and answered")

    def revive(self) -> None:
        self._echoes[0].close()
        self._echoes[0] = self._new()
        self._greeted = False

    def overrun(self, lane: int, stamp: Stamp, limit: float) -> None:
        echo = self._echoes[lane]
        echo.run(tasks.oversleep, stamp.path, limit + 60.0)
        if echo.connection.poll(limit):
            raise RuntimeError("the task was meant to oversleep, and ended")
        echo.kill()

    def close(self) -> None:
        for echo in self._echoes:
            echo.close()


class ForkSession(BareSession):
    """Each worker is a process that has preloaded and forks a child for each message."""

    def _new(self) -> Echo:
        seconds = self._opening.preload or 0.0
        return Echo(self._opening.start_method, tasks.serve_forks, seconds)

    def die(self, stamp: Stamp) -> None:
        self._echoes[0].run(tasks.die, stamp.path)
        if self._echoes[0].connection.recv_bytes() != tasks.DIED:
            raise RuntimeError("the task was meant to die, and answered")

    def revive(self) -> None:
        """The next message gets a fork of its own, as each does."""


class BareEcho(Subject):
    name: ClassVar[str] = "bare"
    title: ClassVar[str] = "bare Connection, fork"
    abilities: ClassVar[frozenset[Ability]] = frozenset(Ability) - {Ability.QUEUE}

    def open(self, opening: Opening) -> Session:
        forks = opening.fresh or opening.preload is not None
        return ForkSession(opening) if forks else BareSession(opening)
