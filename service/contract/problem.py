"""Problem documents (RFC 9457): how every error is told to a caller."""

from datetime import datetime

import msgspec

from service.contract.decision import Excluded, Failure


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document. `excluded`, `failures` and `wait_until` stand only in those that speak of them."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    excluded: tuple[Excluded, ...] | msgspec.UnsetType = msgspec.UNSET
    failures: tuple[Failure, ...] | msgspec.UnsetType = msgspec.UNSET
    wait_until: datetime | msgspec.UnsetType | None = msgspec.UNSET
