"""Tasks that log."""

from __future__ import annotations

import logging
import os
import signal
import threading

logger = logging.getLogger("tests.worker")


def greet() -> None:
    logger.info("hello")


def log_and_return(text: str) -> str:
    logger.info(text)
    return text


def log_and_fail(colour: str) -> None:
    logger.info("painting %s", colour)
    try:
        raise ValueError(colour)
    except ValueError:
        logger.exception("no paint")
        raise


def log_from_threads(threads: int, records: int) -> int:
    def log(thread: int) -> None:
        for record in range(records):
            logger.info("record %d of thread %d", record, thread)

    running = [threading.Thread(target=log, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return threads


def log_from_a_fork() -> int:
    """The exit status of the fork."""
    pid = os.fork()
    if pid == 0:
        logger.info("from a fork")
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    logger.info("from the worker")
    return os.waitstatus_to_exitcode(status)


def log_without_end() -> None:
    # A LogRecord looks for the name of the process under `except Exception: pass`, and takes a
    # SoftTimeout that comes just then for one of its own: once in some hundred.
    logging.logMultiprocessing = False
    count = 0
    while True:
        count += 1
        logger.info("record %d, %s", count, "x" * 1000)


def log_in_a_signal_handler(size: int) -> bytes:
    """Alarms go off while the answer is sent."""
    signal.signal(signal.SIGALRM, lambda *_: logger.info("alarm"))
    signal.setitimer(signal.ITIMER_REAL, 3e-3, 3e-3)
    threading.Timer(0.05, signal.setitimer, (signal.ITIMER_REAL, 0)).start()
    return b"x" * size


def log_nonsense() -> str:
    logger.warning("%d", "no number")
    return "done"
