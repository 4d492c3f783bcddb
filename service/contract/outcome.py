"""What became of one attempt: the request of `POST /v1/outcomes`, and what its decision knew."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from service.contract.decision import Advice
from service.contract.kind import CostUsd, KindId
from service.contract.task import Effort, Key, Labels, Name, key_of

MAX_SECONDS = 1e9
"""Of one attempt: thirty years."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attempt's result. `cost_usd` in US dollars; a cost above 100,000 is a mistake and refused.

    Agent type and model may be left out where a `decision_id` says whose choice was tried.
    """

    solved: bool
    agent_type: Name | None = None
    model: Name | None = None
    effort: Effort | None = None
    decision_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    attempt: Annotated[int, Meta(ge=1, le=1000)] = 1
    cost_usd: CostUsd | None = None
    duration_seconds: Annotated[float, Meta(ge=0, le=MAX_SECONDS)] | None = None
    tokens_in: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    tokens_out: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    labels: Labels = {}
    kind: KindId | None = None
    task_id: Annotated[str, Meta(max_length=200)] | None = None

    def __post_init__(self) -> None:
        """Rules that span two fields."""
        if (self.agent_type is None) != (self.model is None):
            raise ValueError("`agent_type` and `model` go together: expected both or neither")
        if self.effort is not None and self.model is None:
            raise ValueError("`effort` needs `model`")
        if self.agent_type is None and self.decision_id is None:
            raise ValueError("expected `agent_type` and `model`, or a `decision_id` whose choice was tried")

    @property
    def pair(self) -> Key:
        """The candidate's key; empty where it was left out and is not known yet."""
        return key_of(self.agent_type or "", self.model or "", self.effort)


class Context(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the decision of an outcome knew: kept beside the outcome, because decisions are pruned and outcomes are not.

    `agent_type`, `model` and `effort` are its choice, `failed` keys of candidates, and `plan` the chances that it gave
    the steps of its plan: their keys, and the chance that this attempt solves the task once those before it failed;
    `advice` is what a classifier said.
    """

    agent_type: str
    model: str
    effort: str | None = None
    task_id: str | None = None
    labels: dict[str, str] = {}
    kind: str | None = None
    minutes: float | None = None
    failed: list[tuple[str, str]] = []
    plan: list[tuple[str, str, float]] = []
    forecast_choice: tuple[str, str] | None = None
    """What the forecast alone would have put first, where a classifier chose and that is known."""
    advice: Advice | None = None
    classifier: str | None = None
    """Which classifier chose, where one did and no `advice` says so."""

    @property
    def advised_by(self) -> str | None:
        """Which classifier was heard; None where none was, or where that is not known."""
        return self.classifier if self.advice is None else self.advice.source

    @property
    def choice(self) -> Key:
        """The key of its choice."""
        return key_of(self.agent_type, self.model, self.effort)


def promised(outcome: Outcome, context: Context | None) -> tuple[float, int] | None:
    """The chance that its decision gave an attempt, and the failures before it; None where it gave none."""
    if context is None:
        return None
    for number, (agent_type, model, p_solve) in enumerate(context.plan):
        if (agent_type, model) == outcome.pair:
            return min(1.0, max(0.0, p_solve)), len(context.failed) + number
    return None


class OutcomeBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/outcomes/batch`: each one is decoded by itself, so that one bad outcome never fails its neighbours."""

    outcomes: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=1000)]


class RecordedOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome as the store keeps it. `seq` grows with each one; a withdrawn one teaches nothing.

    `context` is what its decision knew, None where there is no such decision or it was not found.
    """

    seq: int
    outcome_id: str
    recorded_at: datetime
    withdrawn_at: datetime | None
    outcome: Outcome
    context: Context | None = None
