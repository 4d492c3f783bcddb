"""Who goes first: the classifier, the forecast, or both weighed against each other; and what each would have chosen."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from service.classifiers.ladder import Classification
from service.contract.catalog import Candidate
from service.contract.decision import Advice, ForecastChoice, Source
from service.contract.task import Key
from service.decide.case import Case
from service.decide.dispatch import Dispatch, Read, plan_now
from service.forecast.forecast import COST_DIGITS
from service.forecast.leaning import Weight, in_logits, leans_of_choice, leans_of_shares

UNKNOWN = Weight()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """Who is to go first (None: whom the plan puts there), who said so (None: the forecast), and what was read of the
    task, the classifier's say included."""

    first: Candidate | None
    source: Source | None
    read: Read


def lead_of(
    case: Case, found: Classification, read: Read, weights: Mapping[str, Weight], source: Source | None
) -> Lead:
    """`source` says why nothing was left to be chosen, None where something was."""
    policy, first = case.knowledge.decision.first_choice, case.requested
    if found.classified is None or policy == "forecast":
        return Lead(first=first, source=source, read=read)
    verdict, leans = found.classified.verdict, _leans(case, found)
    weight = weights.get(_form(found), UNKNOWN)
    swayed = replace(read, sway=_sway(leans, weight))
    if source is not None:
        return Lead(first=first, source=source, read=swayed)
    if policy == "classifier":
        return Lead(first=verdict.candidate, source=found.source, read=swayed)
    hopeful = plan_now(case, replace(read, sway=_sway(leans, weight.hopeful)), None)
    first = case.knowledge.catalog.by_key[hopeful.plan.steps[0].key]
    return Lead(first=first, source=found.source if first == verdict.candidate else None, read=swayed)


def forecast_choice_of(case: Case, read: Read, dispatch: Dispatch) -> ForecastChoice:
    """What the forecast alone puts first, by what was `read` without a classifier's say, beside the choice made."""
    alone, chosen = plan_now(case, read, None), dispatch.plan.steps[0]
    first, loss = alone.plan.steps[0], 0.0
    given = case.knowledge.catalog.by_key[chosen.key]
    if chosen.key != first.key and given in case.eligibility.eligible:
        loss = alone.plan.worth_usd - plan_now(case, read, given).plan.worth_usd
    return ForecastChoice(
        agent_type=first.agent_type,
        model=first.model,
        effort=first.effort,
        loss_usd=round(max(0.0, loss), COST_DIGITS),
    )


def advice_of(
    case: Case, found: Classification, read: Read, dispatch: Dispatch, alone: ForecastChoice
) -> Advice | None:
    """What is kept of the classifier's say, to be learned from; None where it said nothing."""
    chosen = dispatch.plan.steps[0].key
    leans = _leans(case, found)
    if found.classified is None or chosen not in leans:
        return None
    forecast = plan_now(case, read, None).forecast
    place = [candidate.key for candidate in forecast.candidates].index(chosen)
    return Advice(
        form=_form(found),
        choice=found.classified.verdict.candidate.key,
        forecast_choice=alone.key,
        lean=round(leans[chosen], 4),
        p_forecast=round(forecast.p_solve[place], 6),
    )


def _form(found: Classification) -> str:
    """What a weight is learned for: a share of 0.6 means another thing from each."""
    weighed = found.classified.verdict.weighed if found.classified else None
    return f"{found.source}:{weighed.protocol}" if weighed else str(found.source)


def _leans(case: Case, found: Classification) -> dict[Key, float]:
    if found.classified is None:
        return {}
    verdict = found.classified.verdict
    keys = [candidate.key for candidate in case.eligibility.eligible]
    if verdict.weighed is None:
        leans = leans_of_choice(verdict.candidate.key, keys)
    else:
        leans = leans_of_shares({candidate.key: share for candidate, share in verdict.weighed.candidates}, keys)
    return dict(zip(keys, leans, strict=True))


def _sway(leans: Mapping[Key, float], weight: Weight) -> dict[Key, float]:
    return dict(zip(leans, in_logits(tuple(leans.values()), weight), strict=False))
