"""Efforts: the third part of a candidate, from the catalog to the answer and to what is learned."""

from typing import Any

import msgspec
import pytest

from service.contract.catalog import Catalog
from service.contract.catalog_file import parse_catalog
from service.contract.decision import Decision, Known, LoggedDecision
from service.contract.decoding import decode_json
from service.contract.errors import ConfigurationError, InvalidInputError, NoEligibleCandidateError
from service.contract.kind import Figures, Kind
from service.contract.outcome import Context, Outcome, RecordedOutcome
from service.contract.task import Task, pair_named
from service.forecast.ability import learn
from service.forecast.forecaster import Forecaster
from service.forecast.history import OutcomeRow
from service.knowledge.learner import row_of
from tests.support.builders import NOW, candidate, failed, knowledge, pipeline, task
from tests.support.scripted_classifier import ScriptedClassifier, chooses

EFFORTS = Catalog(
    [
        candidate("codex", "gpt", effort="low", solve_rate=0.55, cost_usd=0.1),
        candidate("codex", "gpt", effort="high", solve_rate=0.65, cost_usd=0.4),
        candidate("codex", "mini", solve_rate=0.5, cost_usd=0.05),
        candidate("claude", "opus", effort="high", solve_rate=0.75, cost_usd=0.9),
    ]
)


def at(model: str, effort: str | None, result: str = "failed") -> dict[str, Any]:
    """An earlier attempt of agent codex."""
    return {**failed("codex", model, result), **({"effort": effort} if effort else {})}


async def decide(**request: Any) -> Decision:  # noqa: ANN401 - the fields of a request
    """The decision by the forecast alone."""
    return await pipeline(known=knowledge(EFFORTS)).decide(task(**request))


async def test_an_answer_names_the_effort() -> None:
    """Choice, plan and what is excluded say which effort; null where the catalog names none."""
    made = await decide(value_usd=30, require={"exclude": [{"agent_type": "codex", "model": "gpt", "effort": "low"}]})
    assert {(step.model, step.effort) for step in made.plan} == {("gpt", "high"), ("mini", None), ("opus", "high")}
    assert [(e.model, e.effort) for e in made.excluded] == [("gpt", "low")]
    assert made.key == made.plan[0].key


async def test_a_model_is_excluded_at_every_effort() -> None:
    """`exclude` without an effort means them all."""
    made = await decide(require={"exclude": [{"agent_type": "codex", "model": "gpt"}]})
    assert [(e.model, e.effort) for e in made.excluded] == [("gpt", "low"), ("gpt", "high")]


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("a", {"m@2026", "m@2026@low", "n"}),
        ("a/n", {"n"}),
        ("a/m@2026", {"m@2026", "m@2026@low"}),
        ("a/m@2026@low", {"m@2026@low"}),
    ],
)
async def test_names_are_compared_as_a_whole(name: str, gone: set[str]) -> None:
    """`agent/model@effort` means what it says, also where the model's own id has an `@`."""
    catalog = Catalog(
        [candidate("a", "m@2026"), candidate("a", "m@2026", effort="low"), candidate("a", "n"), candidate("b", "n")]
    )
    pair = pair_named(name)
    made = await pipeline(known=knowledge(catalog)).decide(task(require={"exclude": [msgspec.to_builtins(pair)]}))
    assert {one.key[1] for one in made.excluded} == gone
    assert made.failures == []


async def test_what_is_asked_for() -> None:
    """A model at an effort is that candidate; a model that has several without one leaves them to compete."""
    fixed = await decide(agent_type="codex", model="gpt", effort="high")
    assert (fixed.source, fixed.model, fixed.effort) == ("requested", "gpt", "high")
    either = await decide(agent_type="codex", model="gpt", value_usd=0.5)
    assert (either.source, either.model, either.effort) == ("forecast", "gpt", "low")
    assert {step.model for step in either.plan} == {"gpt"}
    plain = await decide(agent_type="codex", model="mini")
    assert (plain.source, plain.effort) == ("requested", None)
    for effort in ("medium", "HIGH"):
        with pytest.raises(NoEligibleCandidateError, match="gpt@low"):
            await decide(agent_type="codex", model="gpt", effort=effort)


