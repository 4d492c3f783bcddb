"""`require.max_cost_usd`: no pair that is chosen or planned is expected to cost more when it would be tried."""

from collections.abc import Callable

from service.contract.catalog import Candidate
from service.contract.task import Task
from service.decide.quota import Quota
from service.forecast.prospects import ROUNDING
from service.knowledge.knowledge import Knowledge


def too_dear(cost_usd: float, limit_usd: float) -> str:
    """Why a cost breaks the limit; empty where it keeps it, as one that equals it does, whatever the last bit says."""
    if cost_usd <= limit_usd * (1 + ROUNDING):
        return ""
    return f"an attempt is expected to cost ${cost_usd:.4g}, above require.max_cost_usd of ${limit_usd:.4g}"


def expected_cost(task: Task, kind: str | None, knowledge: Knowledge, quota: Quota) -> Callable[[Candidate], float]:
    """What one attempt at this task takes in US dollars, by all that is known before its text is read: `kind` where the
    caller told it."""
    candidates = knowledge.catalog.candidates
    forecast = knowledge.forecaster.forecast(
        candidates,
        labels=task.labels,
        minutes=None,
        minutes_source="text",
        attempts=task.attempts,
        kinds={kind: 1.0} if kind else None,
        verifier=task.verifier or knowledge.verifier,
    )
    costs = forecast.costs_at(quota.prices(candidates))
    by_key = {candidate.key: cost for candidate, cost in zip(candidates, costs, strict=True)}
    return lambda candidate: by_key[candidate.key]
