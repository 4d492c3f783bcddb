"""A task run on the local model: the request of `POST /v1/executions`, and what is kept of it."""

import hashlib
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from service.contract.task import Labels, Name

ExecutionState = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]


class ExecutionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/executions`."""

    instructions: Annotated[str, Meta(min_length=1, max_length=200_000)]
    name: Annotated[str, Meta(max_length=300)] = ""
    task_id: Annotated[str, Meta(max_length=200)] | None = None
    labels: Labels = {}
    model: Name | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None

    @property
    def digest(self) -> str:
        """The same for the same request, and for no other."""
        return hashlib.blake2b(_ENCODER.encode(self), digest_size=16).hexdigest()


_ENCODER = msgspec.json.Encoder(order="deterministic")


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one. Costs in US dollars. `owner` is the replica that runs it, and `seen_at` when that replica
    last said that it is alive.
    """

    execution_id: str
    task_id: str | None
    name: str
    model: str
    state: ExecutionState
    created_at: datetime
    owner: str
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_reason: str | None = None
    seen_at: datetime | None = None
    request_digest: str | None = None
    """Of the request that it was made for; None where an older version of the service made it."""
