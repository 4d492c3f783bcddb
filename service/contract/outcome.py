"""What became of one attempt: the request of `POST /v1/outcomes`."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from service.contract.kind import KindId
from service.contract.task import Labels, Name


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attempt's result. `cost_usd` in US dollars; a cost above 100,000 is a mistake and refused."""

    agent_type: Name
    model: Name
    solved: bool
    decision_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    attempt: Annotated[int, Meta(ge=1, le=1000)] = 1
    cost_usd: Annotated[float, Meta(ge=0, le=100_000)] | None = None
    duration_seconds: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    tokens_in: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    tokens_out: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    labels: Labels = {}
    kind: KindId | None = None
    task_id: Annotated[str, Meta(max_length=200)] | None = None


class OutcomeBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/outcomes/batch`: each one is decoded by itself, so that one bad outcome never fails its neighbours."""

    outcomes: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=1000)]


class RecordedOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome as the store keeps it. `seq` grows with each one; a withdrawn one teaches nothing."""

    seq: int
    outcome_id: str
    recorded_at: datetime
    withdrawn_at: datetime | None
    outcome: Outcome
