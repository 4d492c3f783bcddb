"""What is known of each candidate, before and after outcomes, as `GET /v1/catalog` shows it."""

from collections.abc import Mapping

import msgspec

from service.contract.catalog import Candidate
from service.contract.kind import Figures
from service.forecast.learned import LearnedAbility


class KindReport(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate in one kind of work, as `GET /v1/catalog` shows it; the fields are those of AbilityReport."""

    prior_solve_rate: float | None
    prior_cost_usd: float | None
    prior_minutes: float | None
    learned_solve_rate: float
    learned_cost_usd: float
    learned_minutes: float | None
    n: int
    n_cost: int


class AbilityReport(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate as `GET /v1/catalog` shows it: the catalog's figures (None where unknown) and what was learned.

    `learned_solve_rate` is the share of this service's tasks that it is expected to solve at the first try, `theta` its
    ability in logits, `n` the outcomes behind it and `n_cost` those that told a cost.
    """

    agent_type: str
    model: str
    effort: str | None = None
    prior_solve_rate: float | None
    prior_cost_usd: float | None
    learned_solve_rate: float
    learned_cost_usd: float
    theta: float
    n: int
    n_cost: int
    kinds: dict[str, KindReport] = {}


def report_of(candidate: Candidate, known: LearnedAbility, rates: Mapping[str | None, float]) -> AbilityReport:
    """`rates` are the shares of tasks that it is expected to solve at the first try, by kind; of all under None."""
    return AbilityReport(
        agent_type=candidate.agent_type,
        model=candidate.model,
        effort=candidate.effort,
        prior_solve_rate=candidate.solve_rate,
        prior_cost_usd=candidate.cost_usd,
        learned_solve_rate=rates[None],
        learned_cost_usd=known.cost_usd,
        theta=known.theta,
        n=known.n,
        n_cost=known.n_cost,
        kinds={kind: _of_kind(candidate, known, kind, rate) for kind, rate in rates.items() if kind is not None},
    )


def _of_kind(candidate: Candidate, ability: LearnedAbility, kind: str, rate: float) -> KindReport:
    known, figures = ability.of(kind), candidate.kinds.get(kind, Figures())
    return KindReport(
        prior_solve_rate=figures.solve_rate,
        prior_cost_usd=figures.cost_usd,
        prior_minutes=figures.minutes,
        learned_solve_rate=rate,
        learned_cost_usd=known.cost_usd,
        learned_minutes=known.minutes,
        n=known.n,
        n_cost=known.n_cost,
    )
