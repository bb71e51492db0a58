"""Whatever parses bytes that another process wrote, as functions of bytes that check themselves.

Hypothesis calls them (``tests/property/test_parsers.py``), and so does atheris, which is led by the
code that a byte reaches (``python -m tests.fuzz``). Each has to come through any bytes at all, and
says what is to come of them: nothing else may be raised, nothing grow with what a header promises.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from warmpool import (
    billboard,
    cli_top_view,
    errors,
    failures,
    forker,
    forking,
    payload,
    process,
    pulse,
    relay,
    servers,
    stacks,
    turns,
    upbringing,
    watching,
    wire,
)
from warmpool.events import Failure, FailureKind, TaskSpec
from warmpool.recorder import SIZE, STACK_AT, Recorder

TARGETS: dict[str, Callable[[bytes], None]] = {}


def target(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
    TARGETS[function.__name__] = function
    return function


# ------------------------------------------------------------------------------- the channels


def pieces(data: bytes) -> Iterator[bytes]:
    """Data in pieces whose sizes its first bytes say; the others are what is cut."""
    if not data:
        return
    count = data[0] % 8
    sizes, data = data[1 : 1 + count], data[1 + count :]
    for size in sizes:
        if not data:
            return
        yield data[: size + 1]
        data = data[size + 1 :]
    if data:
        yield data


Said = tuple[int, int, list[bytes]]
"""Kind, task, the buffers that went ahead of the body, and that."""


def messages_in(data: bytes, kinds: frozenset[int], most: int) -> tuple[list[Said], bool]:
    """What the protocol says of bytes, all of them there at once: messages, and is it broken."""
    messages: list[Said] = []
    ahead: list[bytes] = []
    belongs_to = None
    while data:
        if data[0] not in kinds:
            return messages, True
        if len(data) < wire.HEADER.size:
            break
        kind, task, length = wire.HEADER.unpack_from(data)
        whole = (wire.PART_OF.get(kind, kind), task)
        if sum(map(len, ahead)) + length > most or (ahead and whole != belongs_to):
            return messages, True
        if len(data) < wire.HEADER.size + length:
            break
        ahead.append(data[wire.HEADER.size : wire.HEADER.size + length])
        belongs_to = whole
        if kind not in wire.PART_OF:
            messages.append((kind, task, ahead))
            ahead = []
        data = data[wire.HEADER.size + length :]
    return messages, False


def said(message: wire.Message) -> Said:
    kind, task, body = message
    if isinstance(body, wire.Parted):
        return kind, task, [*map(bytes, body.parts), bytes(body.body)]
    return kind, task, [bytes(body)]


def read_messages(data: bytes, kinds: frozenset[int], most: int = wire.MAX_BODY) -> None:
    """A reader gives what the protocol says, however the bytes are split, and holds no more."""
    reader = wire.Reader(kinds, most)
    parts = list(pieces(data))
    got: list[wire.Message] = []
    fed = 0
    for part in parts:
        got += reader.feed(part)
        fed += len(part)
        assert reader._body.size - reader._body.missing + len(reader._start) <= fed
    messages, is_broken = messages_in(b"".join(parts), kinds, most)
    assert [said(message) for message in got] == messages
    assert (reader.broken is not None) == is_broken
    if not is_broken:
        assert reader.missing <= most


@target
def what_a_worker_says(data: bytes) -> None:
    read_messages(data, wire.FROM_WORKER)


@target
def what_a_worker_is_told(data: bytes) -> None:
    read_messages(data, wire.TO_WORKER)


@target
def what_a_template_says_in_small(data: bytes) -> None:
    read_messages(data, wire.FROM_TEMPLATE, 64)


@target
def an_answer_that_a_waiter_reads(data: bytes) -> None:
    """Past the reader: whoever waits in ``result()`` takes whole answers to its own task alone."""
    steps = turns.Steps(-1, lambda _size, _flags: data)
    turn = turns.Turn(steps, TaskSpec(7), 0.0, mock.Mock())
    assert turn.step()
    answer = turn.answer()
    messages, is_broken = messages_in(data, wire.FROM_WORKER, wire.MAX_BODY)
    is_whole = len(messages) == 1 and wire.HEADER.size + len(messages[0][2][-1]) == len(data)
    kinds = (wire.RETURNED, wire.RAISED)
    if not is_broken and is_whole and messages[0][0] in kinds and messages[0][1] == 7:
        assert answer == (messages[0][0], messages[0][2][-1])
    else:
        assert answer is None


# ------------------------------------------------------------------------------- inside messages


@target
def a_report_of_an_error(data: bytes) -> None:
    note, summary, text, pickled = payload._unpack(data)
    assert isinstance(summary, str)
    assert isinstance(text, str)
    assert note is None or isinstance(note, str)
    assert len(pickled or b"") <= len(data)
    assert payload.error_summary(data) == summary
    assert payload.error_text(data) == text
    assert payload.error_note(data) == note
    # The supervisor's side of it: an error with all that is known, and nothing unpickled.
    with mock.patch("pickle.loads", side_effect=AssertionError("unpickled")):
        failure = Failure(FailureKind.INITIALIZER_RAISED, worker=1, pid=2, remote=data)
        assert str(failures.to_error(failure, "pool"))


@target
def a_log_record(data: bytes) -> None:
    fields = relay.Relay._decoded(data)
    assert isinstance(fields["name"], str)
    assert isinstance(fields["levelno"], int)


# ------------------------------------------------------------------------------- the template


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets that are connected."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@target
def what_a_template_says(data: bytes) -> None:
    """Seen by the host: it is ready, or unfit, or has failed in a way that has a name."""
    with pair() as (ours, theirs):
        ours.setblocking(False)
        process_ = SimpleNamespace(data=ours, watch=-1, pid=1)
        growing = upbringing.Upbringing("pool", process_, b"")  # type: ignore[arg-type]
        # Nothing else may be raised.
        with contextlib.suppress(errors.TemplateFailed, upbringing.Unfit):
            for part in pieces(data):
                theirs.sendall(part)
                growing._listen()
            assert growing._stage in ("starting", "preloading", "ready")


@target
def the_birth_of_a_worker(data: bytes) -> None:
    """What a zygote or a template answers: a pid that can be one, or an error of the system's."""
    if not data:
        return
    with pair() as (ours, theirs):
        sent = [os.open(os.devnull, os.O_RDONLY)] if data[0] % 2 else []
        try:
            if data[1:]:
                socket.send_fds(theirs, [data[1:]], sent)
            theirs.close()
            before = descriptors()
            try:
                pid, watch = forking.receive_birth(ours.fileno())
            except (EOFError, OSError):
                assert descriptors() == before, "a descriptor stays behind"
            else:
                assert 0 < pid < 1 << 31
                watch.close()
                assert descriptors() == before
        finally:
            for descriptor in sent:
                os.close(descriptor)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@target
