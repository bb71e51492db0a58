"""map(): lazily, in order, in chunks, and cancelled when its consumer goes away."""

from __future__ import annotations

import contextlib
import itertools
from concurrent.futures import CancelledError, Future

import pytest

from warmpool import mapping


class Submitter:
    """Settles a future at once unless it is told to hold it."""

    def __init__(self, hold_from=None, fail_at=None):
        self.futures: list[Future] = []
        self.hold_from = hold_from
        self.fail_at = fail_at

    def __call__(self, function, *args):
        future: Future = Future()
        number = len(self.futures)
        self.futures.append(future)
        if number == self.fail_at:
            future.set_exception(KeyError(number))
        elif self.hold_from is None or number < self.hold_from:
            future.set_result(function(*args))
        return future


def run(submit, items, timeout=None, chunksize=1, buffersize=None):
    return mapping.results(submit, lambda x: x * 10, (items,), timeout, chunksize, buffersize)


def numbers(count):
    return iter(range(count))


@pytest.mark.parametrize("chunksize", [1, 2, 3, 7, 100])
def test_results_come_in_order(chunksize):
    submit = Submitter()
    assert list(run(submit, numbers(7), chunksize=chunksize)) == [n * 10 for n in range(7)]
    assert len(submit.futures) == -(-7 // chunksize)


def test_items_of_several_iterables_go_together_as_long_as_all_have_some():
    submit = Submitter()
    results = mapping.results(submit, pow, (range(5), itertools.repeat(2)), None, 3, None)
    assert list(results) == [0, 1, 4, 9, 16]
    assert list(mapping.results(submit, pow, (), None, 3, None)) == []
    assert len(submit.futures) == 2


def test_everything_is_submitted_before_the_first_result_is_asked_for():
    submit = Submitter()
    run(submit, numbers(5))
    assert len(submit.futures) == 5


def test_a_buffer_bounds_what_is_submitted_ahead_so_that_inputs_may_be_endless():
    submit = Submitter()
    results = run(submit, itertools.count(), buffersize=3)
    assert list(itertools.islice(results, 10)) == [n * 10 for n in range(10)]
    assert len(submit.futures) <= 13


@pytest.mark.parametrize("chunksize", [1, 2])
def test_what_has_not_started_is_cancelled_when_the_consumer_goes_away(chunksize):
    submit = Submitter(hold_from=2)
    with contextlib.closing(run(submit, numbers(8), chunksize=chunksize)) as results:
        assert next(results) == 0
    assert all(future.cancelled() for future in submit.futures[2:])


def test_a_failure_cancels_the_rest():
    submit = Submitter(hold_from=2, fail_at=1)
    results = run(submit, numbers(5))
    assert next(results) == 0
    with pytest.raises(KeyError):
        next(results)
    assert all(future.cancelled() for future in submit.futures[2:])


def test_a_timeout_cancels_the_rest():
    submit = Submitter(hold_from=0)
    results = run(submit, numbers(3), timeout=0.0)
    with pytest.raises(TimeoutError):
        next(results)
    assert all(future.cancelled() for future in submit.futures)


def test_an_input_that_raises_cancels_what_was_submitted():
    def inputs():
        yield 1
        raise LookupError

    submit = Submitter(hold_from=0)
    with pytest.raises(LookupError):
        run(submit, inputs())
    with pytest.raises(CancelledError):
        submit.futures[0].result()


def test_closing_an_iterator_that_was_never_advanced_cancels_too():
    submit = Submitter(hold_from=0)
    run(submit, numbers(3)).close()
    assert all(future.cancelled() for future in submit.futures)