async def test_a_failed_attempt_is_of_its_effort() -> None:
    """One effort that failed leaves the others, whose chances fall by more than a stranger's would."""
    before = await decide(agent_type="codex", model="gpt", effort="high")
    after = await decide(agent_type="codex", model="gpt", effort="high", attempts=[at("gpt", "low")])
    twin = Catalog([*EFFORTS.candidates, candidate("other", "as-able", solve_rate=0.55, cost_usd=0.1)])
    stranger = await pipeline(known=knowledge(twin)).decide(
        task(agent_type="codex", model="gpt", effort="high", attempts=[failed("other", "as-able")])
    )
    assert after.p_solve < stranger.p_solve - 0.02 < before.p_solve
    assert [(e.model, e.effort) for e in after.excluded] == [("gpt", "low")]


async def test_the_plan_knows_what_a_sibling_tells() -> None:
    """Asked again after its first step failed, the next one's chance is what the plan said."""
    only = {"agent_type": "codex", "model": "gpt", "value_usd": 30}
    first = await decide(**only)
    again = await decide(**only, attempts=[at("gpt", first.effort)])
    assert again.p_solve == pytest.approx(first.plan[1].p_solve)


async def test_a_classifier_chooses_an_effort() -> None:
    """Each effort has a code of its own, and so a verdict is of one."""
    asked = ScriptedClassifier(chooses(1))
    made = await pipeline(asked, known=knowledge(EFFORTS)).decide(task())
    assert (made.source, made.model, made.effort) == ("local_model", "gpt", "high")


def test_outcomes_are_of_an_effort() -> None:
    """An outcome is learned for the effort that it names, and what had failed before for theirs."""
    recorded = RecordedOutcome(
        seq=1,
        outcome_id="o",
        recorded_at=NOW,
        withdrawn_at=None,
        outcome=Outcome(agent_type="codex", model="gpt", effort="high", solved=True),
        context=Context(agent_type="codex", model="gpt", effort="high", failed=[("codex", "gpt@low")]),
    )
    row = row_of(recorded)
    assert (row.agent_type, row.model) == EFFORTS.candidates[1].key
    assert row.failed == (EFFORTS.candidates[0].key,)


async def test_decisions_remember_the_efforts_that_failed() -> None:
    """What an outcome is learned with names the efforts."""
    logged: list[LoggedDecision] = []
    steps = pipeline(known=knowledge(EFFORTS))
    steps.observers = (logged.append,)
    await steps.decide(task(attempts=[at("gpt", "low"), at("mini", None)]))
    assert logged[0].known == Known(
        failed=[("codex", "gpt@low"), ("codex", "mini")], minutes=None, kind=logged[0].known.kind
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"agent_type": "codex", "effort": "high"}, id="effort-without-model"),
        pytest.param({"require": {"exclude": [{"agent_type": "codex", "effort": "high"}]}}, id="excluded"),
    ],
)
def test_an_effort_needs_its_model(body: dict[str, Any]) -> None:
    """It means nothing without one."""
    with pytest.raises(InvalidInputError, match="needs `model`"):
        decode_json(msgspec.json.encode({"instructions": "x", **body}), msgspec.json.Decoder(Task))


def test_names_that_would_be_the_same_are_refused() -> None:
    """A model whose id reads like another with its effort would be the same candidate everywhere."""
    text = """
        [[agent]]
        type = "a"
        [[agent.model]]
        id = "m"
        effort = "high"
        [[agent.model]]
        id = "m@high"
    """
    with pytest.raises(ConfigurationError, match="twice"):
        parse_catalog(text, source="catalog.toml")


def test_the_catalog_shows_efforts() -> None:
    """Its forecast numbers are told for each."""
    reports = Forecaster(EFFORTS).abilities()
    assert [(report.model, report.effort) for report in reports[:2]] == [("gpt", "low"), ("gpt", "high")]


def rows(effort: str, number: int, *, solved: bool) -> list[OutcomeRow]:
    """Outcomes of one effort, each of another task."""
    return [
        OutcomeRow(agent_type="codex", model=f"gpt@{effort}", solved=solved, task=f"{effort}{i}") for i in range(number)
    ]


@pytest.mark.parametrize("kinds", [(), (Kind(id="issue"), Kind(id="testing"))], ids=["no-kinds", "kinds"])
def test_an_effort_without_figures_starts_from_its_sibling(kinds: tuple[Kind, ...]) -> None:
    """What nothing is published of is taken to be as able as the model's other effort, weakly."""
    catalog = Catalog([*EFFORTS.candidates, candidate("claude", "opus", effort="low", solve_rate=None)], kinds=kinds)
    before = learn(catalog, ())
    low, high = before.abilities["claude", "opus@low"], before.abilities["claude", "opus@high"]
    assert low.theta == pytest.approx(high.theta)
    assert low.theta > before.abilities["codex", "mini"].theta + 1


