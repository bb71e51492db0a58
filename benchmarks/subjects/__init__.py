"""Who is measured.  A new peer is one more entry in `SUBJECTS`."""

from benchmarks.subjects.bare import BareEcho
from benchmarks.subjects.base import Subject
from benchmarks.subjects.executors import ProcessPool, Warm

# The order of the table.  The references are what all others are set in proportion to.
SUBJECTS: tuple[Subject, ...] = (BareEcho(), ProcessPool(), Warm())
REFERENCES = ("bare", "ppe")
