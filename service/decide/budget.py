"""`require.max_cost_usd`: no pair that is chosen or planned is expected to cost more when it would be tried."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from service.contract.catalog import Candidate, Catalog
from service.contract.task import Task
from service.forecast.effort import Effort
from service.forecast.forecaster import Forecast, Forecaster, Plan


def too_dear(cost_usd: float, limit_usd: float) -> str:
    """Why a cost breaks the limit; empty where it keeps it, as one that equals it does, whatever the last bit says."""
    if cost_usd <= limit_usd * (1 + 1e-9):
        return ""
    return f"an attempt is expected to cost ${cost_usd:.4g}, above require.max_cost_usd of ${limit_usd:.4g}"


def expected_cost(task: Task, catalog: Catalog, forecaster: Forecaster) -> Callable[[Candidate], float]:
    """What one attempt at this task costs in US dollars, by all that is known before its text is read."""
    if task.require.max_cost_usd is None:
        return forecaster.cost_usd
    forecast = _unread(task, catalog.candidates, forecaster)
    costs = {candidate.key: cost for candidate, cost in zip(forecast.candidates, forecast.cost_usd, strict=True)}
    return lambda candidate: costs[candidate.key]


def forecast_within(
    task: Task, eligible: Sequence[Candidate], forecaster: Forecaster, *, minutes: float | None, effort: Effort | None
) -> Forecast:
    """The forecast by a classifier's `minutes`, or by the text's `effort` where there are none.

    Where that would lift an eligible pair over the limit, the forecast goes without: a hard limit is checked by what is
    known before the text is read, and no guess from the text may break it or bend it.
    """
    forecast = forecaster.forecast(
        eligible,
        labels=task.labels,
        minutes=effort.minutes if effort else minutes,
        minutes_source="text" if effort else "classifier",
        attempts=task.attempts,
    )
    limit = task.require.max_cost_usd
    if limit is None or not any(too_dear(cost, limit) for cost in forecast.cost_usd):
        return forecast
    return _unread(task, eligible, forecaster)


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


def _unread(task: Task, candidates: Sequence[Candidate], forecaster: Forecaster) -> Forecast:
    return forecaster.forecast(
        candidates, labels=task.labels, minutes=None, minutes_source="text", attempts=task.attempts
    )
