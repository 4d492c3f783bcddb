"""The decision, put together from what each step found; and one sentence for a person, why this candidate."""

from functools import lru_cache
from typing import Any

from service.base.ids import uuid7
from service.base.text import one_line
from service.classifiers.ladder import Classification
from service.classifiers.verdict import REASON_LIMIT, Verdict
from service.contract.decision import Decision, Source
from service.decide.case import Case
from service.decide.choice import Choice
from service.forecast.forecaster import COST_DIGITS, Plan


def conclude(
    case: Case,
    found: Classification,
    choice: Choice,
    *,
    cached: bool,
    timings_ms: dict[str, float],
) -> Decision:
    """`found` is what the classifiers said, `choice` what was made of it."""
    plan, source = choice.plan, choice.source
    chosen = plan.steps[0]
    verdict = found.classified.verdict if found.classified else None
    return Decision(
        decision_id=uuid7(),
        agent_type=chosen.agent_type,
        model=chosen.model,
        reason=_reason(case, found, plan, source),
        source=source,
        degraded=bool(found.failures),
        failures=[*case.noted, *found.failures],
        confidence=verdict.confidence if verdict and source == found.source else None,
        p_solve=chosen.p_solve,
        cost_usd=chosen.cost_usd,
        plan=list(plan.steps),
        plan_p_solve=plan.p_solve,
        plan_cost_usd=round(plan.cost_usd, COST_DIGITS),
        worthwhile=plan.worthwhile,
        forecast_choice=choice.forecast_choice,
        excluded=case.eligibility.excluded,
        usage=found.usage,
        timings_ms=timings_ms,
        versions=case.knowledge.versions,
        cached=cached,
    )


def explanation(found: Classification, effort: object, forecast: object) -> dict[str, Any]:
    """Why: the rendered prompt, the raw reply and what it was taken to say, the minutes from the text, the abilities
    and the difficulty used."""
    verdict = found.classified.verdict if found.classified else None
    return {
        "prompt": found.prompt,
        "reply": found.reply,
        "verdict": _said(verdict) if verdict else None,
        "effort": effort,
        "forecast": forecast,
    }


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


def _reason(case: Case, found: Classification, plan: Plan, source: Source) -> str:
    """At most 500 characters without control characters. A classifier's own is used unless it quotes the prompt."""
    chosen = plan.steps[0]
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
