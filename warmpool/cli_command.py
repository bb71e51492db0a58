"""``warmpool map MODULE:FUNCTION [FILE ...]``: arguments, standard streams and exit statuses.

The work is in `warmpool.cli_map`.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from typing import Any

from warmpool import Health, RemoteTraceback, WarmPool, WarmpoolError, __version__, start
from warmpool.cli_io import FailuresFile, Input, Output, WriteFailed, describe
from warmpool.cli_map import MapLoop
from warmpool.cli_news import News
from warmpool.cli_target import UnusableTarget, load
from warmpool.cli_worker import warm_up
from warmpool.progress import make_progress

_FAILED = 1
_USAGE = 2
_BROKEN_PIPE = 128 + signal.SIGPIPE
_QUICK = 0.5
"""How long workers get to stop, in seconds, when somebody waits for the command to end."""

_WINDOW_PER_WORKER = 4
_STDIN_NAMES = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")

_EPILOG = """\
Without --jsonl an item is a line, empty or not, without its line end, as a string; bytes that are
no UTF-8 arrive as with os.fsdecode(). With --jsonl it is the JSON value of a line; blank lines are
skipped.

For each item, in the order of the input, one line of JSON goes to standard output:
  {"input": ..., "result": ...}                              it went well
  {"input": ..., "error": {"type": ..., "message": ...}}     it failed
Whatever the workers print goes to standard error. For each failed item, the failures file gets
  {"file": ..., "line": ..., "input": ..., "error": {"type": ..., "message": ..., "traceback": ...}}

Exit status: 0 all items went well; 1 some failed, or the run could not be finished; 2 wrong usage;
130 Ctrl-C, 143 SIGTERM: what was done is written; 141 the reader of the output has gone.
"""


class UsageError(Exception):
    """The arguments do not make sense; the text names the argument."""


def run(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say.

    Args:
        argv: The arguments, without the program's name; by default those of the process.

    Returns:
        The exit status.

    Raises:
        KeyboardInterrupt: Ctrl-C while there was nothing to be written.
    """
    parser, map_parser = _build_parsers()
    try:
        arguments = parser.parse_args(argv)
        try:
            return _run_map(arguments)
        except UsageError as error:
            map_parser.error(str(error))
    except SystemExit as leaving:  # argparse's way to say that it has answered the user itself
        return leaving.code if isinstance(leaving.code, int) else _USAGE
    except BrokenPipeError:
        return _BROKEN_PIPE


# -------------------------------------------------------------------------- arguments


