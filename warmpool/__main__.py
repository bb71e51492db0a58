"""``python -m warmpool``: the command line.

Workers that are started by spawn import this module again, under another name. So it does nothing
and imports nothing unless it is the program.
"""

if __name__ == "__main__":
    import sys

    from warmpool.cli import main

    sys.exit(main())
