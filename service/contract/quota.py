"""What is left of a quota pool: windows (five hours, a week) that are used up and begin anew."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One window: its length, the share of it that is used, and when it begins anew, which only the caller knows."""

    minutes: Annotated[float, Meta(gt=0, le=10_000_000)]
    used: Share
    resets_at: Annotated[datetime, Meta(tz=True)]


class PoolState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the scheduler knows now of one pool. `reserve` is the share of each window that is kept for others; None:
    the catalog's."""

    windows: Annotated[list[Window], Meta(max_length=16)] = []
    reserve: Share | None = None
