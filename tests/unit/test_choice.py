"""Who goes first: the classifier, the forecast, or both weighed; and what the log keeps of it."""

from dataclasses import replace

import pytest

from service.classifiers.classifier import Brief, Classified
from service.classifiers.verdict import Verdict, Weighed
from service.contract.catalog import Catalog
from service.contract.decision import Decision, LoggedDecision
from service.contract.settings import DecisionSettings
from service.decide.pipeline import Pipeline
from service.forecast.leaning import Weight
from service.knowledge.knowledge import InUse
from tests.support.builders import candidate, chosen, knowledge, pipeline, task
from tests.support.scripted_classifier import SPENT, Act, ScriptedClassifier, chooses

KNOWN = knowledge()
BLEND = DecisionSettings(first_choice="blend")


def weighs(**shares: float) -> Act:
    """Gives these shares to models, the rest in equal parts to the others."""

    async def act(brief: Brief, _seconds: float) -> Classified:
        others = [one for one in brief.eligible if one.model not in shares]
        rest = (1 - sum(shares.values())) / max(1, len(others))
        given = tuple([(one, shares.get(one.model, rest)) for one in brief.eligible])
        best = max(given, key=lambda pair: pair[1])[0]
        weighed = Weighed(protocol="systemone", candidates=given, kinds={"issue": 1.0}, levels=((60.0, 1.0),))
        verdict = Verdict(
            candidate=best, minutes=60.0, confidence=0.5, reason="Shares.", kind="issue", weighed=weighed
        )  # fmt: skip
        return Classified(verdict=verdict, usage=SPENT, prompt="p", reply="r")

    return act


def trusting(asked: Pipeline, weight: float, form: str = "local_model:systemone") -> Pipeline:
    """The pipeline with a learned weight, of which little is unsure."""
    asked.in_use.weights = {form: Weight(weight=weight, sd=0.05, outcomes=400)}
    return asked


async def test_every_decision_says_what_the_forecast_would_have_chosen() -> None:
    """And what it is expected to lose by its reckoning: nothing where both agree, never less than nothing."""
    alone = await pipeline(known=KNOWN).decide(task())
    assert alone.forecast_choice is not None
    assert (alone.forecast_choice.agent_type, alone.forecast_choice.model) == (alone.agent_type, alone.model)
    assert alone.forecast_choice.loss_usd == 0
    for index in range(len(KNOWN.catalog.candidates)):
        decision = await pipeline(ScriptedClassifier(chooses(index)), known=KNOWN).decide(task())
        other = decision.forecast_choice
        assert other is not None
        agree = (other.agent_type, other.model) == (decision.agent_type, decision.model)
        assert (other.loss_usd == 0) if agree else (other.loss_usd > 0)


async def test_what_the_forecast_would_have_chosen_within_a_limit_does_not_hang_on_the_choice() -> None:
    """It is what `first_choice = "forecast"` chooses on the same words.

    Would catch: a choice that the classifier's minutes lift over the limit, whose forecast goes without them, taken for
    what the forecast alone goes by.
    """

    async def act(brief: Brief, _seconds: float) -> Classified:
        dearest = max(brief.eligible, key=lambda one: one.cost_usd or 0.0)
        verdict = Verdict(candidate=dearest, minutes=480.0, confidence=0.5, reason="Long.")
        return Classified(verdict=verdict, usage=SPENT, prompt="p", reply="r")

    cheap = candidate("a", "cheap", solve_rate=0.1, cost_usd=0.1)
    known = knowledge(Catalog([cheap, candidate("a", "dear", solve_rate=0.8, cost_usd=0.5)]))
    asked = task(require={"max_cost_usd": 0.55})
    given, own = [
        await pipeline(ScriptedClassifier(act), known=known, settings=DecisionSettings(first_choice=who)).decide(asked)
        for who in ("classifier", "forecast")
    ]
    assert (given.model, own.model) == ("dear", "cheap")
    assert given.forecast_choice is not None
    assert given.forecast_choice.key == own.key


async def test_a_requested_pair_is_compared_too() -> None:
    """What the caller asks for may cost something by the forecast's reckoning, and then that is said."""
    decision = await pipeline(known=KNOWN).decide(task(agent_type="alpha", model="big"))
    assert decision.source == "requested"
    assert decision.forecast_choice is not None
    assert decision.forecast_choice.loss_usd > 0


async def test_a_blend_follows_a_classifier_that_deserves_it() -> None:
    """With a weight that outcomes have taught the plan puts its choice first, and says that it was its choice."""
    asked = trusting(pipeline(ScriptedClassifier(weighs(big=0.9)), known=KNOWN, settings=BLEND), 3.0)
    decision = await asked.decide(task(require={"agent_types": ["alpha", "beta", "gamma"]}))
    assert (chosen(decision), decision.source, decision.confidence) == ("alpha/big", "local_model", 0.5)


