"""The leak check bites: a suite of leaking tests, each of which has to fail."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SUITE = """
    import multiprocessing, os, socket, subprocess, sys, tempfile, threading, time
    import pytest
    from warmpool import WarmPool
    from tests.helpers import leaks
    from tests.helpers.leaks import nothing_left_behind

    leaks.prepare()
    leaks.GRACE = 0.2
    kept = []
    SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]

    def test_leaks_a_child():
        kept.append(subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL))

    def test_leaks_a_zombie():
        process = subprocess.Popen(["true"], stdout=subprocess.DEVNULL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        kept.append(process)

    def test_leaks_a_daemonized_grandchild():
        subprocess.run([sys.executable, "-S", "-c", "import os, time\\n"
            "if os.fork() == 0:\\n os.setsid()\\n os.closerange(0, 9)\\n time.sleep(600)"])

    def test_leaks_a_thread():
        threading.Thread(target=time.sleep, args=(600,), name="left-over", daemon=True).start()

    def test_leaks_a_descriptor():
        os.dup(1)

    def test_leaks_a_socket_on_a_number_used_before():
        kept.append(socket.socket())

    def test_leaks_a_temporary_file():
        os.close(tempfile.mkstemp()[0])

    def test_leaks_a_semaphore():
        kept.append(multiprocessing.get_context("spawn").Event())

    def test_leaks_a_pool():
        kept.append(WarmPool(1, start_method="fork", name="forgotten-about"))
        kept[-1].wait_warm(20)

    def test_may_leave_less_than_there_was():
        kept.pop().close(10)

    def test_is_clean():
        with WarmPool(1, start_method="fork") as pool:
            assert pool.submit(abs, -1).result(20) == 1
        with tempfile.TemporaryFile() as file:
            file.write(b"x")

    def test_is_slow_in_cleaning_up():
        threading.Thread(target=time.sleep, args=(0.05,)).start()

    @pytest.fixture
    def shared_pool():
        yield

    def test_with_a_shared_pool_may_replace_a_thing_by_its_like(shared_pool):
        first = socket.socket()
        kept.pop(-2).close()  # The socket that was leaked above.
        kept.append(first)

    def test_with_a_shared_pool_leaks_one_more(shared_pool):
        kept.append(socket.socket())
"""

# What the message has to name.
NAMED = {
    "test_leaks_a_child": "time.sleep(600)",
    "test_leaks_a_zombie": "(Z)",
    "test_leaks_a_daemonized_grandchild": "os.setsid()",
    "test_leaks_a_thread": "thread 'left-over', at:",
    "test_leaks_a_descriptor": "descriptor ",
    "test_leaks_a_socket_on_a_number_used_before": "socket:[",
    "test_leaks_a_temporary_file": "file /",
    "test_leaks_a_semaphore": "/dev/shm/sem.warmpool-tests-",
    "test_leaks_a_pool": "thread 'forgotten-about-supervisor', at:",
    "test_with_a_shared_pool_leaks_one_more": "socket:[",
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the leak check said of each test of the suite, nothing where it was content."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_suite.py").write_text(textwrap.dedent(SUITE))
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    subprocess.run(
        [*command, f"--rootdir={folder}", f"--junitxml={report}", str(folder / "test_suite.py")],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=50,
    )
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        texts = [problem.text or "" for kind in ("failure", "error") for problem in case.iter(kind)]
        found[case.attrib["name"]] = found.get(case.attrib["name"], "") + "".join(texts)
    return found


@pytest.mark.parametrize("name", NAMED)
def test_what_is_left_behind_is_named(verdicts: dict[str, str], name: str) -> None:
    assert NAMED[name] in verdicts[name]


def test_all_others_of_the_suite_pass(verdicts: dict[str, str]) -> None:
    content = [name for name, text in verdicts.items() if not text]
    assert set(content) == verdicts.keys() - NAMED.keys()
    assert len(content) == 4
