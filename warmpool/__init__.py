"""A pool of pre-warmed, supervised worker processes that cannot wedge.

>>> from warmpool import WarmPool
>>> with WarmPool(4, initializer=load_model) as pool:      # doctest: +SKIP
...     future = pool.submit(predict, "text")              # a concurrent.futures.Future
...     future.result()

:class:`WarmPool` is a ``concurrent.futures.Executor``. Every future settles, every place in the
pool is refilled, and ``close()`` ends. See README.md for the guarantees and ARCHITECTURE.md for how
they come about.
"""

# Names are imported as they are used: a worker imports warmpool.child, and has no use for the
# host's side of the library.

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warmpool.census import Total as Total
    from warmpool.census import WorkerInfo as WorkerInfo
    from warmpool.errors import InitializerFailed as InitializerFailed
    from warmpool.errors import MemoryLimitExceeded as MemoryLimitExceeded
    from warmpool.errors import PayloadError as PayloadError
    from warmpool.errors import PoolBroken as PoolBroken
    from warmpool.errors import PoolClosed as PoolClosed
    from warmpool.errors import PoolSaturated as PoolSaturated
    from warmpool.errors import ProtocolError as ProtocolError
    from warmpool.errors import QueueTimeout as QueueTimeout
    from warmpool.errors import RemoteTraceback as RemoteTraceback
    from warmpool.errors import SoftTimeout as SoftTimeout
    from warmpool.errors import TaskTimeout as TaskTimeout
    from warmpool.errors import TemplateFailed as TemplateFailed
    from warmpool.errors import WarmpoolError as WarmpoolError
    from warmpool.errors import WorkerDied as WorkerDied
    from warmpool.errors import WorkerError as WorkerError
    from warmpool.errors import WorkerUnresponsive as WorkerUnresponsive
    from warmpool.events import Health as Health
    from warmpool.future import TaskFuture as TaskFuture
    from warmpool.pool import WarmPool as WarmPool
    from warmpool.stats import PoolStats as PoolStats
    from warmpool.stats import TaskInfo as TaskInfo
    from warmpool.views import TaskView as TaskView

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(
        (
            "InitializerFailed",
            "MemoryLimitExceeded",
            "PayloadError",
            "PoolBroken",
            "PoolClosed",
            "PoolSaturated",
            "ProtocolError",
            "QueueTimeout",
            "RemoteTraceback",
            "SoftTimeout",
            "TaskTimeout",
            "TemplateFailed",
            "WarmpoolError",
            "WorkerDied",
            "WorkerError",
            "WorkerUnresponsive",
        ),
        "warmpool.errors",
    ),
    "Health": "warmpool.events",
    **dict.fromkeys(("Total", "WorkerInfo"), "warmpool.census"),
    "TaskFuture": "warmpool.future",
    **dict.fromkeys(("PoolStats", "TaskInfo"), "warmpool.stats"),
    "TaskView": "warmpool.views",
    "WarmPool": "warmpool.pool",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'warmpool' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
