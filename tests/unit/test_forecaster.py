"""Forecasts for one task: the posterior, what shifts it, and what it says of itself."""

from math import exp, pi, sqrt
from pathlib import Path

import msgspec
import numpy as np
import pytest

from service.contract.catalog import Candidate, Catalog
from service.contract.catalog_file import load_catalog
from service.contract.task import Attempt, AttemptResult
from service.forecast.ability import CLASSIFIER_WEIGHT, learn
from service.forecast.difficulty import SIGMA, UNSOLVABLE, solve_rate
from service.forecast.effort import estimate_minutes
from service.forecast.evidence import MINUTES_NEUTRAL
from service.forecast.forecast import Forecast
from service.forecast.forecaster import TEXT_WEIGHT, Forecaster, MinutesSource
from service.forecast.history import OutcomeRow
from service.forecast.stakes import Stakes

DEFAULT = load_catalog(Path(__file__).parents[1] / "data" / "catalog_2025.toml")
THREE = Catalog(
    Candidate(agent_type="any", model=f"m{i}", solve_rate=rate, cost_usd=cost)
    for i, (rate, cost) in enumerate([(0.35, 0.02), (0.6, 0.1), (0.75, 0.7)])
)


def attempt(model: str, result: AttemptResult = "failed", agent_type: str = "any") -> Attempt:
    """An earlier attempt."""
    return Attempt(agent_type=agent_type, model=model, result=result)


def ask(
    forecaster: Forecaster,
    *attempts: Attempt,
    labels: dict[str, str] | None = None,
    minutes: float | None = None,
    source: MinutesSource = "classifier",
) -> Forecast:
    """A forecast for the whole catalog."""
    return forecaster.forecast(
        forecaster.catalog.candidates, labels=labels or {}, minutes=minutes, minutes_source=source, attempts=attempts
    )


def test_first_attempts_are_as_published() -> None:
    """Before any attempt and any outcome, chances and costs are the catalog's."""
    forecast = ask(Forecaster(THREE))
    assert forecast.p_solve == pytest.approx([0.35, 0.6, 0.75])
    assert forecast.cost_usd == pytest.approx([0.02, 0.1, 0.7])


def test_posterior_after_failures_is_the_brute_force_integral() -> None:
    """After two failures the chances are those of Bayes' rule on a fine grid of difficulties."""
    forecaster = Forecaster(THREE)
    theta = [report.theta for report in forecaster.abilities()]
    total, solved = UNSOLVABLE, 0.0
    for i in range(-40_000, 40_001):
        d = i / 1000
        weight = (1 - UNSOLVABLE) * exp(-0.5 * (d / SIGMA) ** 2) / (SIGMA * sqrt(2 * pi) * 1000)
        for failed in theta[:2]:
            weight *= 1 - 1 / (1 + exp(d - failed))
        total += weight
        solved += weight / (1 + exp(d - theta[2]))
    forecast = ask(forecaster, attempt("m0"), attempt("m1"))
    assert forecast.p_solve[2] == pytest.approx(solved / total, abs=1e-6)


@pytest.mark.parametrize("result", ["solved", "rate_limited", "error"])
def test_only_failures_say_how_hard_a_task_is(result: AttemptResult) -> None:
    """Attempts that never ran, and ones that solved it, leave the forecast as it was; a failure lowers every chance."""
    forecaster = Forecaster(THREE)
    before = ask(forecaster)
    assert ask(forecaster, attempt("m2", result)).p_solve == before.p_solve
    after = ask(forecaster, attempt("m2"))
    assert all(a < b for a, b in zip(after.p_solve, before.p_solve, strict=True))
    assert all(a > b for a, b in zip(after.cost_usd, before.cost_usd, strict=True))


def test_failures_in_any_order_say_the_same() -> None:
    """What is left depends on which candidates failed."""
    forecaster = Forecaster(THREE)
    one, other = ask(forecaster, attempt("m0"), attempt("m2")), ask(forecaster, attempt("m2"), attempt("m0"))
    assert one.p_solve == pytest.approx(other.p_solve, abs=1e-12)


