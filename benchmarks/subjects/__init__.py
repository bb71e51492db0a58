"""Who is measured.  A new peer is one more entry in `SUBJECTS`."""

from benchmarks.subjects.bare import BareEcho
from benchmarks.subjects.base import Subject
from benchmarks.subjects.executors import ProcessPool, Warm, WarmTemplate
from benchmarks.subjects.peers import Billiard, Deadpool, Loky, Mpire, MultiprocessingPool, Pebble

PEERS: tuple[Subject, ...] = (
    ProcessPool(),
    MultiprocessingPool(),
    Pebble(),
    Loky(),
    Billiard(),
    Mpire(),
    Deadpool(),
)
# The order of the table.
SUBJECTS: tuple[Subject, ...] = (Warm(), WarmTemplate(), BareEcho(), *PEERS)
# What all others are set in proportion to.
REFERENCES = ("bare", "ppe")
