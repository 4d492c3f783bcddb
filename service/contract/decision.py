"""What the caller gets: the choice, why, and the plan."""

from datetime import datetime
from functools import cached_property
from typing import Any, Literal

import msgspec

from service.contract.task import Key, Task, key_of

Source = Literal["local_model", "cli", "forecast", "requested", "only_candidate"]
KindSource = Literal["caller", "local_model", "cli", "text"]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was tried or asked for and did not work, though the decision was made all the same."""

    source: str
    problem: str
    detail: str


class Excluded(msgspec.Struct, frozen=True, kw_only=True):
    """A pair of the catalog that may not take this task, and why, in words."""

    agent_type: str
    model: str
    effort: str | None = None
    why: str

    @property
    def key(self) -> Key:
        """Which candidate it is."""
        return key_of(self.agent_type, self.model, self.effort)


class KindTold(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of work a task was taken for, who said so, and how likely each kind is (what is left out is not)."""

    id: str
    source: KindSource
    probabilities: dict[str, float]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a plan; all is conditional on every earlier step having been rejected.

    `p_solve` is 0 to 1, money in US dollars: `cost_usd` is what the attempt takes (under a plan, from others before a
    window begins anew), `list_cost_usd` its list price. `minutes` is None where nothing is known.
    """

    agent_type: str
    model: str
    effort: str | None = None
    p_solve: float
    cost_usd: float
    list_cost_usd: float = 0.0
    minutes: float | None = None

    def __str__(self) -> str:
        """`agent/model` or `agent/model@effort`, for people."""
        return "/".join(self.key)

    @property
    def key(self) -> Key:
        """Which candidate it is."""
        return key_of(self.agent_type, self.model, self.effort)


class ForecastChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What the forecast alone would have put first, with the minutes and the kind that the decision knew, and by how
    many US dollars the choice that was made is expected to be worse by its reckoning."""

    agent_type: str
    model: str
    effort: str | None = None
    loss_usd: float

    @property
    def key(self) -> Key:
        """Which candidate it is."""
        return key_of(self.agent_type, self.model, self.effort)


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What a classifier said beside what the forecast said, so that its weight can be learned from the outcome.

    `form` is its source and protocol; `choice` and `forecast_choice` are keys of candidates, its own and that of the
    forecast alone. Of the choice that was made `lean` is the log of the classifier's share for it over an equal part,
    and `p_forecast` the chance that the forecast alone gave it.
    """

    form: str
    choice: tuple[str, str]
    forecast_choice: tuple[str, str]
    lean: float
    p_forecast: float

    @property
    def source(self) -> str:
        """Which classifier."""
        return self.form.partition(":")[0]

    @property
    def agrees(self) -> bool:
        """Whether the forecast alone would have chosen the same."""
        return self.choice == self.forecast_choice


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
    effort: str | None = None
    kind: KindTold | None = None
    dispatch: Literal["now", "wait"] = "now"
    not_before: datetime | None = None
    reason: str
    source: Source
    degraded: bool
    failures: list[Failure]
    confidence: float | None
    explored: bool = False
    propensity: float = 1.0
    p_solve: float
    cost_usd: float
    list_cost_usd: float = 0.0
    minutes: float | None = None
    plan: list[Step]
    plan_p_solve: float
    plan_p_wrong: float = 0.0
    plan_cost_usd: float
    plan_minutes: float | None = None
    forecast_choice: ForecastChoice | None = None
    """None only in decisions of older versions."""
    worthwhile: bool
    excluded: list[Excluded]
    usage: Usage
    timings_ms: dict[str, float]
    versions: Versions
    cached: bool = False
    explanation: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET

    @property
    def key(self) -> Key:
        """Which candidate was chosen."""
        return key_of(self.agent_type, self.model, self.effort)

    @cached_property
    def document(self) -> msgspec.Raw:
        """As JSON: written once, for the answer and for the record."""
        return msgspec.Raw(_ENCODER.encode(self))


_ENCODER = msgspec.json.Encoder()


class Known(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a decision knew beyond its answer and its labels, for learning from what becomes of it.

    `failed` are the keys of the attempts at the task that had failed; `minutes` is the classifier's
    estimate, None where there was none; `kind` what kind of work the task was taken for; `advice` what a classifier
    said of the candidates, None where none did.
    """

    failed: list[tuple[str, str]] = []
    minutes: float | None = None
    kind: str | None = None
    advice: Advice | None = None


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
    known: Known = Known()
    request: Task | None = None
    """What was asked, so that it can be decided anew with another catalog."""
    minutes_of_text: float | None = None
    """What the text itself said of how long it takes, where no classifier did."""
