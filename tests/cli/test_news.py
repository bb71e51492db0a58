"""What reaches the loop of the command line from elsewhere."""

from __future__ import annotations

import logging
import select
from collections.abc import Iterator

import pytest

from warmpool.cli_news import News


@pytest.fixture
def news() -> Iterator[News]:
    news = News()
    yield news
    news.close()


def readable(news: News) -> bool:
    return bool(select.select([news.fd], [], [], 0)[0])


def test_any_number_of_wakes_makes_it_readable_once(news: News) -> None:
    for _ in range(200_000):  # more than a pipe takes
        news.wake()
    while readable(news):
        news.clear()
    news.wake()
    assert readable(news)


def test_wake_after_close_does_nothing() -> None:
    news = News()
    news.close()
    news.wake()


def test_log_is_told_once_and_briefly(news: News) -> None:
    logger = logging.getLogger("warmpool")
    with news.noting_log():
        logger.info("of no interest")
        logger.warning("worker 1 died; failure 1 in a row; cause: \n%s", "a long traceback")
        logger.warning("worker 2 died; failure 2 in a row; cause: \n%s", "a long traceback")
        logger.warning("something else")
    logger.warning("too late")
    assert readable(news)
    assert news.take_messages() == ["worker 1 died; failure 1 in a row", "something else"]
    assert news.take_messages() == []


def test_messages_have_an_end(news: News) -> None:
    with news.noting_log():
        for number in range(1000):
            logging.getLogger("warmpool").warning("x" * number)
    assert len(news.take_messages()) <= 20
