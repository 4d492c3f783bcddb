"""What is asked of many rows at once, beside the documents: columns that reports add up and pages filter by.

Rows of a version before have none of them, and nothing is known of what a later one may call otherwise: each may be
NULL.
"""

from typing import Any, Literal

import msgspec

from service.contract.decision import Decision, Known, LoggedDecision
from service.contract.outcome import Context, Outcome, promised
from service.contract.task import Key, key_of
from service.store.schema import storable_or_none

ChosenBy = Literal["both", "classifier", "forecast"]
"""Who wanted the pair that an outcome is about, where a classifier chose: it, the forecast, or both."""

CLASSIFIERS = frozenset({"local_model", "cli"})

_ENCODER = msgspec.json.Encoder()


def facts_of_decision(logged: LoggedDecision, *, keep_instructions: bool) -> dict[str, Any]:
    """The columns of a decision beside those that say which one it is."""
    decision, known = logged.decision, logged.known
    other = _forecast_choice(decision)
    return {
        "kind": storable_or_none(_kind(decision, known)),
        "effort": storable_or_none(decision.effort),
        "failures": len(known.failed),
        "plan_p_solve": decision.plan_p_solve,
        "plan_cost_usd": decision.plan_cost_usd,
        "classifying_usd": decision.usage.cost_usd,
        "agreed": None if other is None else other == decision.key,
        "loss_usd": None if other is None or decision.forecast_choice is None else decision.forecast_choice.loss_usd,
        "request": _request(logged, keep_instructions=keep_instructions),
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
    }


def _chosen_by(outcome: Outcome, context: Context) -> ChosenBy | None:
    if context.forecast_choice is None:
        return None
    by_classifier = outcome.pair == key_of(context.agent_type, context.model, context.effort)
    by_forecast = outcome.pair == context.forecast_choice
    if by_classifier:
        return "both" if by_forecast else "classifier"
    return "forecast" if by_forecast else None


def _forecast_choice(decision: Decision) -> Key | None:
    """What the forecast alone would have put first, where a classifier chose."""
    other = decision.forecast_choice
    return None if other is None or decision.source not in CLASSIFIERS else other.key


def _kind(decision: Decision, known: Known) -> str | None:
    return known.kind if decision.kind is None else decision.kind.id


def _request(logged: LoggedDecision, *, keep_instructions: bool) -> str | None:
    """The request without what stands elsewhere in the row, and without its text where that is not to be kept."""
    task = logged.request
    if task is None:
        return None
    kept = msgspec.structs.replace(
        task, instructions=task.instructions if keep_instructions else "", name="", task_id=None, labels={}
    )
    return storable_or_none(_ENCODER.encode({"task": kept, "minutes_of_text": logged.minutes_of_text}).decode())
