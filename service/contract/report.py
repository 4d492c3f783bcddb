"""What was decided in a span and what came of it: what `GET /v1/report` answers, and the page and the command show."""

from datetime import datetime

import msgspec


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What forecasts said of `n` attempts (their mean chance) beside what was seen (the share that solved).

    `ci95` is Wilson's interval of what was seen (1927); `kept_word` whether what was said lies within it.
    """

    said: float
    seen: float
    ci95: tuple[float, float]
    n: int
    kept_word: bool


class StepSaid(Said, frozen=True, kw_only=True):
    """By step of the task: 1 is the first attempt, 2 the one after a failure."""

    step: int


class KindSaid(Said, frozen=True, kw_only=True):
    """By kind of work; null where none was told or found."""

    kind: str | None


class CandidateSaid(Said, frozen=True, kw_only=True):
    """By candidate."""

    agent_type: str
    model: str
    effort: str | None


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars: on the attempts that told what they cost (`priced` of them), and on classifying."""

    attempts_usd: float
    priced: int
    classifying_usd: float
    usd_per_solved: float | None


class CandidateMoney(msgspec.Struct, frozen=True, kw_only=True):
    """Where the money went: attempts that were reported, and decisions whose choice it was."""

    agent_type: str
    model: str
    effort: str | None
    decisions: int
    attempts: int
    solved: int
    cost_usd: float


class Right(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts with one's choice where the other would have chosen another."""

    n: int
    solved: int


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How often a classifier chose what the forecast alone would have put first, and who was right where not.

    `loss_usd` is what the classifier's other choices were expected to lose, by the forecast's reckoning; `worth` says
    in a sentence whether asking it is worth its time.
    """

    compared: int
    agreed: int
    loss_usd: float
    classifier: Right
    forecast: Right
    worth: str


class SourceAgreement(Agreement, frozen=True, kw_only=True):
    """The same of one classifier: `local_model` or `cli`."""

    source: str


class OverallAgreement(Agreement, frozen=True, kw_only=True):
    """Of all classifiers together, and of each by itself.

    What a version before this one recorded does not always tell which classifier it was, and then counts in all only.
    """

    by_source: list[SourceAgreement]

    @property
    def apart(self) -> list[SourceAgreement]:
        """Of each by itself, where that says more: not where one alone is all."""
        if len(self.by_source) == 1:
            (only,) = self.by_source
            if all(getattr(only, name) == getattr(self, name) for name in Agreement.__struct_fields__):
                return []
        return self.by_source


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What the forecast says: an estimate, and nothing that was seen. Of one task: chance of solving it, and cost."""

    p_solve: float
    cost_usd: float


class BaselineEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt with always the same candidate, beside the plans that were made, by the forecast's reckoning over
    `sample` decisions; `not_eligible` of them could not have gone to it."""

    agent_type: str
    model: str
    effort: str | None
    estimate: bool
    sample: int
    not_eligible: int
    baseline: Estimate
    plans: Estimate


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `without_facts` are decisions that a version before this one made, which tell less."""

    since: datetime
    until: datetime
    decisions: int
    degraded: int
    without_facts: int
    by_source: dict[str, int]
    attempts: int
    solved: int
    spent: Spent
    by_step: list[StepSaid]
    by_kind: list[KindSaid]
    by_candidate: list[CandidateSaid]
    overall: Said | None
    agreement: OverallAgreement | None
    baseline: BaselineEstimate | None
    money: list[CandidateMoney]
