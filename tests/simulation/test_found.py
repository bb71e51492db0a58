"""What simulations have found, each told once more on purpose."""

from __future__ import annotations

from tests.simulation.world import World


def test_what_came_in_time_is_not_late_though_the_supervisor_was_stopped_after_it_had_looked():
    world = World(seed=1)
    world.init_timeout, world.init_seconds = 1.0, 0.5

    def play() -> None:
        machine = world.machine
        pool = world.make_pool()
        machine.sleep(0.25)
        # The supervisor takes this in after it has looked what is ready, and before it looks at the
        # clock. Meanwhile the worker gets ready, in time; and then its time is up.
        pool._desk._inbox.post(lambda: machine.sleep(1.0))
        machine.sleep(1.5)
        stats = pool.stats()
        assert stats.workers == {"idle": 1}
        assert stats.workers_failed == 0
        pool.close()

    world.run(play)
