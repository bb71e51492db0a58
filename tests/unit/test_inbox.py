"""What is left for the supervisor is taken in by it or answered by its end, whoever is faster."""

from __future__ import annotations

import threading

import pytest

from warmpool.answer import Waiters
from warmpool.inbox import Inbox


def test_an_item_waits_and_wakes():
    woken, rejected = [], []
    inbox = Inbox(lambda: woken.append(1), rejected.append)
    inbox.post("a")
    inbox.post("b")
    assert list(inbox.items) == ["a", "b"]
    assert len(woken) == 2
    assert rejected == []


def test_the_end_answers_what_is_there_and_what_comes():
    rejected = []
    inbox = Inbox(lambda: None, rejected.append)
    inbox.post("a")
    inbox.end()
    inbox.post("b")
    assert rejected == ["a", "b"]
    assert not inbox.items


def test_nothing_is_lost_or_doubled_when_the_end_races_with_posts():
    for _ in range(100):
        rejected = []
        inbox = Inbox(lambda: None, rejected.append)
        start = threading.Barrier(4)

        def post(number, inbox=inbox, start=start):
            start.wait()
            for n in range(20):
                inbox.post((number, n))

        threads = [threading.Thread(target=post, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        start.wait()
        inbox.end()
        for thread in threads:
            thread.join()
        assert sorted(rejected) == [(number, n) for number in range(3) for n in range(20)]


def test_an_interrupted_rejection_loses_nobody_elses():
    def reject(item):
        if item == "interrupted":
            raise KeyboardInterrupt
        rejected.append(item)

    rejected = []
    inbox = Inbox(lambda: None, reject)
    inbox.end()
    inbox.items.append("another thread's, about to be withdrawn")
    with pytest.raises(KeyboardInterrupt):
        inbox.post("interrupted")
    assert list(inbox.items) == ["another thread's, about to be withdrawn"]


def test_a_rejection_may_post_again():
    inbox = Inbox(lambda: None, lambda item: item and inbox.post(item - 1))
    inbox.end()
    inbox.post(5)
    assert not inbox.items


def test_each_waiter_gets_one_answer_or_leaves_without():
    waiters = Waiters()
    (one, first), (two, second) = waiters.join(), waiters.join()
    assert waiters.leave(two)
    waiters.answer(two)
    assert not second.wait(0)
    error = ValueError()
    waiters.answer_all(error)
    waiters.answer(one)
    assert first.wait(0)
    assert first.error is error
    assert not waiters.leave(one)
