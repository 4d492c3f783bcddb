"""What is asked of many rows at once, beside the documents: columns that reports add up and pages filter by.

Rows of a version before have none of them, and nothing is known of what a later one may call otherwise: each may be
NULL.
"""

from typing import Any, Literal

import msgspec

from service.contract.decision import Decision, ForecastChoice, LoggedDecision
from service.contract.outcome import Context, Outcome, promised
from service.contract.task import Task
from service.store.schema import storable, storable_or_none

ChosenBy = Literal["both", "classifier", "forecast"]
"""Who wanted the pair that an outcome is about, where a classifier chose: it, the forecast, or both."""

CLASSIFIERS = ("local_model", "cli")
"""As sources of decisions, in the order in which they are asked."""

OF_CONTEXT = ("kind", "step", "p_solve", "chosen_by", "advised_by")
"""Columns of an outcome that need what its decision knew."""

_ENCODER = msgspec.json.Encoder()


class KeptRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the log keeps of a request, and what its text said of its minutes where no classifier did."""

    task: Task
    minutes_of_text: float | None


def facts_of_decision(logged: LoggedDecision) -> dict[str, Any]:
    """The columns of a decision beside those that say which one it is."""
    decision, known = logged.decision, logged.known
    other = forecast_choice(decision)
    # Kinds and efforts are names of the catalog, which are printable.
    return {
        "kind": known.kind if decision.kind is None else decision.kind.id,
        "effort": decision.effort,
        "failures": len(known.failed),
        "plan_p_solve": decision.plan_p_solve,
        "plan_cost_usd": decision.plan_cost_usd,
        "classifying_usd": decision.usage.cost_usd,
        "agreed": _agreed(logged),
        "loss_usd": None if other is None else other.loss_usd,
        "advised_by": None if known.advice is None else known.advice.source,
    }


def facts_of_outcome(outcome: Outcome, context: Context | None) -> dict[str, Any]:
    """The columns of an outcome beside those that say which one it is."""
    said = promised(outcome, context)
    return {
        "kind": storable_or_none(outcome.kind or (context.kind if context else None)),
        "effort": storable_or_none(outcome.effort),
        "step": None if said is None else said[1] + 1,
        "p_solve": None if said is None else said[0],
        "cost_usd": outcome.cost_usd,
        "chosen_by": None if context is None else _chosen_by(outcome, context),
        "advised_by": None if context is None else storable_or_none(context.advised_by),
    }


def _agreed(logged: LoggedDecision) -> bool | None:
    """Also where the forecast prevailed: what a classifier advised is known then too."""
    if logged.known.advice is not None:
        return logged.known.advice.agrees
    other = forecast_choice(logged.decision)
    return None if other is None else other.key == logged.decision.key


def _chosen_by(outcome: Outcome, context: Context) -> ChosenBy | None:
    advice = context.advice
    forecast = context.forecast_choice if advice is None else advice.forecast_choice
    if forecast is None:
        return None
    by_classifier = outcome.pair == (context.choice if advice is None else advice.choice)
    by_forecast = outcome.pair == forecast
    if by_classifier:
        return "both" if by_forecast else "classifier"
    return "forecast" if by_forecast else None


def forecast_choice(decision: Decision) -> ForecastChoice | None:
    """What the forecast alone would have put first, where a classifier chose and that is told."""
    return decision.forecast_choice if decision.source in CLASSIFIERS else None


def kept_request(logged: LoggedDecision, *, keep_instructions: bool) -> KeptRequest | None:
    """The request without what stands elsewhere in the row, and without its text where that is not to be kept."""
    task = logged.request
    if task is None:
        return None
    kept = msgspec.structs.replace(
        task, instructions=task.instructions if keep_instructions else "", name="", task_id=None, labels={}
    )
    return KeptRequest(task=kept, minutes_of_text=logged.minutes_of_text)


def request_text(kept: KeptRequest | None) -> str | None:
    """As the column has it."""
    return None if kept is None else storable(_ENCODER.encode(kept).decode())
