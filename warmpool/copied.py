"""The life of a zygote: what runs in the copy of the host that forks the workers."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any, NoReturn

from warmpool import child, early, forker, mending


def live(link: socket.socket, inherited: child.Inherited, mask: set[Any]) -> NoReturn:
    """Be a zygote, until the host closes the link or is gone.

    Args:
        link: The zygote's end.
        inherited: What its workers inherit.
        mask: Signals that the host had blocked. Now all are.
    """

    def serve() -> int:
        forker.inherited = inherited
        mending.mend()
        _drop_handlers()
        # Of its own: what a terminal sends to the foreground group is meant for the host.
        os.setpgid(0, 0)
        # SIGINT is unblocked once it is ignored.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask | {signal.SIGINT})
        forker.Forker(link, early.placeholder()).serve()
        return 0

    # Way out: nobody waits for workers any more. Or an error of ours: the next start finds out.
    forker.end_with(serve)


def _drop_handlers() -> None:
    # The host's are not to run here.
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
