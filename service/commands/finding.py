"""What `pointsman check` found out about one thing."""

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing that was tried, and what came of it in words."""

    subject: str
    state: Literal["works", "warning", "broken", "absent"]
    says: str
