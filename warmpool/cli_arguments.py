"""The arguments of the command line, and the checks that need nothing but them."""

from __future__ import annotations

import argparse
import math
import os
import stat
import sys
from collections.abc import Sequence

from warmpool import __version__, config, start

_STDIN_NAMES = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")

_STDOUT_NAMES = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")

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


def _make_parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser of the whole command line, and those of the commands within it."""
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
        type=_workers,
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
    add(
        "--start-method",
        choices=start.AVAILABLE,
        default=start.AVAILABLE[0],
        help="how workers are started (default here: %(default)s)",
    )
    add(
        "--preload",
        metavar="MODULE,...",
        type=_modules,
        help="imported before the initializer, once for all workers with --start-method template",
    )
    add("--failures", metavar="FILE", help="write failed items, with tracebacks, to this file")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="tell on standard error how it goes: by a bar on a terminal, else by lines",
    )
    top = commands.add_parser(
        "top",
        help="show the pools of this user on this machine, live",
        description="Show every pool that was made with WarmPool(..., monitor=True): its workers, "
        "queue and rates; also of a host that hangs, and the last state of one that died.",
        allow_abbrev=False,
    )
    top.add_argument("--once", action="store_true", help="print one look as plain text")
    top.add_argument("--json", action="store_true", help="print one look as JSON")
    top.add_argument(
        "--interval",
        metavar="SECONDS",
        type=_seconds,
        default=1.0,
        help="between two looks (default: %(default)s)",
    )
    return parser, {"map": command, "top": top}


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    """Return the arguments, and the parser of their command for what is wrong with them.

    Ends the process if they are no arguments, or ask for help.
    """
    parser, commands = _make_parsers()
    arguments, rest = parser.parse_known_args(argv)
    command = commands[arguments.command]
    if arguments.command != "map":
        if rest:
            command.error(f"unrecognized arguments: {' '.join(rest)}")
        return arguments, command
    # argparse gives FILE its values with the first run of positionals: those that come after an
    # option are left over.
    end = rest.index("--") if "--" in rest else len(rest)
    if unknown := [word for word in rest[:end] if word.startswith("-") and word != "-"]:
        command.error(f"unrecognized arguments: {' '.join(unknown)}")
    arguments.files += rest[:end] + rest[end + 1 :]
    return arguments, command


def _modules(text: str) -> list[str]:
    names = text.split(",")
    try:
        config.preload(names)
    except TypeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return names


def _workers(text: str) -> int:
    number = _count(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be at least 1, not 0")
    if number > config.MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"must be at most {config.MOST_WORKERS}, not {text}")
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


def check_files(files: Sequence[str], failures: str | None) -> list[str]:
    """Return the sources to read, after looking at each without opening it.

    Opening a named pipe only to look would end its writer.

    Args:
        files: The arguments FILE.
        failures: The argument --failures.

    Raises:
        UsageError: One of them cannot be what it is meant for.
    """
    if failures in _STDOUT_NAMES:
        raise UsageError(f"argument --failures: {failures!r} is where the results go")
    sources = ["-" if file in _STDIN_NAMES else file for file in files or ["-"]]
    written = None if failures is None else _stat(failures)
    for source in sources:
        if source == "-":
            if sys.stdin is None:
                raise UsageError("argument FILE: standard input is closed")
            _refuse_to_overwrite(os.fstat(0), written, failures)
            continue
        try:
            found = os.stat(source)
        except (OSError, ValueError) as error:
            raise UsageError(f"argument FILE: cannot read {source!r}: {reason_of(error)}") from None
        if stat.S_ISDIR(found.st_mode):
            raise UsageError(f"argument FILE: {source!r} is a directory")
        if not os.access(source, os.R_OK):
            raise UsageError(f"argument FILE: cannot read {source!r}: permission denied")
        _refuse_to_overwrite(found, written, failures)
    return sources


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None  # Not there yet, or opening it will tell.


def _refuse_to_overwrite(
    read: os.stat_result, written: os.stat_result | None, failures: str | None
) -> None:
    if written is not None and stat.S_ISREG(read.st_mode) and os.path.samestat(read, written):
        raise UsageError(f"argument --failures: {failures!r} is an input file too")


def reason_of(error: Exception) -> str:
    """Return what went wrong with a file whose name the reader knows already."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
