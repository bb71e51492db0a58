"""What unit tests share."""

from __future__ import annotations

import pytest

from tests.helpers.waiting import BOUND
from warmpool.thread import Starter


@pytest.fixture
def starter():
    """Starts threads for a supervisor that is not there."""
    starter = Starter("test-starter")
    starter.open()
    yield starter
    starter.close()
    starter.join(BOUND)
