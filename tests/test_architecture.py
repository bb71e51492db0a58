"""The arrows between modules, and what the pure ones may not know."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import warmpool

PACKAGE = Path(warmpool.__file__).parent
MODULES = {path.stem: ast.parse(path.read_text()) for path in PACKAGE.glob("*.py")}
COMMAND_LINE = {
    "__main__",
    "demo",
    "progress",
    *(name for name in MODULES if name.startswith("cli")),
}

PURE = {
    "commands",
    "events",
    "facts",
    "notices",
    "lifecycle",
    "pulse",
    "restart",
    "stacks",
    "deadlines",
    "tasks",
    "census",
    "ending",
    "ledger",
    "roster",
    "laid",
    "standing",
    "vacancies",
    "state",
    "queueing",
    "sizing",
    "staffing",
    "trays",
    "oversight",
    "core",
}
FORBIDDEN_IN_PURE = {
    "asyncio",
    "logging",
    "multiprocessing",
    "os",
    "random",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
}

# Each module may import these of ours, and no others.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": {"census", "errors", "events", "future", "pool", "stats", "views"},
    "pool": {
        "child",
        "closing",
        "config",
        "desk",
        "errors",
        "events",
        "failures",
        "future",
        "launcher",
        "lease",
        "lifetime",
        "payload",
        "plan",
        "pulse",
        "start",
        "stats",
        "supervisor",
        "views",
    },
    "metrics": {"config", "families", "pool"},
    "families": {"census", "events", "lifecycle"},
    "views": {"config", "future", "mapping"},
    "stats": {"census", "events"},
    "config": {"parts", "payload", "start", "state", "tray"},
    "mapping": {"each"},
    "each": set(),
    "closing": {"config", "desk", "ending", "lifetime", "state", "views"},
    "lifetime": {"desk", "ending"},
    "desk": {
        "answer",
        "census",
        "config",
        "errors",
        "events",
        "failures",
        "forkguard",
        "lease",
        "supervisor",
    },
    "future": {
        "answer",
        "callbacks",
        "control",
        "errors",
        "nolock",
        "stats",
        "verdict",
        "waiting",
    },
    "control": {"parker"},
    "waiting": {"parker", "turns", "wire"},
    "turns": {"channel", "events", "wire"},
    "verdict": {"errors", "payload", "wire"},
    "supervisor": {
        "answer",
        "census",
        "core",
        "dispatching",
        "errors",
        "events",
        "failures",
        "fleet",
        "forkguard",
        "helpers",
        "inbox",
        "lease",
        "lending",
        "loglines",
        "loop",
        "notices",
        "parker",
        "publishing",
        "settling",
        "starts",
        "state",
        "thread",
    },
    "dispatching": {"events", "fleet", "settling"},
    "announcer": {"callbacks", "future", "thread"},
    "settling": {
        "announcer",
        "answer",
        "callbacks",
        "events",
        "failures",
        "future",
        "lease",
        "parker",
        "wire",
    },
    "lending": {"events", "fleet", "future", "lease", "loop", "overtaking", "parker"},
    "overtaking": {"fleet", "loop", "turns"},
    "lease": {"channel", "events", "future", "turns", "wire"},
    "loglines": {"callbacks", "errors", "events", "failures"},
    "sampler": {"callbacks", "memory", "thread"},
    "memory": set(),
    "fleet": {
        "asking",
        "channel",
        "events",
        "held",
        "lease",
        "loop",
        "oom",
        "process",
        "starts",
        "turns",
        "wire",
    },
    "asking": {"events", "loop", "process", "stacks"},
    "held": {"channel", "events", "process", "turns", "wire"},
    "oom": set(),
    "failures": {"errors", "events", "payload", "stacks"},
    "starts": {"errors", "events", "launcher", "loop", "plan", "process", "servers"},
    "launcher": {
        "child",
        "early",
        "making",
        "orphans",
        "payload",
        "plan",
        "process",
        "start",
        "thread",
        "tray",
    },
    "making": {
        "channel",
        "early",
        "forkguard",
        "orphans",
        "payload",
        "process",
        "recorder",
        "tray",
    },
    "plan": {"errors", "parts", "payload", "servers", "wire"},
    "start": {"child", "forkservers", "plan", "spawning", "template", "zygote"},
    "template": {
        "forking",
        "child",
        "early",
        "errors",
        "forkguard",
        "forkservers",
        "making",
        "plan",
        "preloading",
        "servers",
        "spawning",
        "tray",
        "upbringing",
    },
    "upbringing": {
        "channel",
        "errors",
        "failures",
        "orphans",
        "payload",
        "process",
        "servers",
        "stacks",
        "wire",
    },
    "preloading": {"early", "forker", "payload", "wire"},
    "forkservers": {"child", "forkguard", "plan", "preparation", "servers", "tie"},
    "spawning": {"child", "forkguard", "plan", "preparation", "servers"},
    "preparation": {"early", "servers"},
    "zygote": {"forking", "child", "copied", "forkguard", "mending", "plan", "servers", "tie"},
    "forking": {"child", "forked", "forker", "forkguard", "servers"},
    "copied": {"child", "early", "forker", "mending"},
    "forker": {"child", "early", "endpoint", "forked"},
    "forked": {"child", "early"},
    "servers": {"forkguard"},
    "tie": {"early", "forkguard"},
    "process": {"laststatus", "orphans", "recorder", "tray"},
    "orphans": {"forkguard"},
    "laststatus": set(),
    "tray": {"channel", "wire"},
    "channel": {"wire"},
    "endpoint": {"wire"},
    "child": {
        "early",
        "endpoint",
        "forwarding",
        "interruptions",
        "parts",
        "payload",
        "recorder",
        "title",
        "wire",
    },
    "interruptions": {"errors", "recorder", "title"},
    "early": {"payload", "recorder"},
    "payload": {"each", "errors", "parts", "wire"},
    "core": {"census", "deadlines", "ending", "events", "lifecycle", "oversight", "state"},
    "oversight": {"deadlines", "events", "lifecycle", "staffing", "state"},
    "staffing": {"events", "lifecycle", "notices", "tasks", "trays"},
    "trays": {"deadlines", "ending", "events", "lifecycle", "queueing", "tasks"},
    "queueing": {"deadlines", "ending", "events", "lifecycle", "notices", "sizing", "tasks"},
    "sizing": {"deadlines", "ending", "events", "lifecycle", "state"},
    "state": {
        "deadlines",
        "ending",
        "events",
        "ledger",
        "lifecycle",
        "notices",
        "pulse",
        "restart",
        "roster",
        "tasks",
    },
    "pulse": set(),
    "stacks": set(),
    "roster": {
        "deadlines",
        "events",
        "laid",
        "lifecycle",
        "restart",
        "standing",
        "vacancies",
    },
    "laid": {"lifecycle"},
    "standing": {"events", "lifecycle"},
    "vacancies": set(),
    "tasks": {"deadlines", "events"},
    "ending": {"deadlines"},
    "ledger": {"census", "events"},
    "census": {"events"},
    "lifecycle": {"events"},
    "answer": set(),
    "callbacks": {"thread"},
    "deadlines": set(),
    "errors": set(),
    "events": {"commands", "facts"},
    "commands": {"facts", "notices"},
    "facts": set(),
    "helpers": {
        "announcer",
        "callbacks",
        "notices",
        "observer",
        "publishing",
        "relay",
        "sampler",
        "thread",
    },
    "publishing": {"billboard", "birth", "callbacks", "census", "thread"},
    "watching": {"billboard", "birth", "publishing"},
    "billboard": set(),
    "birth": set(),
    "relay": {"callbacks", "thread"},
    "forwarding": set(),
    "notices": {"facts"},
    "observer": {"callbacks", "notices", "thread"},
    "forkguard": {"mending"},
    "inbox": set(),
    "loop": set(),
    "mending": set(),
    "nolock": set(),
    "parker": {"forkguard"},
    "thread": set(),
    "recorder": set(),
    "title": set(),
    "restart": set(),
    "wire": {"room"},
    "room": set(),
    "parts": {"largebytes", "room", "wire"},
    "largebytes": set(),
}


def imports(module: str) -> set[str]:
    """The modules that a module imports, its own package's as bare names."""
    found = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "warmpool":
            found |= {f"warmpool.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def own_imports(module: str) -> set[str]:
    return {name.split(".")[1] for name in imports(module) if name.startswith("warmpool.")}


def test_every_module_is_in_the_table():
    assert set(MODULES) - COMMAND_LINE == set(MAY_IMPORT)


@pytest.mark.parametrize("module", sorted(MAY_IMPORT))
def test_arrows_run_only_where_the_table_has_them(module):
    assert own_imports(module) <= MAY_IMPORT[module]


def test_the_table_has_no_circle():
    done: set[str] = set()
    remaining = dict(MAY_IMPORT)
    while remaining:
        free = {module for module, below in remaining.items() if below <= done}
        assert free, f"a circle among {sorted(remaining)}"
        done |= free
        for module in free:
            del remaining[module]


@pytest.mark.parametrize("module", sorted(PURE))
def test_the_core_knows_no_clock_thread_or_process(module):
    assert not imports(module) & FORBIDDEN_IN_PURE


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_the_monotonic_clock_is_read(module):
    # I14. The command line may tell people the time, and what is left of a dead host when that was.
    calls = {
        ast.unparse(node)
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "time"
    }
    allowed = {"time.monotonic"}
    if module == "forkguard":
        allowed |= {"time.sleep"}
    if module in {"publishing", "watching"}:
        allowed |= {"time.time"}
    if module in COMMAND_LINE:
        allowed |= {"time.perf_counter", "time.sleep", "time.strftime"}
    assert calls <= allowed


@pytest.mark.parametrize(
    "module",
    [
        "supervisor",
        "lending",
        "overtaking",
        "turns",
        "announcer",
        "fleet",
        "asking",
        "channel",
        "loop",
        "core",
    ],
)
def test_the_supervisors_thread_has_no_pickle(module):
    # I2, I13.
    assert not imports(module) & {"pickle", "warmpool.payload"}


TOUCH_PROCESSES = {
    "start",
    "process",
    "orphans",
    "launcher",
    "servers",
    "forker",
    "zygote",
    "template",
}


def test_only_few_touch_processes():
    for module in set(MODULES) - TOUCH_PROCESSES:
        text = ast.unparse(MODULES[module]).replace("psutil.Process(", "")
        assert ".Process(" not in text
        assert "waitpid" not in text
    for module in set(MODULES) - {"zygote", "forker"}:
        assert "os.fork()" not in ast.unparse(MODULES[module])


@pytest.mark.parametrize("module", sorted(set(MODULES) - COMMAND_LINE))
def test_modules_stay_small(module):
    lines = (PACKAGE / f"{module}.py").read_text().count("\n")
    assert lines <= 400


IN_EVERY_WORKER = {
    "child",
    "each",
    "early",
    "endpoint",
    "errors",
    "interruptions",
    "parts",
    "payload",
    "recorder",
    "room",
    "title",
    "wire",
}
FORKED_BY_A_TEMPLATE = {"forked", "forker", "preloading"}


def test_what_a_worker_is_made_of_imports_nothing_heavy():
    script = (
        "import sys, warmpool.child\n"
        "heavy = {'dataclasses', 'inspect', 'concurrent.futures', 'logging'}\n"
        "print(*[n for n in sys.modules if n.split('.')[0] == 'warmpool' or n in heavy])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    expected = {"warmpool", *(f"warmpool.{name}" for name in IN_EVERY_WORKER)}
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("start_method", ["template", "forkserver", "spawn"])
def test_a_worker_does_not_import_the_hosts_side(start_method):
    # Each module costs every start, and memory in every worker.
    script = (
        "import warmpool\n"
        f"with warmpool.WarmPool(1, start_method={start_method!r}) as pool:\n"
        "    modules = \"set(__import__('sys').modules)\"\n"
        "    print(*pool.submit(eval, modules).result(20))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    modules = set(done.stdout.split())
    expected = IN_EVERY_WORKER
    if start_method == "template":
        expected = expected | FORKED_BY_A_TEMPLATE
    ours = {name for name in modules if name.split(".")[0] == "warmpool"}
    assert ours == {"warmpool", *(f"warmpool.{name}" for name in expected)}
    heavy = {"concurrent.futures", "pathlib"}
    if sys.version_info < (3, 14):  # Then they come with traceback.
        heavy |= {"dataclasses", "inspect"}
    assert not modules & heavy


def test_every_public_name_can_be_imported():
    for name in warmpool.__all__:
        assert getattr(warmpool, name) is not None
    assert set(warmpool.__all__) <= set(dir(warmpool))
    with pytest.raises(AttributeError, match="no attribute 'WarmPoool'"):
        warmpool.WarmPoool  # noqa: B018
