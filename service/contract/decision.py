"""What the caller gets: the choice, why, and the plan."""

from datetime import datetime
from functools import cached_property
from typing import Any, Literal

import msgspec

Source = Literal["local_model", "cli", "forecast", "requested", "only_candidate"]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was tried or asked for and did not work, though the decision was made all the same."""

    source: str
    problem: str
    detail: str


class Excluded(msgspec.Struct, frozen=True, kw_only=True):
    """A pair of the catalog that may not take this task, and why, in words."""

    agent_type: str
    model: str
    why: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a plan. `p_solve` (0 to 1) is conditional on every earlier step having failed; cost in USD."""

    agent_type: str
    model: str
    p_solve: float
    cost_usd: float

    def __str__(self) -> str:
        """`agent/model`, for people."""
        return f"{self.agent_type}/{self.model}"


class ForecastChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What the forecast alone would have put first, with the minutes and the kind that the decision knew, and by how
    many US dollars the choice that was made is expected to be worse by its reckoning."""

    agent_type: str
    model: str
    effort: str | None = None
    loss_usd: float


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What a classifier said, as the log keeps it so that its weight can be learned from the outcome.

    `form` is its source and protocol. `lean` is the log of its share for the choice that was made over an equal part,
    `p_forecast` the chance that the forecast alone gave that choice.
    """

    form: str
    agent_type: str
    model: str
    effort: str | None = None
    minutes: float | None
    kind: str | None
    lean: float
    p_forecast: float


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What classifying cost: tokens and US dollars."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """Short hashes that change when the catalog or a prompt does, and the version of the service."""

    catalog: str
    prompt: str
    service: str


class Decision(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The answer to `POST /v1/classify`; the fields are those of the contract, in its order."""

    decision_id: str
    agent_type: str
    model: str
    reason: str
    source: Source
    degraded: bool
    failures: list[Failure]
    confidence: float | None
    p_solve: float
    cost_usd: float
    plan: list[Step]
    plan_p_solve: float
    plan_cost_usd: float
    forecast_choice: ForecastChoice | None = None
    """None only in decisions of older versions."""
    worthwhile: bool
    excluded: list[Excluded]
    usage: Usage
    timings_ms: dict[str, float]
    versions: Versions
    cached: bool = False
    explanation: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET

    @cached_property
    def document(self) -> msgspec.Raw:
        """As JSON: written once, for the answer and for the record."""
        return msgspec.Raw(_ENCODER.encode(self))


_ENCODER = msgspec.json.Encoder()


class LoggedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as the store keeps it: the answer, when it was made, and what it was made about.

    The answer has no explanation in it: that stands beside it, ready to be written as JSON.
    """

    decided_at: datetime
    task_id: str | None
    name: str
    labels: dict[str, str]
    decision: Decision
    explanation: dict[str, Any]
    advice: Advice | None = None
