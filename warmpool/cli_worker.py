"""The part of the command line that runs in the workers, and therefore imports nothing."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def warm_up(_function: Callable[..., Any], initializer: Callable[[], Any] | None) -> None:
    """Initialize a worker; to get the function, it has imported the function's module."""
    if initializer is not None:
        initializer()
