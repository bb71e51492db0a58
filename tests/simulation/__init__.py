"""Real pools on a simulated machine, driven by a seed: everything late, partial, or dead at will.

``machine`` has time and threads, ``kernel`` descriptors and processes, ``streams`` data channels;
``threads`` and ``system`` are what stands for the modules of the standard library; ``world`` puts
them in the place of these, and checks the pool that it makes. ``worker`` with its ``recorder``, and
``method`` are the other side, and ``weather`` how much goes wrong there; ``callers`` is what is
asked of the pool, in ``jobs``, and ``judge`` knows what the answers have to be. ``scenario`` is one
seed from beginning to end, ``course`` many of them; ``mutants`` are bugs that have to be found.
``sizing`` asks the core alone how many workers are to be idle.
"""