@pytest.mark.parametrize("kinds", [(), (Kind(id="issue"), Kind(id="testing"))], ids=["no-kinds", "kinds"])
def test_outcomes_of_one_effort_move_the_other_in_part(kinds: tuple[Kind, ...]) -> None:
    """Failures at one effort lower the other by less than itself, and a stranger by nothing to speak of."""
    catalog = Catalog(EFFORTS.candidates, kinds=kinds)
    before, after = learn(catalog, ()).abilities, learn(catalog, rows("low", 40, solved=False)).abilities
    fall = {key: before[key].theta - after[key].theta for key in before}
    assert fall["codex", "gpt@low"] > 1
    assert 0.25 * fall["codex", "gpt@low"] < fall["codex", "gpt@high"] < 0.75 * fall["codex", "gpt@low"]
    assert abs(fall["codex", "mini"]) < 0.1 * fall["codex", "gpt@low"]


@pytest.mark.parametrize("kinds", [(), (Kind(id="issue"), Kind(id="testing"))], ids=["no-kinds", "kinds"])
def test_costs_and_minutes_start_from_a_sibling_too(kinds: tuple[Kind, ...]) -> None:
    """What nothing is published of is taken to cost and to last as much as the other effort of its model, and outcomes
    of its own outvote that; a stranger still costs what is usual."""
    known = candidate("claude", "opus", effort="high", cost_usd=8.0, minutes=40.0)
    unknown = [
        candidate("claude", name, effort=effort, solve_rate=None, cost_usd=None)
        for name, effort in (("opus", "low"), ("stranger", None))
    ]
    others = [candidate("codex", f"m{i}", cost_usd=0.5, minutes=5.0) for i in range(3)]
    catalog = Catalog([known, *unknown, *others], kinds=kinds)
    low = learn(catalog, ()).abilities["claude", "opus@low"]
    assert (low.cost_usd, low.minutes) == pytest.approx((8.0, 40.0))
    assert learn(catalog, ()).abilities["claude", "stranger"].cost_usd == pytest.approx(0.5)
    own = [
        OutcomeRow(
            agent_type="claude", model="opus@low", solved=True, task=str(i), cost_usd=1.0, duration_seconds=600.0
        )
        for i in range(10)
    ]
    after = learn(catalog, own).abilities
    assert after["claude", "opus@low"].cost_usd == pytest.approx(1.0, rel=0.5)
    assert after["claude", "opus@low"].minutes == pytest.approx(10.0, rel=0.3)
    assert after["claude", "opus@high"].cost_usd == pytest.approx(8.0)


def test_what_a_sibling_was_seen_to_cost_is_what_it_is_taken_to_cost() -> None:
    """With no published figures at all, an effort that was never tried starts from what the other one cost."""
    efforts = [candidate("a", "m", effort=one, solve_rate=None, cost_usd=None) for one in ("low", "high")]
    catalog = Catalog([*efforts, candidate("b", "n", solve_rate=0.5, cost_usd=0.1)])
    rows = [OutcomeRow(agent_type="a", model="m@high", solved=True, task=str(i), cost_usd=4.0) for i in range(30)]
    learned = learn(catalog, rows).abilities
    assert learned["a", "m@low"].cost_usd == pytest.approx(learned["a", "m@high"].cost_usd)
    assert learned["a", "m@low"].cost_usd > 3
    assert learned["b", "n"].cost_usd == pytest.approx(0.1)


def test_an_effort_without_figures_of_a_kind_is_as_its_sibling_there() -> None:
    """Where the other effort is dear and weak in a kind this one is too, and not what strangers are in it."""
    figures = {"issue": Figures(solve_rate=0.3, cost_usd=4.0)}
    catalog = Catalog(
        [
            candidate("a", "m", effort="high", solve_rate=0.7, cost_usd=1.0, kinds=figures),
            candidate("a", "m", effort="low", solve_rate=None, cost_usd=None),
            candidate("b", "n", solve_rate=0.5, cost_usd=1.0, kinds={"issue": Figures(solve_rate=0.8, cost_usd=0.5)}),
        ],
        kinds=[Kind(id="issue"), Kind(id="testing")],
    )
    known = learn(catalog, ()).abilities
    low, high = known["a", "m@low"].kinds["issue"], known["a", "m@high"].kinds["issue"]
    assert low.cost_usd == pytest.approx(high.cost_usd) == pytest.approx(4.0)
    assert low.theta == pytest.approx(high.theta)
