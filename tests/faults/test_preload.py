"""Preload means the same under every start method."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import policies, preloads, tasks
from tests.helpers.waiting import BOUND, until
from warmpool import Health, InitializerFailed, PayloadError, WarmPool

MakePool = Callable[..., WarmPool]


def test_it_comes_before_the_initializer(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    preload = functools.partial(preloads.note_pid, tmp_path / "attempts")
    pool = make_pool(1, preload=preload, initializer=preloads.note_initializer)
    preloaded_by, main, worker = pool.submit(preloads.who).result(BOUND)
    assert main
    assert preloaded_by == pool.submit(preloads.seen).result(BOUND)
    assert (preloaded_by == worker) == (start_method != "template")


def test_modules_are_imported_by_name(make_pool: MakePool, start_method: str) -> None:
    pool = make_pool(1, preload="colorsys")
    assert pool.submit(tasks.is_imported, "colorsys").result(BOUND)


def test_one_that_fails_says_so_and_heals(
    make_pool: MakePool, start_method: str, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    with policies.use(policies.STRICT):
        pool = make_pool(1, preload=functools.partial(preloads.read, model))
    with pytest.raises(InitializerFailed, match=r"preload raised.*FileNotFoundError"):
        pool.wait_warm(BOUND)
    model.write_text("here")
    until(lambda: pool.health is Health.READY, "it heals")
    assert pool.submit(preloads.text).result(BOUND)[0] == "here"


def test_a_module_that_is_not_there_is_named(make_pool: MakePool, start_method: str) -> None:
    with policies.use(policies.STRICT):
        pool = make_pool(1, preload=["no_such_module"])
    with pytest.raises(InitializerFailed, match="no_such_module"):
        pool.wait_warm(BOUND)


def test_one_that_cannot_be_pickled_is_refused(make_pool: MakePool, start_method: str) -> None:
    if start_method == "fork":
        pytest.skip("it is inherited")
    with pytest.raises(PayloadError, match="preload cannot be pickled"):
        make_pool(1, preload=lambda: None)
