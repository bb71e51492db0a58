"""``warmpool map``: wires arguments, standard streams, pool and loop; knows the exit statuses."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from typing import Any

from warmpool import RemoteTraceback, WarmPool, WarmpoolError
from warmpool.cli_arguments import UsageError, check_files, parse, reason_of
from warmpool.cli_io import Input, describe
from warmpool.cli_map import MapLoop
from warmpool.cli_news import News
from warmpool.cli_output import ErrorStream, FailuresFile, Output, WriteFailed
from warmpool.cli_target import UnusableTarget, load
from warmpool.cli_worker import warm_up
from warmpool.progress import make_progress

_FAILED = 1
_USAGE = 2
_BROKEN_PIPE = 128 + signal.SIGPIPE
_QUICK = 0.5
"""How long workers get to stop, in seconds, when somebody waits for the command to end."""

_WINDOW_PER_WORKER = 64
"""Items on their way: so many are done behind one that takes long before the others stand still."""


def run(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say.

    Args:
        argv: The arguments, without the program's name; by default those of the process.

    Returns:
        The exit status.

    Raises:
        KeyboardInterrupt: Ctrl-C while there was nothing to be written.
    """
    try:
        arguments, parser = parse(argv)
        try:
            if arguments.command == "top":
                from warmpool import cli_top

                return cli_top.run(arguments)
            return _run_map(arguments)
        except UsageError as error:
            parser.error(str(error))
    except SystemExit as leaving:  # argparse's way to say that it has answered the user itself
        return leaving.code if isinstance(leaving.code, int) else _USAGE
    except BrokenPipeError:
        return _BROKEN_PIPE


def _run_map(arguments: argparse.Namespace) -> int:
    sources = check_files(arguments.files, arguments.failures)
    with ExitStack() as stack:
        stdin, stdout = stack.enter_context(_claimed_streams())
        news = stack.enter_context(closing(News()))
        # Where an exception could leave the pool half started, signals are noted only.
        with news.noting_signals():
            try:
                with news.raising_too():
                    task = _load_task(arguments)
                    failures = _open_failures(arguments.failures)
            except KeyboardInterrupt:
                return 128 + (news.signal or signal.SIGINT)
            if failures is not None:
                stack.enter_context(closing(failures))
            stack.enter_context(news.noting_log())
            pool = _make_pool(arguments, task)
            stack.callback(pool.close, timeout=_QUICK)
            stream = ErrorStream()
            stack.callback(stream.finish, _QUICK / 2)
            progress = make_progress(
                stream,
                wanted=arguments.progress,
                from_terminal="-" in sources and os.isatty(stdin),
                to_terminal=os.isatty(stdout),
            )
            stack.callback(progress.stop)
            loop = MapLoop(
                task[0],
                pool.options(timeout=arguments.timeout, retries=arguments.retries),
                find_breakdown=lambda: _find_breakdown(pool),
                find_state=lambda: (pool.health.value, pool.stats().workers),
                source=stack.enter_context(closing(Input(sources, stdin, jsonl=arguments.jsonl))),
                output=stack.enter_context(closing(Output(stdout))),
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
        # From here on a signal has its usual effect: everything is written.
        progress.stop()
        if report.broken is not None:
            progress.say(f"stopped, because the pool is broken: {_explain(report.broken)}")
        if report.signal is not None:
            progress.say(f"stopped by {signal.Signals(report.signal).name}")
        progress.summarize(loop.snapshot())
        if report.signal is not None:
            return 128 + report.signal
        if report.broken is not None:
            return _FAILED
        pool.close()
        for text in news.take_messages():
            progress.say(text)
        return _FAILED if report.failed or report.unread else 0


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


_Task = tuple[Callable[[Any], Any], Callable[[], Any] | None]
"""Function and initializer."""


def _load_task(arguments: argparse.Namespace) -> _Task:
    _extend_path()
    function = _load("MODULE:FUNCTION", arguments.function, "")
    if arguments.initializer is None:
        return function, None
    return function, _load("--initializer", arguments.initializer)


def _load(argument: str, target: str, *values: object) -> Callable[..., Any]:
    try:
        return load(target, *values)
    except UnusableTarget as error:
        raise UsageError(f"argument {argument}: {error}") from error


def _open_failures(path: str | None) -> FailuresFile | None:
    if path is None:
        return None
    try:
        return FailuresFile(path)
    except (OSError, ValueError) as error:
        reason = f"cannot write {path!r}: {reason_of(error)}"
        raise UsageError(f"argument --failures: {reason}") from None


def _make_pool(arguments: argparse.Namespace, task: _Task) -> WarmPool:
    try:
        return WarmPool(
            max_workers=arguments.workers,
            initializer=warm_up,
            initargs=task,
            start_method=arguments.start_method,
            preload=arguments.preload,
            init_timeout=arguments.init_timeout,
            name="map",
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _find_breakdown(pool: WarmPool) -> BaseException | None:
    if pool.available:
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
