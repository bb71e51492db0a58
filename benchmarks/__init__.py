"""How fast is warmpool, beside a bare pipe and beside its peers?  Run ``python -m benchmarks``.

::

    __main__ -> command   arguments, one table per figure, JSON, chart
      run      one figure: open the subjects, take blocks in turn, close them
      figures  what is measured: one module per question, one list
      subjects who is measured: one small interface, one list
      tasks    what runs in the workers      gate, stamp  what reaches them through files
      measure  statistics      report   one figure's table and JSON
      summary  all figures     chart    the same as SVG     compare  two JSON files
      guard    time limits     processes  pinning, /proc    machine  where it was measured

Workers import this package to find ``tasks``: it must stay empty.
"""
