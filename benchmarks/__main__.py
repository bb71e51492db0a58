"""``python -m benchmarks``.

Workers that are spawned or come from a fork server import this module before their first task, as
they import any program's main module: what stands here is in every start figure.
"""

if __name__ == "__main__":
    import sys

    from benchmarks.command import main

    sys.exit(main(sys.argv[1:]))
