"""Abilities and costs by kind of work: from the catalog, from outcomes, and mixed where the kind is uncertain."""

import numpy as np
import pytest

from service.contract.catalog import Candidate, Catalog
from service.contract.kind import Figures, Kind
from service.contract.task import Attempt
from service.forecast.ability import learn
from service.forecast.curves import mixture
from service.forecast.forecast import Forecast
from service.forecast.forecaster import Forecaster
from service.forecast.history import OutcomeRow

CODE, ASK = "code", "ask"
KINDS = [Kind(id=CODE), Kind(id=ASK)]
BOTH = Catalog(
    [
        Candidate(
            agent_type="a",
            model="coder",
            solve_rate=0.8,
            cost_usd=1.0,
            kinds={CODE: Figures(solve_rate=0.8), ASK: Figures(solve_rate=0.15, cost_usd=0.2)},
        ),
        Candidate(
            agent_type="a",
            model="reader",
            solve_rate=0.6,
            cost_usd=1.0,
            kinds={CODE: Figures(solve_rate=0.6), ASK: Figures(solve_rate=0.85, cost_usd=0.2)},
        ),
        Candidate(agent_type="a", model="new", solve_rate=0.7, cost_usd=2.0),
    ],
    kinds=KINDS,
)


def ask(forecaster: Forecaster, kinds: dict[str, float] | None, *failed: str) -> Forecast:
    """The forecast for a task of these kinds after these models failed."""
    return forecaster.forecast(
        forecaster.catalog.candidates,
        labels={},
        minutes=None,
        minutes_source="text",
        attempts=[Attempt(agent_type="a", model=model, result="failed") for model in failed],
        kinds=kinds,
    )


def test_a_known_kind_has_the_rates_and_costs_of_that_kind() -> None:
    """What the catalog says of a kind is what is forecast of it; what it leaves out is as for all tasks."""
    forecast = ask(Forecaster(BOTH), {ASK: 1.0})
    assert forecast.p_solve[:2] == pytest.approx((0.15, 0.85), abs=1e-3)
    assert forecast.cost_usd[:2] == pytest.approx((0.2, 0.2), rel=1e-3)
    assert ask(Forecaster(BOTH), {CODE: 1.0}).p_solve[0] == pytest.approx(0.8, abs=1e-3)


def test_a_candidate_without_figures_of_a_kind_is_as_others_are_in_it() -> None:
    """Its cost in a kind is to its own what others' are to theirs."""
    forecast = ask(Forecaster(BOTH), {ASK: 1.0})
    assert forecast.cost_usd[2] == pytest.approx(0.4, rel=1e-3)
    assert 0.15 < forecast.p_solve[2] < 0.85


def test_an_uncertain_kind_is_a_mixture() -> None:
    """Chances and costs are the mean over what the task may be."""
    forecast = ask(Forecaster(BOTH), {CODE: 0.5, ASK: 0.5})
    assert forecast.p_solve[0] == pytest.approx((0.8 + 0.15) / 2, abs=2e-3)
    assert forecast.cost_usd[0] == pytest.approx(0.6, rel=1e-2)


def test_a_failure_tells_of_the_kind_too() -> None:
    """Where the one that is good at code failed, the task is likelier to be a question than it was."""
    forecaster = Forecaster(BOTH)
    before, after = ask(forecaster, {CODE: 0.5, ASK: 0.5}), ask(forecaster, {CODE: 0.5, ASK: 0.5}, "coder")
    assert before.explain()["kinds"] == {CODE: 0.5, ASK: 0.5}
    assert after.explain()["kinds"][ASK] > 0.7
    assert after.p_solve[1] > ask(forecaster, {CODE: 1.0}, "coder").p_solve[1]


