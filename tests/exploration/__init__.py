"""Every sequence of events that can befall a small pool, walked breadth first.

``case`` says what there is in a world, ``worlds`` which are explored; ``given`` is an outside that
leaves open how far workers have come, ``promises`` the core with one that checks each of its
commands, ``world`` what can be done to it, ``moves`` what can happen next. ``snapshot`` turns a
world into a value, the same for worlds that differ in names (``names``) and dates only,
``projector`` turns it back, ``orders`` sees to where names matter. ``explore`` walks; ``ways`` are
how it must end from anywhere. ``story`` tells how something went wrong, in ``words``; ``mutants``
and ``tray_mutants`` are bugs that have to be found.
"""
