"""How much goes wrong, and for how long."""

from __future__ import annotations

import random
from dataclasses import dataclass

START_FATES = ("fails", "hangs", "is slow", "server dies")
BOOT_FATES = ("dies", "hangs", "garbage", "closes", "half a frame", "is slow", "has no stack")
INIT_FATES = ("raises", "dies", "hangs", "closes", "garbage", "is slow", "ready and dies")
TASK_FATES = (
    "dies unstarted",
    "dies",
    "hangs",
    "freezes",
    "freezes for a while",
    "closes",
    "garbage",
    "half an answer",
    "another's answer",
    "last words",
    "slow words",
    "grows",
    "grandchild",
)
IDLE_FATES = ("dies", "freezes", "garbage", "closes", "grows", "says ready again")
STOP_FATES = ("ignores", "is slow", "closes")
DEATH_FATES = ("late", "status late", "status lost", "status never")


@dataclass(frozen=True)
class Weather:
    """How likely it is that something goes wrong, at each occasion.

    Attributes:
        starts, boots, inits, tasks, stops, deaths: Of each start, and so on.
        idles: Of each hour of an idle worker.
        host_stops: Stops of the whole host in an hour.
        server_deaths: Deaths of what starts workers, in an hour.
        stalls: Of each step of a thread, that it stops for a while.
    """

    starts: float = 0.0
    boots: float = 0.0
    inits: float = 0.0
    tasks: float = 0.0
    stops: float = 0.0
    deaths: float = 0.0
    idles: float = 0.0
    host_stops: float = 0.0
    server_deaths: float = 0.0
    stalls: float = 0.0
    fragmentation: float = 0.0
    shortage: float = 0.0

    def fate(self, rng: random.Random, share: float, fates: tuple[str, ...]) -> str:
        """What happens at an occasion; mostly nothing, in the word ``well``."""
        return rng.choice(fates) if share and rng.random() < share else "well"


CALM = Weather()
FAIR = Weather(
    starts=0.002,
    boots=0.002,
    inits=0.002,
    tasks=0.005,
    stops=0.01,
    deaths=0.02,
    idles=0.2,
    host_stops=0.2,
    server_deaths=0.1,
    fragmentation=0.02,
)
BAD = Weather(
    starts=0.05,
    boots=0.05,
    inits=0.05,
    tasks=0.08,
    stops=0.1,
    deaths=0.2,
    idles=20.0,
    host_stops=20.0,
    server_deaths=20.0,
    stalls=2e-4,
    fragmentation=0.2,
    shortage=0.01,
)
STORM = Weather(
    starts=0.3,
    boots=0.3,
    inits=0.3,
    tasks=0.4,
    stops=0.5,
    deaths=0.5,
    idles=200.0,
    host_stops=60.0,
    server_deaths=60.0,
    stalls=5e-4,
    fragmentation=0.5,
    shortage=0.05,
)
OUTAGE = Weather(starts=0.3, boots=0.4, inits=1.0, tasks=0.3, deaths=0.3, stalls=2e-4)
"""Something that all workers need is not there."""
