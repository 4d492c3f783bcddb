"""What to do with a task: which plan, now or when a better candidate is back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import msgspec

from service.classifiers.reading import Reading
from service.classifiers.size_text import TINY
from service.contract.catalog import Candidate
from service.contract.decision import KindTold
from service.contract.task import Key
from service.decide.budget import too_dear
from service.decide.case import Case
from service.decide.quota import quota_of
from service.forecast.forecast import Forecast, Plan, Prices
from service.forecast.forecaster import Forecaster

MOMENTS = 8
"""Of the times at which something comes back, so many are looked at, the nearest first."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of the task: its text, its kind, and a classifier's `minutes`, None where the text's count; `sway`
    says by how many logits the classifier's choice moves the chances of candidates, by their keys."""

    reading: Reading
    kind: KindTold | None
    minutes: float | None
    sway: Mapping[Key, float] = {}


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """The plan and what it rests on; `not_before` is None where it begins now."""

    forecast: Forecast
    plan: Plan
    not_before: datetime | None = None


def dispatch_of(case: Case, read: Read, first: Candidate | None) -> Dispatch:
    """The best plan now, `first` being its step one where that is given; or a better one later.

    A candidate that comes back at a known time competes only where an hour has a price and the caller fixed nothing:
    its plan has to be worth more by what the wait costs.
    """
    best = now = plan_now(case, read, first)
    price = case.stakes.delay_usd_per_hour
    if not price or case.requested is not None:
        return best
    for moment, candidates in _later(case):
        quota = quota_of(case.task.pools, case.knowledge.catalog, moment)
        waited = price * (moment - case.now).total_seconds() / 3600
        later = _planned(case, read, candidates, quota.prices(candidates), None, case.knowledge.forecaster)
        worth = later.plan.worth_usd - waited
        if worth > best.plan.worth_usd and not _same_step(later, now):
            best = msgspec.structs.replace(later, plan=replace(later.plan, worth_usd=worth), not_before=moment)
    return best


def plan_now(case: Case, read: Read, first: Candidate | None, world: Forecaster | None = None) -> Dispatch:
    """The best plan of those that are there, by what is known or in another `world`."""
    eligible = case.eligibility.eligible
    return _planned(case, read, eligible, case.quota.prices(eligible), first, world or case.knowledge.forecaster)


def _planned(
    case: Case,
    read: Read,
    candidates: tuple[Candidate, ...],
    prices: Prices | None,
    first: Candidate | None,
    world: Forecaster,
) -> Dispatch:
    forecast = _forecast(case, read, candidates, world)
    if not _within(case, forecast, prices, first):
        forecast = _forecast(case, None, candidates, world)
    return Dispatch(forecast=forecast, plan=forecast.plan(case.stakes, first, prices=prices))


def _forecast(case: Case, read: Read | None, candidates: Sequence[Candidate], world: Forecaster) -> Forecast:
    """By what was read of the task; where that is None, by all that is known before."""
    task = case.task
    if read is None:
        return world.forecast(
            candidates,
            labels=task.labels,
            minutes=None,
            minutes_source="text",
            attempts=task.attempts,
            kinds={case.kind: 1.0} if case.kind else None,
            verifier=case.stakes.verifier,
            again=case.eligibility.again,
        )
    forecast = world.forecast(
        candidates,
        labels=task.labels,
        minutes=read.reading.size.minutes if read.minutes is None else read.minutes,
        minutes_source="text" if read.minutes is None else "classifier",
        attempts=task.attempts,
        kinds=_shares(read),
        leaning=read.reading.leaning,
        verifier=case.stakes.verifier,
        again=case.eligibility.again,
    )
    if not read.sway:
        return forecast
    return forecast.swayed(tuple([read.sway.get(candidate.key, 0.0) for candidate in candidates]))


def _shares(read: Read) -> dict[str, float] | None:
    """How far each kind's figures count: what is published of a kind was measured on whole tasks of it, and says little
    of one that the text shows to be tiny. That share counts as work of no known kind."""
    if read.kind is None or read.kind.source != "text" or read.minutes is not None:
        return read.kind.probabilities if read.kind else None
    whole = 1.0 - read.reading.size.features.get(TINY, 0.0)
    return {kind: whole * share for kind, share in read.kind.probabilities.items()}


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
    back: dict[Key, datetime] = {}
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
    return later.plan.steps[0].key == now.plan.steps[0].key