def the_pid_that_a_server_tells(data: bytes) -> None:
    """The same of the standard library's fork server, over a pipe."""
    reading, writing = os.pipe()
    try:
        os.write(writing, data[:4096])
        os.close(writing)
        popen = servers.Popen.__new__(servers.Popen)
        popen.sentinel = reading
        try:
            popen.read_pid()
        except (EOFError, OSError):
            pass
        else:
            assert 0 < popen.pid < 1 << 31
    finally:
        os.close(reading)


@target
def requests_to_a_forker(data: bytes) -> None:
    """A template's side of the link: each request is answered, or the link has ended."""
    with pair() as (host, link), pair() as (answers, handed), pair() as (_, parent):
        forker_ = forker.Forker.__new__(forker.Forker)
        forker_._link, forker_._spare, forker_._model = link, None, mock.Mock()
        if data:
            link_ends = [handed.fileno(), parent.fileno()]
            host.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            socket.send_fds(host, [data[: 1 << 16]], link_ends)
        host.shutdown(socket.SHUT_WR)
        no_process = OSError(errno.EAGAIN, "no process left")
        # The model is the host's own word, and unpickled.
        with mock.patch("os.fork", side_effect=no_process), mock.patch("pickle.loads"):
            served = 0
            while forker_._answer():
                served += 1
        assert served <= len(data) // forker.REQUEST.size
        handed.close()
        if served:
            (answer,) = forker.NUMBER.unpack(answers.recv(8))
            assert answer == -errno.EAGAIN


@target
def an_exit_status(data: bytes) -> None:
    if len(data) < process._STATUS.size:
        return
    (status,) = process._STATUS.unpack_from(data)
    failure = Failure(FailureKind.DIED, worker=1, pid=2, stage="busy", exitcode=status)
    error = failures.to_error(failure, "pool")
    assert isinstance(error, errors.WorkerDied)
    assert (error.signal is not None) == (status < 0)


# ------------------------------------------------------------------------------- shared memory


@target
def a_flight_recorder(data: bytes) -> None:
    """A worker may scribble over all of it."""
    with tempfile.TemporaryFile() as file:
        file.truncate(SIZE)
        half = len(data) // 2
        os.pwrite(file.fileno(), data[:half][:STACK_AT], 0)
        os.pwrite(file.fileno(), data[half:][: SIZE - STACK_AT], STACK_AT)
        recorder = Recorder(file.fileno())
    try:
        for number in (recorder.last_started, recorder.beats, recorder.raised):
            assert 0 <= number < 1 << 64
        assert recorder.stacks_are_to_be_had in (False, True)
        recorder.beat()
        some_stacks(recorder.stacks().encode())
    finally:
        recorder.close()


