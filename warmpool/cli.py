"""The entry point of the command line.

It imports nothing by itself: a worker that is started by spawn imports the script ``warmpool``, and
with it this module, again; and a Ctrl-C during the imports of the rest is caught here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments, without the program's name; by default those of the process.

    Returns:
        The exit status.
    """
    try:
        import signal

        # Python drops what is raised in a weakref's callback, and importlib uses such callbacks:
        # a Ctrl-C could get lost. Blocked, it comes when the imports are done.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            from warmpool.cli_command import run
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return run(argv)
    except KeyboardInterrupt:
        return _INTERRUPTED
