"""The floor: a child process that echoes bytes over a pipe, without any pool around it."""

import multiprocessing
import pickle
from multiprocessing.connection import Connection
from typing import ClassVar

from benchmarks import tasks
from benchmarks.stamp import Stamp
from benchmarks.subjects.base import Ability, Subject

# As many bytes as a no-op task takes: what a pool at least has to carry.
PAYLOAD = pickle.dumps((tasks.noop, (), {}), protocol=pickle.HIGHEST_PROTOCOL)
# Messages under way to one child in a flood.  Without a bound both pipes would fill up, and
# host and child would wait for each other.
WINDOW = 64


class Echo:
    """One child and the pipe to it."""

    def __init__(self, start_method: str) -> None:
        context = multiprocessing.get_context(start_method)
        self.connection, theirs = context.Pipe()
        # Contexts share an interface; typeshed only knows their union.
        self.process = context.Process(  # type: ignore[attr-defined]
            target=tasks.serve, args=(theirs,), daemon=True
        )
        self.process.start()
        theirs.close()

    def wait_ready(self) -> None:
        if self.connection.recv_bytes() != tasks.READY:
            raise RuntimeError("the echo began with something else")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def close(self) -> None:
        self.kill()
        self.connection.close()
        self.process.close()


class BareSession:
    def __init__(self, workers: int, start_method: str) -> None:
        self._start_method = start_method
        self._echoes = [Echo(start_method) for _ in range(workers)]
        self._greeted = False

    def wait_ready(self) -> None:
        if not self._greeted:
            for echo in self._echoes:
                echo.wait_ready()
            self._greeted = True

    def call(self) -> None:
        if not self._greeted:
            self.wait_ready()
        connection = self._echoes[0].connection
        connection.send_bytes(PAYLOAD)
        connection.recv_bytes()

    def flood(self, count: int) -> None:
        connections = [echo.connection for echo in self._echoes]
        ways = len(connections)
        ahead = min(count, WINDOW * ways)
        for turn in range(ahead):
            connections[turn % ways].send_bytes(PAYLOAD)
        for turn in range(count):
            connection = connections[turn % ways]
            connection.recv_bytes()
            if turn + ahead < count:
                connection.send_bytes(PAYLOAD)

    def die(self, stamp: Stamp) -> None:
        connection = self._run(tasks.die, stamp.path)
        try:
            connection.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        raise RuntimeError("the task was meant to die, and answered")

    def revive(self) -> None:
        self._echoes[0].close()
        self._echoes[0] = Echo(self._start_method)
        self._greeted = False

    def overrun(self, stamp: Stamp, limit: float) -> None:
        connection = self._run(tasks.oversleep, stamp.path, limit + 60.0)
        if connection.poll(limit):
            raise RuntimeError("the task was meant to oversleep, and ended")
        self._echoes[0].kill()

    def close(self) -> None:
        for echo in self._echoes:
            echo.close()

    def _run(self, function: object, *arguments: object) -> "Connection[bytes, bytes]":
        connection: Connection[bytes, bytes] = self._echoes[0].connection
        connection.send_bytes(b"")
        connection.send_bytes(pickle.dumps((function, arguments)))
        return connection


class BareEcho(Subject):
    name: ClassVar[str] = "bare"
    title: ClassVar[str] = "bare Connection echo"
    abilities: ClassVar[frozenset[Ability]] = frozenset(Ability)

    def open(self, workers: int, start_method: str) -> BareSession:
        return BareSession(workers, start_method)