@target
def some_stacks(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    stacks.looks_complete(text)
    tidied = stacks.tidy(text)
    assert len(tidied) <= 2 * len(text) + 2
    place = stacks.where(text)
    assert place is None or place.count("\n") == 0


@target
def heartbeats(data: bytes) -> None:
    """Counts of any kind at any time: who beats lives, and who does not is given up in time."""
    pulses = pulse.Pulses(1.0, 4.0)
    pulses.begin(0.0)
    now, silent, before = 0.0, 0.0, None
    for byte in data:
        gap, beats = (byte & 0x0F) / 4, byte >> 4
        now += gap
        silent = 0.0 if beats != before else silent + min(gap, 1.5)
        told = pulses.check({1: beats}, now)
        assert any(silence.is_fatal for silence in told) == (silent >= 4.0)
        assert pulses.next_at is not None
        assert now < pulses.next_at <= now + 1.0
        before = beats


# ------------------------------------------------------------------------------- the billboard


@target
def a_snapshot(data: bytes) -> None:
    """What ``warmpool top`` reads, and makes of it."""
    facts = watching.parse(data.decode("ascii", "replace"))
    if facts is None:
        return
    now = time.time()
    for host in watching.Host:
        published = watching.Published(facts, max(0.0, now - facts["time"]), host, {})
        for line in cli_top_view.lines([published]):
            assert line.text.isprintable()


@target
def a_file_on_the_billboard(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place, "file").write_bytes(data)
        folder = os.open(place, os.O_RDONLY)
        try:
            text = billboard.read(folder, "file")
        finally:
            os.close(folder)
    assert text is None or text.encode("ascii").replace(b"\r\n", b"\n").count(b"\n") >= 0
    assert (text is None) == (not data.isascii())


# ------------------------------------------------------------------------------- seeds


def seeds() -> dict[str, list[bytes]]:
    """Good bytes for each target, to start from: made by the code that writes them in earnest."""
    error = payload.dump_error(ValueError("no model"), payload.dumps, "a note")
    frames = [
        wire.header(kind, 7, len(body)) + body
        for kind in sorted(wire.FROM_WORKER | wire.TO_WORKER)
        for body in (b"", b"the body", error)
    ]
    whole = [b"\0" + frame for frame in frames] + [b"\3\0\x10\5" + b"".join(frames)]
    preloading = [
        wire.header(kind, 0, len(body)) + body
        for kind, body in (
            (wire.HELLO, b""),
            (wire.READY, b""),
            (wire.INITIALIZER_RAISED, error),
            (wire.UNFIT, b"MainThread\0a thread"),
        )
    ]
    stack = (
        b"Fatal Python error: Segmentation fault\n\n"
        b"Thread 0x00007f0000000001 (most recent call first):\n"
        b'  File "/x/warmpool/child.py", line 10 in _follow_host\n\n'
        b"Current thread 0x00007f0000000002 (most recent call first):\n"
        b'  File "/x/task.py", line 3 in hang\n'
        b'  File "/x/warmpool/child.py", line 300 in _serve\n'
        b'  File "<string>", line 1 in <module>\n'
    )
    template = [b"\0" + preloading[0] + frame for frame in preloading[1:]]
    return {
        "what_a_worker_says": whole,
        "what_a_worker_is_told": whole,
        "what_a_template_says_in_small": template,
        "an_answer_that_a_waiter_reads": frames,
        "a_report_of_an_error": [error, payload.dump_error(ValueError(), payload.dumps)],
        "a_log_record": [b'{"name": "app", "levelno": 30, "msg": "a line", "exc_text": null}'],
        "what_a_template_says": template,
        "the_birth_of_a_worker": [
            b"\1" + forker.NUMBER.pack(4711),
            b"\0" + forker.NUMBER.pack(-11),
        ],
        "the_pid_that_a_server_tells": [struct.pack("q", 4711), struct.pack("q", -11)],
        "requests_to_a_forker": [
            forker.REQUEST.pack(1, 2, 5) + b"abcde",
            forker.REQUEST.pack(1, 2, 0),
        ],
        "an_exit_status": [struct.pack("=q", status) for status in (0, 3, -9, -64)],
        "a_flight_recorder": [struct.pack("<QQB7xQdd", 7, 3, 1, 7, 1.5, 2.0) + stack],
        "some_stacks": [stack],
        "heartbeats": [bytes(range(0, 256, 5)), b"\x14" * 20],
        "a_snapshot": [snapshot()],
        "a_file_on_the_billboard": [snapshot(), b"\xff"],
    }


def snapshot() -> bytes:
    """What a pool publishes."""
    import json

    worker: dict[str, Any] = {
        "id": 1,
        "pid": 4712,
        "state": "busy",
        "task": 7,
        "task_name": "paint",
        "in_state": 2.5,
        "uptime": 4.0,
        "tasks_done": 6,
    }
    facts = {
        "format": 1,
        "pool": "painters",
        "pid": 4711,
        "born": 123.0,
        "at": 5.0,
        "time": 1.7e9,
        "rate": 43.3,
        "start_method": "forkserver",
        "max_workers": 2,
        "health": "ready",
        "workers": {"busy": 1},
        "queued": 0,
        "running": 1,
        "tasks_settled": {"returned": 6},
        "worker_exits": {},
        "cold_starts": 0,
        "details": [worker],
    }
    return json.dumps(facts).encode()