def test_chances_of_a_mixture_are_those_of_brute_force() -> None:
    """After two failures: Bayes over kind and difficulty, written out."""
    forecaster = Forecaster(BOTH)
    parts = {kind: ask(forecaster, {kind: 1.0}) for kind in (CODE, ASK)}
    once = {kind: ask(forecaster, {kind: 1.0}, "coder") for kind in (CODE, ASK)}
    weight = {kind: 0.5 * (1 - parts[kind].p_solve[0]) * (1 - once[kind].p_solve[2]) for kind in (CODE, ASK)}
    twice = {kind: ask(forecaster, {kind: 1.0}, "coder", "new").p_solve[1] for kind in (CODE, ASK)}
    expected = sum(weight[kind] * twice[kind] for kind in weight) / sum(weight.values())
    assert ask(forecaster, {CODE: 0.5, ASK: 0.5}, "coder", "new").p_solve[1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("kinds", "parts"),
    [
        pytest.param({CODE: 0.97, ASK: 0.03}, ((CODE, 10),), id="sure"),
        pytest.param({CODE: 0.4, ASK: 0.6}, ((CODE, 4), (ASK, 6)), id="unsure"),
        pytest.param({CODE: 0.4, ASK: 0.02}, ((CODE, 4), (ASK, 0), (None, 6)), id="partly"),
        pytest.param({"gone": 1.0}, ((None, 10),), id="unknown"),
        pytest.param({CODE: 0.0, ASK: 0.0}, ((None, 10),), id="nothing"),
    ],
)
def test_shares_are_rounded_so_that_tasks_share_a_forecast(
    kinds: dict[str, float], parts: tuple[tuple[str | None, int], ...]
) -> None:
    """Tenths, in the catalog's order; where it is of several, all kinds that the catalog has, and no others."""
    assert mixture(kinds, (CODE, ASK)) == parts


def test_fifty_kinds_that_are_as_likely_are_no_kind() -> None:
    """Where none is worth a tenth, the candidate's figures for all tasks count."""
    catalog = Catalog(BOTH.candidates[2:], kinds=[Kind(id=f"k{i}") for i in range(50)])
    forecast = ask(Forecaster(catalog), {f"k{i}": 0.02 for i in range(50)})
    assert forecast.p_solve == pytest.approx((0.7,), abs=1e-3)


def outcomes(rng: np.random.Generator, rates: dict[str, dict[str, float]], number: int) -> list[OutcomeRow]:
    """So many tasks of each kind, each tried once by everyone."""
    return [
        OutcomeRow(
            agent_type="a",
            model=model,
            solved=bool(rng.random() < rate),
            cost_usd=3.0 if kind == ASK else 1.0,
            duration_seconds=120.0,
            kind=kind,
            task=f"{kind}{i}",
        )
        for kind, of in rates.items()
        for i in range(number)
        for model, rate in of.items()
    ]


def test_what_kinds_differ_by_is_learned() -> None:
    """Two candidates of one published rate that are each good at another kind are told apart by forty tasks a kind, in
    chances, costs and minutes."""
    same = Catalog(
        [Candidate(agent_type="a", model=model, solve_rate=0.6, cost_usd=1.0) for model in ("x", "y")], kinds=KINDS
    )
    rates = {CODE: {"x": 0.9, "y": 0.4}, ASK: {"x": 0.3, "y": 0.8}}
    forecaster = Forecaster(same, learn(same, outcomes(np.random.default_rng(1), rates, 40)))
    code, question = ask(forecaster, {CODE: 1.0}), ask(forecaster, {ASK: 1.0})
    assert code.p_solve[0] > 0.75 > 0.55 > code.p_solve[1]
    assert question.p_solve[1] > 0.65 > 0.45 > question.p_solve[0]
    assert question.cost_usd[0] > 2.2
    assert code.cost_usd[0] < 1.2
    assert code.minutes is not None
    assert 1.5 < code.minutes[0] < 3.0
    report = forecaster.abilities()[0].kinds[CODE]
    assert (report.n, report.n_cost, report.prior_solve_rate) == (40, 40, None)


def test_where_kinds_do_not_differ_the_width_is_next_to_nothing() -> None:
    """Labels without meaning taken for kinds cost nothing: abilities in them are those over all."""
    same = Catalog(
        [Candidate(agent_type="a", model=model, solve_rate=0.6, cost_usd=1.0) for model in ("x", "y", "z")], kinds=KINDS
    )
    alike = {"x": 0.75, "y": 0.5, "z": 0.65}
    learned = learn(same, outcomes(np.random.default_rng(2), {CODE: alike, ASK: alike}, 150))
    assert max(learned.kind_widths) <= 0.02
    apart = [abs(known.kinds[CODE].theta - known.kinds[ASK].theta) for known in learned.abilities.values()]
    assert max(apart) < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_labels_by_lot_change_nothing(seed: int) -> None:
    """Six labels drawn by lot over tasks that several failed and retried: one spread of difficulty, no width, and each
    costs in each what it costs in all."""
    rng = np.random.default_rng(seed)
    kinds = [f"lot-{i}" for i in range(6)]
    models = {f"m{i}": 0.3 * i for i in range(8)}
    catalog = Catalog(
        [Candidate(agent_type="a", model=m, solve_rate=0.6, cost_usd=1.0) for m in models],
        kinds=[Kind(id=kind) for kind in kinds],
    )
    rows: list[OutcomeRow] = []
    for task in range(200):
        hard, kind = rng.normal(0.0, 2.5), kinds[int(rng.integers(6))]
        rows += [
            OutcomeRow(
                agent_type="a",
                model=model,
                solved=bool(rng.random() < 1 / (1 + np.exp(hard - theta))),
                cost_usd=float(np.exp(rng.normal(0.0, 0.8))),
                kind=kind,
                task=f"t{task}",
            )
            for model, theta in models.items()
        ]
    learned = learn(catalog, rows)
    assert max(learned.kind_widths) <= 0.02
    assert len({learned.shape(kind) for kind in kinds}) == 1
    for known in learned.abilities.values():
        assert [one.theta for one in known.kinds.values()] == pytest.approx([known.theta] * 6, abs=0.05)
    costs = np.array(
        [[one.cost_usd / known.cost_usd for one in known.kinds.values()] for known in learned.abilities.values()]
    )
    assert np.abs(np.log(costs / costs.mean(axis=0))).max() < 0.2


