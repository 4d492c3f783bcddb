"""Who goes first and in which order: the classifier's verdict, the forecast, or both weighed against each other."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.classifiers.ladder import Classification
from service.contract.catalog import Candidate
from service.contract.decision import Advice, ForecastChoice, Source, Step
from service.decide.budget import affordable
from service.decide.case import Case
from service.forecast.forecaster import COST_DIGITS, Forecast, Plan
from service.forecast.leaning import Weight, in_logits, leans_of_choice, leans_of_shares

FIRST_WEIGHT = Weight()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The plan with the choice as its first step, who made it, and the forecast that it rests on; what the forecast
    alone would have put first, and what is kept of the classifier's say."""

    plan: Plan
    source: Source
    forecast: Forecast
    forecast_choice: ForecastChoice
    advice: Advice | None


def choose(
    case: Case, found: Classification, alone: Forecast, weights: Mapping[str, Weight], source: Source | None
) -> Choice:
    """`alone` is the forecast without any classifier's choice; `source` says why nothing was left to be chosen."""
    policy, limit = case.knowledge.decision.first_choice, case.task.require.max_cost_usd
    said, first = alone, case.requested
    leans, form = _leans(found, alone), _form(found)
    if leans and policy != "forecast":
        said = alone.leaning(in_logits(leans, weights.get(form, FIRST_WEIGHT)))
    verdict = found.classified.verdict if found.classified else None
    if verdict and source is None:
        if policy == "classifier":
            source, first = found.source, verdict.candidate
        elif policy == "blend":
            hopeful = alone.leaning(in_logits(leans, weights.get(form, FIRST_WEIGHT).hopeful))
            first = _candidate(alone, affordable(hopeful.plan(case.value_usd), limit).steps[0])
            source = found.source if first == verdict.candidate else None
    plan = affordable(said.plan(case.value_usd, first=first), limit)
    chosen = plan.steps[0]
    advice = None
    if verdict:
        place = alone.candidates.index(_candidate(alone, chosen))
        advice = Advice(
            form=form,
            agent_type=verdict.candidate.agent_type,
            model=verdict.candidate.model,
            effort=verdict.candidate.effort,
            minutes=verdict.minutes,
            kind=verdict.kind,
            lean=round(leans[place], 4),
            p_forecast=round(alone.p_solve[place], 6),
        )
    return Choice(
        plan=plan,
        source=source or "forecast",
        forecast=said,
        forecast_choice=_forecast_choice(case, alone, chosen),
        advice=advice,
    )


def _forecast_choice(case: Case, alone: Forecast, chosen: Step) -> ForecastChoice:
    value, limit = case.value_usd, case.task.require.max_cost_usd
    best = affordable(alone.plan(value), limit)
    first, loss = _candidate(alone, best.steps[0]), 0.0
    given = _candidate(alone, chosen)
    if given != first:
        loss = _worth(best, value) - _worth(affordable(alone.plan(value, first=given), limit), value)
    return ForecastChoice(
        agent_type=first.agent_type, model=first.model, effort=first.effort, loss_usd=round(max(0.0, loss), COST_DIGITS)
    )


def _worth(plan: Plan, value_usd: float) -> float:
    return value_usd * plan.p_solve - plan.cost_usd


def _candidate(forecast: Forecast, step: Step) -> Candidate:
    return next(one for one in forecast.candidates if (one.agent_type, one.model) == (step.agent_type, step.model))


def _form(found: Classification) -> str:
    """What a weight is learned for: a share of 0.6 means another thing from each."""
    weighed = found.classified.verdict.weighed if found.classified else None
    return f"{found.source}:{weighed.protocol}" if weighed else str(found.source)


def _leans(found: Classification, forecast: Forecast) -> tuple[float, ...]:
    if found.classified is None:
        return ()
    verdict = found.classified.verdict
    keys = [candidate.key for candidate in forecast.candidates]
    if verdict.weighed is None:
        return leans_of_choice(verdict.candidate.key, keys)
    return leans_of_shares({candidate.key: share for candidate, share in verdict.weighed.candidates}, keys)
