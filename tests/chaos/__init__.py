"""Many faults at once against real processes, for as long as one likes.

A round, :mod:`outside`, starts hosts. In each, pools of all start methods live side by side
(``host``, ``pools``); ``callers`` give them tasks whose results are known (``kinds``, of which
workers run ``tasks``) and wait for them in every way there is, while ``mischief`` commits the
``faults``, one after the other. ``ledger`` has every task: what may become of it, and what did. One
host is left to end in order, with its descriptors, threads and memory looked at (``measure``); the
others are killed by SIGKILL, and the outside looks for what they have left. ``report`` is what a
round has to say.

Faults and tasks come from a seed, which is printed. That is not a replay: what the processes make
of them is decided by the scheduler. The same seed again does the same kind of thing, mostly.
"""
