"""A module for a fork server to preload: follows orders as it is imported."""

from __future__ import annotations

import os
from pathlib import Path

from tests.helpers.faults import Orders

Orders(Path(os.environ[Orders.VARIABLE])).follow("preloading")
