"""How fast is warmpool, beside a bare pipe and beside its peers?  Run ``python -m benchmarks``.

::

    __main__   arguments, one table per figure, JSON
      run      one figure: open the subjects, take blocks in turn, close them
      figures  what is measured: one module per question, one list
      subjects who is measured: one small interface, one list
      tasks    what runs in the workers
      measure  statistics      report   table and JSON      compare  two JSON files
      guard    time limits     processes  pinning, /proc     machine  where it was measured

Workers import this package to find ``tasks``: it must stay empty.
"""
