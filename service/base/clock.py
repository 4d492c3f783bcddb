"""The clocks that a part goes by, so that tests can set them by hand."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def utc_now() -> datetime:
    """The wall clock, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """`now` is what is written down; `monotonic` counts seconds and never goes back."""

    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
