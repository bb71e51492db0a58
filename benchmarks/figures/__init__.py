"""What is measured.  A new figure is one more entry in its module's `FIGURES`."""

from benchmarks.figures import (
    death,
    idle,
    round_trip,
    scale,
    start,
    throughput,
    time_limit,
    values,
)
from benchmarks.figures.base import Figure

# The order of the table.
FIGURES: tuple[Figure, ...] = (
    *round_trip.FIGURES,
    *throughput.FIGURES,
    *values.FIGURES,
    *start.FIGURES,
    *death.FIGURES,
    *time_limit.FIGURES,
    *scale.FIGURES,
    *idle.FIGURES,
)
