"""What is measured.  A new figure is one more entry in its module's `FIGURES`."""

from benchmarks.figures import death, idle, round_trip, start, throughput, time_limit
from benchmarks.figures.base import Figure

# The order of the table.
FIGURES: tuple[Figure, ...] = (
    *round_trip.FIGURES,
    *throughput.FIGURES,
    *start.FIGURES,
    *death.FIGURES,
    *time_limit.FIGURES,
    *idle.FIGURES,
)
