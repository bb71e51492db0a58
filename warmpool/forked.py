"""A fork that is to be a worker, from both sides: in itself, and in the process that has made it.

It is told which worker it is over a socket of its own: two numbers, and the worker's descriptors.
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import struct
import sys
from multiprocessing import context
from typing import Any

from warmpool import child, early

ORDER = struct.Struct("=QQ")
"""The worker's number, and that which ``multiprocessing`` has given to its process."""
NO_SIGNAL: int = getattr(socket, "MSG_NOSIGNAL", 0)
"""Nobody is to die of another's end, whatever SIGPIPE does to this process."""
_CLOSED_BY_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_DESCRIPTORS_AT_MOST = 250
_ROOM = socket.CMSG_SPACE(_DESCRIPTORS_AT_MOST * array.array("i").itemsize)


class Worker(context.ForkProcess):
    """A worker's process object, inside the worker.

    In the process that forks, it is the model: each fork makes its own of it.

    Attributes:
        orders: Where it hears which worker it is.
        is_spare: Whether it is only told when ``multiprocessing`` has made ready.
        installed: What it exchanges for its own.
        stdin: What is to be read there.
    """

    orders: socket.socket
    is_spare: bool
    installed: early.Installed
    stdin: Any

    @classmethod
    def model(cls, state: dict[str, Any]) -> Worker:
        """A process object as the host has it, but of this class."""
        made = cls.__new__(cls)
        made.__dict__.update(state)
        return made

    @property
    def terms(self) -> child.Terms:
        """What the model has in the place of endpoints."""
        terms: child.Terms = self.__dict__["_args"][0]
        return terms

    def listen(self) -> None:
        """Wait to be told which worker it is, and become that."""
        order, ends, is_complete = receive(self.orders, ORDER.size)
        os.close(self.orders.detach())
        if not order:
            # Way out: nobody needs this fork any more.
            os._exit(0)
        if not is_complete:
            # Way out: there are not enough descriptors left for a worker, which dies of that.
            os._exit(os.EX_OSERR)
        number, process = ORDER.unpack(order)
        endpoints = child.Endpoints.take_up(self.terms, number, self.installed, ends)
        self.name = endpoints.name
        self._identity = (*self._identity[:-1], process)
        self._args = (endpoints,)

    def run(self) -> None:
        if self.is_spare:
            self.listen()
        sys.stdin = self.stdin
        super().run()


class Fork:
    """A fork, in the process that has made it: it waits to be told which worker it is."""

    def __init__(self, pid: int, orders: socket.socket) -> None:
        self.pid = pid
        self._orders = orders

    def tell(self, order: bytes, ends: list[int]) -> bool:
        """Tell it, once; False if it is dead."""
        try:
            with self._orders:
                socket.send_fds(self._orders, [order], ends, NO_SIGNAL)
        except BrokenPipeError:
            return False
        return True

    def forget(self) -> None:
        """It is dead, and collected."""
        self._orders.close()

    def dismiss(self) -> None:
        """End it, whatever it does. It is not collected, so its number is its own."""
        self._orders.close()
        # ProcessLookupError: a hook of forks has had it collected. PermissionError: one has taken
        # other privileges on; then it ends by its socket.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)


def receive(end: socket.socket, size: int) -> tuple[bytes, list[int], bool]:
    """So many bytes at most, the descriptors that come with them, and whether these are all."""
    data, ancillary, flags, _ = end.recvmsg(size, _ROOM, _CLOSED_BY_EXEC)
    descriptors = array.array("i")
    for _, _, numbers in ancillary:
        descriptors.frombytes(numbers[: len(numbers) - len(numbers) % descriptors.itemsize])
    if not _CLOSED_BY_EXEC:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
    return data, descriptors.tolist(), not flags & socket.MSG_CTRUNC