def test_costs_that_differ_by_kind_are_learned() -> None:
    """One candidate is dear in one kind and another in the other: what was paid counts at once."""
    same = Catalog(
        [Candidate(agent_type="a", model=model, solve_rate=0.6, cost_usd=1.0) for model in ("x", "y")], kinds=KINDS
    )
    rng = np.random.default_rng(5)
    mean = {("x", CODE): 0.3, ("x", ASK): 3.0, ("y", CODE): 3.0, ("y", ASK): 0.3}
    rows = [
        OutcomeRow(
            agent_type="a",
            model=m,
            solved=bool(i % 2),
            cost_usd=cost * float(rng.gamma(2.0, 0.5)),
            kind=k,
            task=f"{k}{i}",
        )
        for (m, k), cost in mean.items()
        for i in range(15)
    ]
    abilities = learn(same, rows).abilities
    for (m, k), cost in mean.items():
        assert abilities["a", m].kinds[k].cost_usd == pytest.approx(cost, rel=0.4)


def test_outcomes_in_one_kind_move_the_others_of_their_candidate() -> None:
    """A candidate that fails everywhere in one kind is expected to be worse in the other too, but less so."""
    rows = [OutcomeRow(agent_type="a", model="coder", solved=False, kind=CODE, task=f"t{i}") for i in range(30)]
    before, after = Forecaster(BOTH), Forecaster(BOTH, learn(BOTH, rows))
    lost = {kind: ask(before, {kind: 1.0}).p_solve[0] - ask(after, {kind: 1.0}).p_solve[0] for kind in (CODE, ASK)}
    assert lost[CODE] > 0.3
    assert 0.01 < lost[ASK] < lost[CODE]


def test_outcomes_of_a_kind_that_is_gone_count_for_their_candidate() -> None:
    """A kind that was removed from the catalog takes no outcomes with it."""
    rows = [OutcomeRow(agent_type="a", model="new", solved=False, kind="gone", task=f"t{i}") for i in range(30)]
    learned = learn(BOTH, rows)
    assert learned.used == 30
    assert Forecaster(BOTH, learned).abilities()[2].learned_solve_rate < 0.5


def test_what_was_learned_of_kinds_survives_a_catalog_with_another_kind() -> None:
    """A kind that is new stands at what is published, the others at what was learned."""
    learned = learn(BOTH, outcomes(np.random.default_rng(3), {CODE: {"coder": 0.2}}, 60))
    wider = Catalog(BOTH.candidates, kinds=[*KINDS, Kind(id="draw")])
    forecaster = Forecaster(wider, learned)
    assert ask(forecaster, {CODE: 1.0}).p_solve[0] < 0.5
    assert ask(forecaster, {"draw": 1.0}).p_solve[1] == pytest.approx(0.6, abs=0.05)


def test_a_text_leans_and_outcomes_overrule() -> None:
    """Among agents of the same figures the one that the text is for comes first, until outcomes say otherwise."""
    pair = Catalog([Candidate(agent_type=agent, model="m", agent_description=agent) for agent in ("db", "css")])

    def chances(forecaster: Forecaster) -> tuple[float, ...]:
        return forecaster.forecast(
            pair.candidates,
            labels={},
            minutes=None,
            minutes_source="text",
            attempts=[],
            leaning={0: -1.0, 1: 1.0},
        ).p_solve

    first, second = chances(Forecaster(pair))
    assert first < second < first + 0.25
    rows = [
        OutcomeRow(agent_type=a, model="m", solved=a == "db", task=f"{a}{i}") for a in ("db", "css") for i in range(15)
    ]
    first, second = chances(Forecaster(pair, learn(pair, rows)))
    assert first > second
