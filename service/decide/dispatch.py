"""What to do with a task: which plan, now or when a better candidate is back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from service.contract.catalog import Candidate
from service.decide.budget import too_dear
from service.decide.case import Case
from service.decide.quota import quota_of
from service.forecast.effort import Effort
from service.forecast.forecast import Forecast, Plan, Prices

MOMENTS = 8
"""Of the times at which something comes back, so many are looked at, the nearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What was read of the task: the classifier's `minutes`, or the text's `effort` where there are none."""

    minutes: float | None
    effort: Effort | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """The plan and what it rests on; `not_before` is None where it begins now."""

    forecast: Forecast
    plan: Plan
    not_before: datetime | None = None


def dispatch_of(case: Case, read: Read, first: Candidate | None) -> Dispatch:
    """The best plan now, `first` being its step one where that is given; or a better one later.

    A candidate that comes back at a known time competes only where an hour has a price and the caller fixed nothing:
    its plan has to be worth more by what the wait costs.
    """
    prices = case.quota.prices(case.eligibility.eligible)
    best = _planned(case, read, case.eligibility.eligible, prices, first)
    price = case.stakes.delay_usd_per_hour
    if not price or case.requested is not None:
        return best
    now = best
    for moment, candidates in _later(case):
        quota = quota_of(case.task.pools, case.knowledge.catalog, moment)
        waited = price * (moment - case.now).total_seconds() / 3600
        later = _planned(case, read, candidates, quota.prices(candidates), None)
        worth = later.plan.worth_usd - waited
        if worth > best.plan.worth_usd and not _same_step(later, now):
            best = replace(later, plan=replace(later.plan, worth_usd=worth), not_before=moment)
    return best


def _planned(
    case: Case, read: Read, candidates: tuple[Candidate, ...], prices: Prices | None, first: Candidate | None
) -> Dispatch:
    forecast = _forecast(case, read, candidates)
    if not _within(case, forecast, prices, first):
        forecast = _forecast(case, Read(minutes=None, effort=None), candidates)
    return Dispatch(forecast=forecast, plan=forecast.plan(case.stakes, first, prices=prices))


def _forecast(case: Case, read: Read, candidates: Sequence[Candidate]) -> Forecast:
    return case.knowledge.forecaster.forecast(
        candidates,
        labels=case.task.labels,
        minutes=read.effort.minutes if read.effort else read.minutes,
        minutes_source="text" if read.effort else "classifier",
        attempts=case.task.attempts,
        verifier=case.stakes.verifier,
        again=case.eligibility.again,
    )


def _within(case: Case, forecast: Forecast, prices: Prices | None, first: Candidate | None) -> bool:
    """Whether the first step can keep the limit with what was read of the task.

    A hard limit is checked by what is known before the text is read; where the text's guess would then lift every
    pair, or the one that a classifier chose, over it, the forecast goes without.
    """
    limit = case.stakes.max_cost_usd
    if limit is None:
        return True
    costs = forecast.costs_at(prices)
    if first is not None:
        return not too_dear(costs[forecast.candidates.index(first)], limit)
    return any(not too_dear(cost, limit) for cost in costs)


def _later(case: Case) -> list[tuple[datetime, tuple[Candidate, ...]]]:
    """The moments at which something comes back, and who can take the task then."""
    back: dict[tuple[str, str], datetime] = {}
    for candidate, obstacles in case.eligibility.obstacles:
        untils = [obstacle.until for obstacle in obstacles if obstacle.passing and obstacle.until is not None]
        if len(untils) == len(obstacles):
            back[candidate.key] = max(untils)
    there = {candidate.key: case.now for candidate in case.eligibility.eligible}
    at = {**back, **there}
    candidates = [candidate for candidate in case.knowledge.catalog.candidates if candidate.key in at]
    return [
        (moment, tuple(candidate for candidate in candidates if at[candidate.key] <= moment))
        for moment in sorted({moment for moment in back.values() if moment > case.now})[:MOMENTS]
    ]


def _same_step(later: Dispatch, now: Dispatch) -> bool:
    """Nobody waits for what could begin now."""
    a, b = later.plan.steps[0], now.plan.steps[0]
    return (a.agent_type, a.model) == (b.agent_type, b.model)