def test_a_failure_of_a_stronger_model_says_more() -> None:
    """The task looks harder after the best model failed than after the weakest; a stranger's failure lies between."""
    forecaster = Forecaster(THREE)
    weak, strange, strong = (ask(forecaster, attempt(m)).p_solve[1] for m in ("m0", "unheard-of", "m2"))
    assert strong < strange < weak


def test_a_thousand_failures_leave_numbers() -> None:
    """The longest list of attempts gives chances near nothing and finite costs."""
    forecast = ask(Forecaster(THREE), *[attempt(f"m{i % 4}") for i in range(1000)])
    assert all(0 < p < 0.01 for p in forecast.p_solve)
    assert np.isfinite(forecast.cost_usd).all()
    assert not forecast.plan(Stakes(value_usd=1.0)).worthwhile


@pytest.mark.parametrize(("source", "weight"), [("classifier", CLASSIFIER_WEIGHT), ("text", TEXT_WEIGHT)])
def test_minutes_shift_difficulty_by_the_weight_of_their_source(source: MinutesSource, weight: float) -> None:
    """e times the neutral minutes make a task harder by the source's weight; neutral ones change nothing."""
    forecaster = Forecaster(THREE)
    plain = ask(forecaster)
    assert ask(forecaster, minutes=MINUTES_NEUTRAL, source=source).p_solve == plain.p_solve
    longer = ask(forecaster, minutes=MINUTES_NEUTRAL * exp(1), source=source)
    assert longer.explain()["difficulty"]["mean"] == pytest.approx(weight, abs=2e-3)
    assert all(a < b for a, b in zip(longer.p_solve, plain.p_solve, strict=True))


@pytest.mark.parametrize("minutes", [0.0, 1e-300, 1e300, float("inf"), -1.0], ids=str)
def test_absurd_minutes_are_bounded(minutes: float) -> None:
    """Minutes count as one at least and a month at most."""
    forecast = ask(Forecaster(THREE), minutes=minutes)
    assert 0.2 < forecast.p_solve[2] < 0.96


def test_learned_labels_shift_only_tasks_that_carry_them() -> None:
    """A label whose tasks fail lowers the chances of tasks with that label, and says so; an unknown label does not."""
    rows = [
        OutcomeRow(agent_type="any", model="m1", solved=bool(t % 10 < (2 if hard else 6)), labels={"repo": repo})
        for t in range(200)
        for repo, hard in (("hard", True), ("plain", False))
    ]
    forecaster = Forecaster(THREE, learn(THREE, rows))
    hard, plain, unknown = (ask(forecaster, labels={"repo": repo}) for repo in ("hard", "plain", "new"))
    assert hard.p_solve[1] < unknown.p_solve[1] < plain.p_solve[1]
    assert hard.explain()["shift"]["labels"]["repo"] > 0.3
    assert unknown.explain()["shift"]["labels"] == {}


def test_any_labels_may_be_asked_about() -> None:
    """Hostile names and values are only looked up."""
    labels = {"\ud800": "\ud800", "": "", "x" * 100: "\x00" * 300}
    assert ask(Forecaster(THREE), labels=labels).p_solve == ask(Forecaster(THREE)).p_solve


def test_a_fixed_first_step_is_followed_by_the_best_rest() -> None:
    """`first` is step one; what follows is what would be asked for after it failed."""
    forecaster = Forecaster(THREE)
    plan = ask(forecaster).plan(Stakes(value_usd=20.0), first=THREE.candidates[2])
    assert str(plan.steps[0]) == str(THREE.candidates[2])
    rest = forecaster.forecast(
        THREE.candidates[:2], labels={}, minutes=None, minutes_source="text", attempts=[attempt("m2")]
    ).plan(Stakes(value_usd=20.0), max_steps=4)
    assert [str(step) for step in plan.steps[1:]] == [str(step) for step in rest.steps]
    assert [step.p_solve for step in plan.steps[1:]] == pytest.approx([step.p_solve for step in rest.steps])


