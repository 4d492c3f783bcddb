"""The decision, put together from what each step found; and one sentence for a person, why this candidate."""

from functools import lru_cache
from typing import Any

from service.base.clock import written
from service.base.ids import uuid7
from service.base.text import one_line
from service.classifiers.ladder import Classification
from service.classifiers.verdict import REASON_LIMIT, Verdict
from service.contract.decision import Decision, ForecastChoice, KindTold, Source
from service.decide.case import Case
from service.decide.dispatch import Dispatch
from service.forecast.forecast import COST_DIGITS


def conclude(
    case: Case,
    found: Classification,
    dispatch: Dispatch,
    alone: ForecastChoice,
    *,
    source: Source,
    kind: KindTold | None,
    cached: bool,
    timings_ms: dict[str, float],
) -> Decision:
    """`found` is what the classifiers said, `alone` what the forecast alone would have chosen; `source` who named the
    first step of the plan."""
    plan = dispatch.plan
    chosen = plan.steps[0]
    verdict = found.classified.verdict if found.classified else None
    return Decision(
        decision_id=uuid7(),
        agent_type=chosen.agent_type,
        model=chosen.model,
        effort=chosen.effort,
        kind=kind,
        dispatch="now" if dispatch.not_before is None else "wait",
        not_before=dispatch.not_before,
        reason=_reason(case, found, dispatch, source),
        source=source,
        degraded=found.degraded,
        failures=[*case.noted, *found.failures],
        confidence=verdict.confidence if verdict and source == found.source else None,
        p_solve=chosen.p_solve,
        cost_usd=chosen.cost_usd,
        list_cost_usd=chosen.list_cost_usd,
        minutes=chosen.minutes,
        plan=list(plan.steps),
        plan_p_solve=plan.p_solve,
        plan_p_wrong=plan.p_wrong,
        plan_cost_usd=round(plan.cost_usd, COST_DIGITS),
        plan_minutes=None if plan.minutes is None else round(plan.minutes, 3),
        forecast_choice=alone,
        worthwhile=plan.worthwhile,
        excluded=case.eligibility.excluded,
        usage=found.usage,
        timings_ms=timings_ms,
        versions=case.knowledge.versions,
        cached=cached,
    )


def explanation(case: Case, found: Classification, effort: object, kind: object, forecast: object) -> dict[str, Any]:
    """Why: the rendered prompt, the raw reply and what it was taken to say, the minutes from the text, the words that
    tell its kind, the abilities and the difficulty used; and the binding window of each quota pool that something was
    told of."""
    verdict = found.classified.verdict if found.classified else None
    shown = {
        "prompt": found.prompt,
        "reply": found.reply,
        "verdict": _said(verdict) if verdict else None,
        "effort": effort,
        "kind_words": kind,
        "forecast": forecast,
    }
    return {**shown, "pools": case.quota.explain()} if case.quota.pools else shown


def _said(verdict: Verdict) -> dict[str, Any]:
    """With the probabilities, where there are any, so that a later fit can use them."""
    chosen, weighed = verdict.candidate, verdict.weighed
    said: dict[str, Any] = {
        "agent_type": chosen.agent_type,
        "model": chosen.model,
        "effort": chosen.effort,
        "kind": verdict.kind,
        "minutes": verdict.minutes,
        "confidence": verdict.confidence,
    }
    if weighed is None:
        return said
    shares = [
        {"agent_type": one.agent_type, "model": one.model, "effort": one.effort, "probability": share}
        for one, share in weighed.candidates
    ]
    levels = [{"minutes": minutes, "probability": share} for minutes, share in weighed.levels]
    return {
        **said,
        "protocol": weighed.protocol,
        "candidates": shares,
        "kinds": weighed.kinds,
        "levels": levels,
        "note": weighed.note,
    }


def _reason(case: Case, found: Classification, dispatch: Dispatch, source: Source) -> str:
    """At most 500 characters without control characters. A classifier's own is used unless it quotes the prompt."""
    plan = dispatch.plan
    chosen = plan.steps[0]
    if dispatch.not_before is not None:
        until = written(dispatch.not_before)
        return _cleaned(
            f"{chosen} is back at {until}: worth more than what can begin now, by more than the wait costs."
        )
    if found.classified and source == found.source:
        own = found.classified.verdict.reason
        if own and not case.knowledge.prompts.leaks(own):
            return own
        return one_line(f"The classifier chose {chosen} and gave no reason.", REASON_LIMIT)
    match source:
        case "requested":
            text = f"The caller asked for {chosen}."
        case "only_candidate":
            text = f"{chosen} is the only candidate that can take this task now."
        case _:
            text = (
                f"Best expected value of {len(case.eligibility.eligible)} candidates: {chosen} solves it at the first "
                f"try with a chance of {chosen.p_solve:.0%} for ${chosen.cost_usd:.2f}"
                + (f", {plan.steps[1]} is next if it fails." if len(plan.steps) > 1 else ".")
            )
    return _cleaned(text)


@lru_cache(256)
def _cleaned(text: str) -> str:
    """Names in a catalog may hold anything. Many tasks share a plan, and so its sentence."""
    return one_line(text, REASON_LIMIT)
