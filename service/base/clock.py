"""The clocks that a part goes by, so that tests can set them by hand."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def utc_now() -> datetime:
    """The wall clock, with its zone."""
    return datetime.now(UTC)


def in_utc(at: datetime) -> datetime:
    """The same moment in UTC; the last one there is where an offset carries it past the year 9999."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def written(at: datetime) -> str:
    """To the second, in UTC, as a person reads it: 2026-11-26T09:00:00Z."""
    return in_utc(at).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """`now` is what is written down; `monotonic` counts seconds and never goes back."""

    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