def _build_parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(
        prog="warmpool",
        description="Run a function over lines of input in supervised, pre-warmed processes.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"warmpool {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    command = commands.add_parser(
        "map",
        help="call a function with each line of the input",
        description="Call MODULE:FUNCTION with each item of the FILEs (standard input: none, or -) "
        "in warm worker processes, and write the results in order while the input is being read.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = command.add_argument
    add("function", metavar="MODULE:FUNCTION", help="what to call; FUNCTION may be dotted")
    add("files", metavar="FILE", nargs="*", help="read one after the other")
    add("--jsonl", action="store_true", help="each input line is a JSON value, not a string")
    add(
        "--initializer",
        metavar="MODULE:FUNCTION",
        help="called without arguments in every worker before its first item",
    )
    add(
        "--workers",
        metavar="N",
        type=_positive_integer,
        help="how many processes (default: the CPUs)",
    )
    add("--timeout", metavar="SECONDS", type=_seconds, help="time limit of one item")
    add(
        "--retries",
        metavar="N",
        type=_count,
        default=0,
        help="how often an item is run again whose worker died or was killed for exceeding a "
        "limit; what FUNCTION raises is final (default: %(default)s)",
    )
    add(
        "--init-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=60.0,
        help="time limit for a worker to get warm (default: %(default)s)",
    )
    add("--start-method", choices=start.AVAILABLE, help="how workers are started")
    add("--failures", metavar="FILE", help="write failed items, with tracebacks, to this file")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="tell on standard error how it goes: by a bar on a terminal, else by lines",
    )
    return parser, command


def _positive_integer(text: str) -> int:
    number = _count(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be at least 1, not 0")
    return number


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 0:
        raise argparse.ArgumentTypeError(f"must not be negative: {text}")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text}")
    return number


def _check_files(files: Sequence[str], failures: str | None) -> list[str]:
    """Return the sources to read, after looking at each without opening it.

    Opening a named pipe only to look would end its writer.
    """
    sources = ["-" if file in _STDIN_NAMES else file for file in files or ["-"]]
    for source in sources:
        if source == "-":
            if sys.stdin is None:
                raise UsageError("argument FILE: standard input is closed")
            continue
        try:
            found = os.stat(source)
        except (OSError, ValueError) as error:
            raise UsageError(f"argument FILE: cannot read {source!r}: {_reason(error)}") from None
        if stat.S_ISDIR(found.st_mode):
            raise UsageError(f"argument FILE: {source!r} is a directory")
        if not os.access(source, os.R_OK):
            raise UsageError(f"argument FILE: cannot read {source!r}: permission denied")
        if failures is not None and os.path.exists(failures) and os.path.samefile(source, failures):
            raise UsageError(f"argument --failures: {failures!r} is an input file too")
    return sources


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


# -------------------------------------------------------------------------- running


def _run_map(arguments: argparse.Namespace) -> int:
    sources = _check_files(arguments.files, arguments.failures)
    with ExitStack() as stack:
        stdin, stdout = stack.enter_context(_claimed_streams())
        _extend_path()
        function = _load("MODULE:FUNCTION", arguments.function, "")
        initializer = None
        if arguments.initializer is not None:
            initializer = _load("--initializer", arguments.initializer)
        failures = None
        if arguments.failures is not None:
            failures = stack.enter_context(closing(_open_failures(arguments.failures)))
        source = stack.enter_context(closing(Input(sources, stdin, jsonl=arguments.jsonl)))
        news = stack.enter_context(closing(News()))
        stack.enter_context(news.noting_log())
        # Signals are only noted from here on: an exception in the middle of the pool's start, or of
        # a submit, would leave it in an unknown state.
        with news.noting_signals():
            pool = _make_pool(arguments, warm_up, (function, initializer))
            stack.callback(pool.close, timeout=_QUICK)
            progress = make_progress(
                wanted=arguments.progress,
                from_terminal="-" in sources and os.isatty(stdin),
                to_terminal=os.isatty(stdout),
            )
            stack.callback(progress.stop)
            loop = MapLoop(
                function,
                pool.options(timeout=arguments.timeout, retries=arguments.retries),
                find_breakdown=lambda: _find_breakdown(pool),
                find_state=lambda: (pool.health.value, pool.stats().workers),
                source=source,
                output=Output(stdout),
                failures=failures,
                progress=progress,
                window=_WINDOW_PER_WORKER * pool.max_workers,
                news=news,
            )
            try:
                report = loop.run()
            except WriteFailed as error:
                progress.say(str(error))
                return _FAILED
        progress.stop()
        if report.broken is not None:
            progress.say(f"stopped, because no worker gets warm: {_explain(report.broken)}")
        if report.signal is not None:
            progress.say(f"stopped by {signal.Signals(report.signal).name}")
        progress.summarize(loop.snapshot())
        if report.signal is not None:
            return 128 + report.signal
        pool.close(timeout=_QUICK if report.broken else None)
        return _FAILED if report.failed or report.unread or report.broken else 0


@contextmanager
def _claimed_streams() -> Iterator[tuple[int, int]]:
    """Keep standard input and output for this module alone, as two other descriptors.

    Workers, and the processes that they start, inherit the descriptors 0 and 1: one that reads
    would eat the input, one that prints would spoil the output. They find nothing to read, and
    print to standard error.
    """
    if sys.stdout is None:
        raise UsageError("standard output is closed")
    null = os.open(os.devnull, os.O_RDWR)
    while null <= 2:  # a standard stream was closed, and its number must not fall to a pipe
        null = os.open(os.devnull, os.O_RDWR)
    sys.stdout.flush()
    stdin, stdout = os.dup(0), os.dup(1)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    try:
        with redirect_stdout(sys.stderr):
            yield stdin, stdout
    finally:
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.close(stdin)
        os.close(stdout)


def _extend_path() -> None:
    """Let modules be found in the current directory, as for ``python -m``; workers follow."""
    if sys.flags.safe_path:
        return
    try:
        here = os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current directory has been removed") from None
    if here not in sys.path:
        sys.path.insert(0, here)


def _load(argument: str, target: str, *values: object) -> Callable[..., Any]:
    try:
        return load(target, *values)
    except UnusableTarget as error:
        raise UsageError(f"argument {argument}: {error}") from error


def _open_failures(path: str) -> FailuresFile:
    try:
        return FailuresFile(path)
    except (OSError, ValueError) as error:
        reason = f"cannot write {path!r}: {_reason(error)}"
        raise UsageError(f"argument --failures: {reason}") from None


def _make_pool(
    arguments: argparse.Namespace,
    initializer: Callable[..., Any],
    initargs: tuple[Any, ...],
) -> WarmPool:
    try:
        return WarmPool(
            max_workers=arguments.workers,
            initializer=initializer,
            initargs=initargs,
            start_method=arguments.start_method,
            init_timeout=arguments.init_timeout,
            name="map",
        )
    except (ValueError, NotImplementedError) as error:
        raise UsageError(str(error)) from None


def _find_breakdown(pool: WarmPool) -> BaseException | None:
    if pool.health is not Health.BROKEN:
        return None
    try:
        pool.wait_warm(timeout=0)
    except WarmpoolError as error:
        return error
    except TimeoutError:  # it is about to heal
        return None
    return None


def _explain(error: BaseException) -> str:
    """Return what the first cause of an error says, and where the worker was."""
    while error.__cause__ is not None and not isinstance(error.__cause__, RemoteTraceback):
        error = error.__cause__
    message: str = describe(error)["message"]
    lines = error.__cause__.tb.splitlines() if error.__cause__ is not None else []
    places = [line.strip() for line in lines if line.startswith("  File ")]
    return f"{message} ({places[-1]})" if places else message