async def test_a_blend_goes_its_own_way_where_it_does_not() -> None:
    """The choice is the forecast's and says so; the verdict is kept with the decision all the same."""
    logged: list[LoggedDecision] = []
    asked = pipeline(ScriptedClassifier(weighs(big=0.9)), known=KNOWN, settings=BLEND, observer=logged.append)
    decision = await trusting(asked, 0.0).decide(task())
    assert decision.forecast_choice is not None
    assert (decision.model, decision.source) == (decision.forecast_choice.model, "forecast")
    assert (decision.degraded, decision.confidence) == (False, None)
    known = logged[0].known
    advice = known.advice
    assert advice is not None
    assert (advice.form, advice.choice, advice.agrees) == ("local_model:systemone", ("alpha", "big"), False)
    assert (advice.forecast_choice, known.minutes) == ((decision.agent_type, decision.model), 60.0)
    assert advice.lean < 0
    assert 0 < advice.p_forecast < 1


async def test_an_unknown_classifier_is_tried_where_it_costs_little() -> None:
    """A blend gives it the benefit of the doubt between candidates that are about as good, and promises no more than is
    known: that is how its weight comes to be learned."""
    catalog = Catalog(
        [candidate("a", "one", solve_rate=0.7, cost_usd=0.2), candidate("b", "two", solve_rate=0.69, cost_usd=0.2)]
    )
    known = knowledge(catalog)
    decision = await pipeline(ScriptedClassifier(weighs(two=0.9)), known=known, settings=BLEND).decide(task())
    assert (chosen(decision), decision.source) == ("b/two", "local_model")
    forecast = known.forecaster.forecast(
        catalog.candidates, labels={}, minutes=60.0, minutes_source="classifier", attempts=()
    )
    assert decision.p_solve == pytest.approx(forecast.p_solve[1], abs=0.01)


async def test_the_forecast_alone_hears_no_choice() -> None:
    """With `forecast` the verdict informs the minutes only, whatever weight it may have."""
    asked = pipeline(
        ScriptedClassifier(weighs(tiny=0.9)), known=KNOWN, settings=DecisionSettings(first_choice="forecast")
    )
    plain = pipeline(
        ScriptedClassifier(weighs(tiny=0.9)), known=KNOWN, settings=DecisionSettings(first_choice="forecast")
    )
    one, other = await trusting(asked, 3.0).decide(task()), await plain.decide(task())
    assert (one.source, one.plan) == ("forecast", other.plan)


async def test_a_learned_weight_moves_the_chances_of_a_classifiers_choice() -> None:
    """Where the classifier chooses, `p_solve` still says what outcomes have taught of its choices."""

    async def decided(weight: float) -> Decision:
        return await trusting(pipeline(ScriptedClassifier(weighs(small=0.6)), known=KNOWN), weight).decide(task())

    low, middle, high = await decided(-1.0), await decided(0.0), await decided(1.0)
    assert {chosen(one) for one in (low, middle, high)} == {"alpha/small"}
    assert low.p_solve < middle.p_solve < high.p_solve


async def test_what_was_said_is_in_the_explanation() -> None:
    """The choice, the minutes and every probability, for people and for a later fit."""
    decision = await pipeline(ScriptedClassifier(weighs(small=0.6)), known=KNOWN).decide(task(explain=True))
    assert isinstance(decision.explanation, dict)
    said = decision.explanation["verdict"]
    assert (said["model"], said["minutes"], said["kind"], said["protocol"]) == ("small", 60.0, "issue", "systemone")
    assert {one["model"]: one["probability"] for one in said["candidates"]}["small"] == 0.6
    assert said["levels"] == [{"minutes": 60.0, "probability": 1.0}]


async def test_no_more_than_twenty_are_put_to_a_classifier() -> None:
    """Those of which the forecast expects most; all are eligible all the same."""
    many = [candidate("many", f"m{number:02}", solve_rate=0.2 + number / 50, cost_usd=0.2) for number in range(30)]
    asked = ScriptedClassifier(chooses(0))
    decision = await pipeline(asked, known=knowledge(Catalog(many))).decide(task())
    (brief,) = asked.briefs
    assert [one.model for one in brief.shortlist] == [f"m{number:02}" for number in range(29, 9, -1)]
    assert len(brief.eligible) == 30
    assert chosen(decision) == "many/m00"


def test_weights_outlive_new_knowledge() -> None:
    """What was learned of a classifier does not go with a catalog."""
    in_use = InUse(KNOWN, {"cli": Weight(weight=1.0)})
    in_use.knowledge = replace(KNOWN, decision=BLEND)
    assert in_use.weights["cli"].weight == 1.0
