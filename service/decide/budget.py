"""`require.max_cost_usd`: no pair that is chosen or planned is expected to cost more when it would be tried."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from service.contract.catalog import Candidate, Catalog
from service.contract.task import Task
from service.forecast.forecaster import Forecast, Forecaster, Plan


def too_dear(cost_usd: float, limit_usd: float) -> str:
    """Why a cost breaks the limit; empty where it keeps it, as one that equals it does, whatever the last bit says."""
    if cost_usd <= limit_usd * (1 + 1e-9):
        return ""
    return f"an attempt is expected to cost ${cost_usd:.4g}, above require.max_cost_usd of ${limit_usd:.4g}"


def expected_cost(
    task: Task, kind: str | None, catalog: Catalog, forecaster: Forecaster
) -> Callable[[Candidate], float]:
    """What one attempt at this task costs in US dollars, by all that is known before its text is read: `kind` where the
    caller told it."""
    if task.require.max_cost_usd is None:
        return forecaster.cost_usd
    forecast = unread(task, kind, catalog.candidates, forecaster)
    costs = {candidate.key: cost for candidate, cost in zip(forecast.candidates, forecast.cost_usd, strict=True)}
    return lambda candidate: costs[candidate.key]


def affordable(plan: Plan, limit_usd: float | None) -> Plan:
    """The plan up to the first step that costs too much by then: a failure makes the task harder, and so dearer."""
    if limit_usd is None:
        return plan
    kept = next((i for i, step in enumerate(plan.steps) if i and too_dear(step.cost_usd, limit_usd)), None)
    if kept is None:
        return plan
    reached, spent = 1.0, 0.0
    for step in plan.steps[:kept]:
        spent += reached * step.cost_usd
        reached *= 1 - step.p_solve
    return replace(plan, steps=plan.steps[:kept], p_solve=1 - reached, cost_usd=spent)


def unread(task: Task, kind: str | None, candidates: Sequence[Candidate], forecaster: Forecaster) -> Forecast:
    """The forecast by all that is known before the task's text is read."""
    return forecaster.forecast(
        candidates,
        labels=task.labels,
        minutes=None,
        minutes_source="text",
        attempts=task.attempts,
        kinds={kind: 1.0} if kind else None,
    )
