"""Who goes first: the classifier, the forecast, or both weighed against each other; and what each would have chosen."""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from service.classifiers.ladder import Classification
from service.contract.catalog import Candidate
from service.contract.decision import Advice, ForecastChoice, Source
from service.contract.task import Key
from service.decide.case import Case
from service.decide.dispatch import Dispatch, Read, plan_now
from service.forecast.forecast import COST_DIGITS, Forecast, Plan
from service.forecast.leaning import Weight, in_logits, lean_of_choice, leans_of_choice, leans_of_shares

UNKNOWN = Weight()


class Lead(NamedTuple):
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
        return Lead(first, source, read)
    verdict, weight = found.classified.verdict, weights.get(_form(found), UNKNOWN)
    if weight is UNKNOWN and policy == "classifier":
        return Lead(verdict.candidate, found.source, read)
    leans = _leans(case, found)
    swayed = replace(read, sway=sway) if (sway := _sway(leans, weight)) else read
    if policy == "classifier":
        return Lead(verdict.candidate, found.source, swayed)
    hopeful = plan_now(case, replace(read, sway=_sway(leans, weight.hopeful)), None)
    first = case.knowledge.catalog.by_key[hopeful.plan.steps[0].key]
    return Lead(first, found.source if first == verdict.candidate else None, swayed)


def forecast_alone(case: Case, lead: Lead, read: Read, dispatch: Dispatch) -> Dispatch:
    """What the forecast would do by itself, by what was `read` without a classifier's say."""
    if lead.first is None and lead.read is read:
        return dispatch
    if lead.read is read and dispatch.not_before is None and case.stakes.max_cost_usd is None:
        # With a limit, the choice itself may have had the forecast go without what was read (see dispatch._within).
        return replace(dispatch, plan=_plan(case, dispatch.forecast, None))
    return plan_now(case, read, None)


def forecast_choice_of(case: Case, alone: Dispatch, dispatch: Dispatch) -> ForecastChoice:
    """What `alone` puts first, beside the choice that was made."""
    first, chosen, loss = alone.plan.steps[0], dispatch.plan.steps[0], 0.0
    if dispatch is not alone and chosen.key != first.key:
        place = alone.forecast.places.get(chosen.key)
        if place is not None:
            given = alone.forecast.candidates[place]
            loss = alone.plan.worth_usd - _plan(case, alone.forecast, given).worth_usd
    return ForecastChoice(
        agent_type=first.agent_type,
        model=first.model,
        effort=first.effort,
        loss_usd=round(max(0.0, loss), COST_DIGITS),
    )


def advice_of(found: Classification, alone: Dispatch, dispatch: Dispatch) -> Advice | None:
    """What is kept of the classifier's say, to be learned from; None where it said nothing of the choice."""
    if found.classified is None:
        return None
    verdict, chosen = found.classified.verdict, dispatch.plan.steps[0].key
    place = alone.forecast.places.get(chosen)
    if place is None:
        return None
    if verdict.weighed is None:
        lean = lean_of_choice(len(alone.forecast.candidates), chosen=chosen == verdict.candidate.key)
    else:
        (lean,) = leans_of_shares({one.key: share for one, share in verdict.weighed.candidates}, [chosen])
    return Advice(
        form=_form(found),
        choice=verdict.candidate.key,
        forecast_choice=alone.plan.steps[0].key,
        lean=round(lean, 4),
        p_forecast=round(alone.forecast.p_solve[place], 6),
    )


def _plan(case: Case, forecast: Forecast, first: Candidate | None) -> Plan:
    return forecast.plan(case.stakes, first, prices=case.quota.prices(forecast.candidates))


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