def test_plan_totals_follow_from_its_steps() -> None:
    """The plan's chance and cost are the sums over steps that are reached."""
    plan = ask(Forecaster(DEFAULT)).plan(Stakes(value_usd=15.0))
    reached, spent = 1.0, 0.0
    for step in plan.steps:
        spent += reached * step.cost_usd
        reached *= 1 - step.p_solve
    assert 5 < len(plan.steps) <= 8
    assert (plan.p_solve, plan.cost_usd) == pytest.approx((1 - reached, spent))


@pytest.mark.parametrize("value", [0.5, 1.0, 2.0, 3.0, 15.0], ids=str)
@pytest.mark.parametrize("text", ["fix a typo in README", "Hello!", "Bump the version number"])
def test_trivial_tasks_start_with_a_cheap_candidate(text: str, value: float) -> None:
    """Where the catalog has cheap models, plainly trivial work goes to one of the two cheapest first."""
    minutes = estimate_minutes("", text).minutes
    plan = ask(Forecaster(DEFAULT), minutes=minutes, source="text").plan(Stakes(value_usd=value))
    cheap = sorted(DEFAULT.candidates, key=lambda candidate: candidate.cost_usd or 0.0)[:2]
    assert plan.worthwhile
    assert str(plan.steps[0]) in [str(candidate) for candidate in cheap]


def test_explanation_is_plain_json() -> None:
    """The explanation names abilities, difficulty, minutes with their weight, offsets and outcomes used."""
    forecast = ask(Forecaster(THREE), attempt("m0"), minutes=45.0, source="text", labels={"repo": "a"})
    told = msgspec.json.decode(msgspec.json.encode(forecast.explain()))
    assert told["shift"]["minutes"] == {
        "minutes": 45.0,
        "source": "text",
        "weight": TEXT_WEIGHT,
        "logits": 0.0811,
        "cost_factor": 1.0,
    }
    assert told["failed_attempts"] == 1
    assert [one["model"] for one in told["candidates"]] == ["m0", "m1", "m2"]
    assert told["difficulty"]["sd"] < SIGMA
    assert told["learned"]["outcomes"] == 0


def test_reports_show_prior_and_learned() -> None:
    """Every candidate is reported in catalog order: published figures, learned ones, and the outcomes behind them."""
    unknown = Catalog([*THREE.candidates, Candidate(agent_type="any", model="m3")])
    rows = [OutcomeRow(agent_type="any", model="m0", solved=True, cost_usd=0.05) for _ in range(60)]
    rows.append(OutcomeRow(agent_type="any", model="m0", solved=True))
    reports = Forecaster(unknown, learn(unknown, rows)).abilities()
    assert [report.model for report in reports] == ["m0", "m1", "m2", "m3"]
    first, last = reports[0], reports[3]
    assert (first.prior_solve_rate, first.prior_cost_usd, first.n, first.n_cost) == (0.35, 0.02, 61, 60)
    assert first.learned_solve_rate > 0.6
    assert 0.04 < first.learned_cost_usd < 0.055
    assert (last.prior_solve_rate, last.prior_cost_usd, last.n) == (None, None, 0)
    assert last.learned_cost_usd == pytest.approx(0.1)


def test_a_changed_catalog_keeps_what_is_learned() -> None:
    """After a reload, learned abilities go to the pairs they belong to; new pairs stand at published figures."""
    rows = [OutcomeRow(agent_type="any", model="m1", solved=True, cost_usd=0.5) for _ in range(50)]
    learned = learn(THREE, rows)
    newer = Catalog(
        [Candidate(agent_type="new", model="x", solve_rate=0.5, cost_usd=1.0), THREE.candidates[1], THREE.candidates[0]]
    )
    forecaster = Forecaster(newer, learned)
    theta = [report.theta for report in forecaster.abilities()]
    assert theta[1:] == [learned.abilities["any", "m1"].theta, learned.abilities["any", "m0"].theta]
    assert solve_rate(np.array(theta[:1]), 0.0, learned.shape(None))[0] == pytest.approx(0.5)
    assert forecaster.cost_usd(newer.candidates[1]) == learned.abilities["any", "m1"].cost_usd > 0.4
    assert forecaster.version == learned.version
