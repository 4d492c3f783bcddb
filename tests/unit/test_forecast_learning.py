"""Abilities, costs and offsets from outcomes, against simulated populations and brute force."""

import random
import threading
from collections.abc import Iterator
from itertools import pairwise
from math import log

import numpy as np
import pytest

from service.contract.catalog import Candidate, Catalog
from service.forecast.ability import LABEL_SD, TASKS_SD, learn
from service.forecast.costs import CAP, UNKNOWN_COST_USD
from service.forecast.difficulty import SIGMA, Array, ability, solve_rate
from service.forecast.evidence import MINUTES_NEUTRAL
from service.forecast.history import History, OutcomeRow, label_digest
from service.forecast.learned import Learned

RATES = [0.3, 0.45, 0.6, 0.75]
TRUE = np.array([-1.5, 0.0, 1.0, 2.5])


def catalog(rates: list[float | None] | None = None, costs: list[float | None] | None = None) -> Catalog:
    """Models m0, m1, … of one agent type."""
    known: list[float | None] = [*RATES] if rates is None else rates
    prices = [0.1] * len(known) if costs is None else costs
    return Catalog(
        Candidate(agent_type="any", model=f"m{i}", solve_rate=rate, cost_usd=price)
        for i, (rate, price) in enumerate(zip(known, prices, strict=True))
    )


def row(
    model: int,
    solved: bool,
    *,
    task: str | None = None,
    cost_usd: float | None = None,
    labels: dict[str, str] | None = None,
    minutes: float | None = None,
) -> OutcomeRow:
    """An outcome of a model."""
    return OutcomeRow(
        agent_type="any",
        model=f"m{model}",
        solved=solved,
        task=task,
        cost_usd=cost_usd,
        labels=labels or {},
        minutes=minutes,
    )


def thetas(learned: Learned) -> Array:
    """Abilities in catalog order."""
    return np.array([known.theta for known in learned.abilities.values()])


def tried(
    rng: np.random.Generator,
    models: list[int],
    difficulty: float,
    *,
    task: str | None = None,
    labels: dict[str, str] | None = None,
    minutes: float | None = None,
) -> Iterator[OutcomeRow]:
    """One outcome for each model at a task."""
    for model in models:
        solved = bool(rng.random() < 1 / (1 + np.exp(difficulty - TRUE[model])))
        cost = float(rng.lognormal(-2, 1))
        yield row(model, solved, task=task, labels=labels, minutes=minutes, cost_usd=cost)


def escalated(rng: np.random.Generator, tasks: int) -> Iterator[OutcomeRow]:
    """Weak to strong models, the next only after a failure, so that strong ones see hard tasks."""
    for task in range(tasks):
        difficulty = rng.normal(0, SIGMA)
        for model in range(4):
            solved = bool(rng.random() < 1 / (1 + np.exp(difficulty - TRUE[model])))
            yield row(model, solved, task=f"t{task}", cost_usd=0.2 * float(np.exp(0.1 * difficulty)))
            if solved:
                break


def test_nothing_recorded_is_what_the_catalog_says() -> None:
    """Without outcomes every candidate's rate and cost are the published ones."""
    learned = learn(catalog(), ())
    assert solve_rate(thetas(learned)) == pytest.approx(RATES, abs=1e-9)
    assert [known.cost_usd for known in learned.abilities.values()] == [0.1] * 4
    assert (learned.used, learned.ignored, learned.tasks, learned.labels) == (0, 0, 0.0, {})


def test_abilities_of_a_simulated_population_are_recovered() -> None:
    """From 4,000 tasks with four outcomes each, every ability is found within four standard errors (0.25 logits)."""
    rng = np.random.default_rng(1)
    rows = [one for t in range(4000) for one in tried(rng, [0, 1, 2, 3], rng.normal(0, SIGMA), task=str(t))]
    learned = learn(catalog(), rows)
    assert thetas(learned) - learned.tasks == pytest.approx(TRUE, abs=0.25)


def test_hurried_learning_is_near_and_then_settles() -> None:
    """Learned in a hurry from one part after another, abilities are within a tenth of a logit of the most probable
    ones; learned from there at leisure, they are the most probable ones.
    """
    rng = np.random.default_rng(3)
    rows = [one for t in range(800) for one in tried(rng, rng.permutation(4)[:2].tolist(), rng.normal(), task=str(t))]
    history = History(rows[:600])
    known = learn(catalog(), history)
    for begin in range(600, len(rows), 200):
        for one in rows[begin : begin + 200]:
            history.put(one)
        known = learn(catalog(), history, start=known, hurried=True)
    settled = learn(catalog(), history)
    assert thetas(known) == pytest.approx(thetas(settled), abs=0.1)
    assert thetas(known).tolist() != thetas(settled).tolist()
    assert thetas(learn(catalog(), history, start=known)) == pytest.approx(thetas(settled), abs=0.02)


def test_abilities_are_recovered_where_strong_models_only_see_failures() -> None:
    """Trying weak models first and strong ones after failures does not bias what is learned.

    It would, were each model's share of solved attempts taken for its rate: the strongest looks weaker by far.
    """
    rows = list(escalated(np.random.default_rng(2), 6000))
    learned = learn(catalog(), rows)
    assert thetas(learned) - learned.tasks == pytest.approx(TRUE, abs=0.35)
    strongest = [one.solved for one in rows if one.model == "m3"]
    assert float(ability(np.array([sum(strongest) / len(strongest)]))[0]) < TRUE[3] - 1.5


def test_costs_seen_on_hard_tasks_only_are_not_taken_for_the_mean() -> None:
    """A model that is tried after failures gets the cost of an average task, 0.21 here, not the one seen."""
    rows = list(escalated(np.random.default_rng(3), 4000))
    seen = np.mean([one.cost_usd for one in rows if one.model == "m3" and one.cost_usd is not None])
    learned = learn(catalog(), rows).abilities["any", "m3"]
    assert seen > 0.26
    assert learned.cost_usd == pytest.approx(0.2 * np.exp(0.005 * SIGMA**2), abs=0.01)


def test_order_of_outcomes_changes_nothing() -> None:
    """Outcomes in any order teach the same, even where those of one task disagree on labels.

    Only the shape of difficulty is learned from what came after what; it hardly moves.
    """
    rng = np.random.default_rng(5)
    rows = [
        one
        for t in range(200)
        for one in tried(
            rng,
            rng.permutation(4)[: 1 + t % 4].tolist(),
            rng.normal(0, 3),
            task=f"t{t}" if t % 3 else None,
            labels={"repo": f"r{t % 5}", "team": f"x{t % 3}"},
            minutes=float(rng.integers(1, 300)) if t % 2 else None,
        )
    ]
    rows += [row(t % 4, t % 2 > 0, task=f"t{t}", labels={"repo": "r0", "odd": "yes"}, minutes=7.0) for t in range(60)]
    forwards = learn(catalog(), rows)
    for seed in range(3):
        shuffled = random.Random(seed).sample(rows, len(rows))
        found = learn(catalog(), shuffled)
        rates = [solve_rate(thetas(one), one.tasks, one.shape(None)) for one in (found, forwards)]
        assert rates[0] == pytest.approx(rates[1], abs=0.01)
        assert [one.cost_usd for one in found.abilities.values()] == pytest.approx(
            [one.cost_usd for one in forwards.abilities.values()], rel=0.01
        )


def test_a_label_of_hard_tasks_gets_an_offset_that_grows_with_what_is_known() -> None:
    """Few outcomes of a hard label move its offset a little, many move it most of the way; a rare label has none."""
    rng = np.random.default_rng(6)

    def offset(tasks: int) -> float:
        rows = [one for t in range(400) for one in tried(rng, [1], rng.normal(0, SIGMA), task=f"a{t}")]
        hard = [rng.normal(1.5, SIGMA) for _ in range(tasks)]
        rows += [
            one
            for t, difficulty in enumerate(hard)
            for one in tried(rng, [1], difficulty, task=f"b{t}", labels={"repo": "hard"})
        ]
        return learn(catalog(), rows).labels.get(label_digest("repo", "hard"), 0.0)

    none, few, many = offset(4), offset(10), offset(1500)
    assert none == 0
    assert abs(few) < LABEL_SD
    assert many == pytest.approx(1.4, abs=0.5)


def test_unknown_pairs_are_counted_and_teach_nothing() -> None:
    """Outcomes of pairs that the catalog does not have leave everything as it was, and are reported."""
    stranger = OutcomeRow(agent_type="other", model="m0", solved=False, cost_usd=9.0, task="u", labels={"repo": "r"})
    rows = [row(0, True, task="t", cost_usd=0.2), row(1, False, task="t")]
    alone, beside = learn(catalog(), rows), learn(catalog(), [*rows, *[stranger] * 20])
    assert thetas(beside).tolist() == thetas(alone).tolist()
    assert (beside.used, beside.ignored) == (2, 20)
    assert learn(catalog(), [stranger]).abilities == learn(catalog(), ()).abilities


def test_a_withdrawn_outcome_teaches_nothing() -> None:
    """After a withdrawal everything is as if the outcome had never been."""
    rows = [row(i % 4, i % 3 > 0, cost_usd=0.3, labels={"repo": "a"}) for i in range(30)]
    history = History(rows, half_life=10)
    history.put(row(2, False, cost_usd=5000.0), "wrong")
    assert learn(catalog(), history) != learn(catalog(), History(rows, half_life=10))
    assert history.withdraw("wrong")
    assert learn(catalog(), history) == learn(catalog(), History(rows, half_life=10))
    assert not history.withdraw("wrong")
    assert len(history) == 30


@pytest.mark.parametrize("absurd", [100_000.0, float("inf"), float("nan"), -5.0], ids=str)
def test_one_absurd_cost_does_not_wreck_a_mean(absurd: float) -> None:
    """Among twenty ordinary costs one absurd one adds at most CAP / 25 of the median, or counts for nothing."""
    learned = learn(catalog(), [*[row(1, True, cost_usd=0.1) for _ in range(20)], row(1, True, cost_usd=absurd)])
    plain = learn(catalog(), [row(1, True, cost_usd=0.1) for _ in range(20)])
    known, before = learned.abilities["any", "m1"], plain.abilities["any", "m1"]
    assert known.n == 21
    assert known.cost_usd <= before.cost_usd * (1 + CAP / 20)
    if absurd != 100_000.0:
        assert known.n_cost == 20
        assert known.cost_usd == pytest.approx(before.cost_usd, rel=0.02)


def test_a_cost_far_from_the_catalog_is_learned() -> None:
    """A published cost that is wrong by a factor of a thousand is outvoted by what was recorded."""
    rows = [row(0, i % 10 < 3, cost_usd=100.0) for i in range(200)]
    assert learn(catalog(), rows).abilities["any", "m0"].cost_usd == pytest.approx(98, rel=0.05)


def test_a_free_model_stays_free_and_may_become_dear() -> None:
    """Costs of zero are learned as they are, and a model that was free in the catalog can be found to cost."""
    free = catalog([0.3, 0.4, 0.6], [0.0, 0.0, 1.0])
    rows = [row(0, True, cost_usd=0.0) for _ in range(50)] + [row(1, True, cost_usd=0.5) for _ in range(50)]
    learned = learn(free, rows).abilities
    assert learned["any", "m0"].cost_usd == 0
    assert learned["any", "m1"].cost_usd == pytest.approx(0.5, rel=0.25)


def test_unknown_figures_start_from_the_weakest_prior() -> None:
    """A model without a rate is taken for one of two, without a cost for the median; few outcomes outweigh both."""
    learned = learn(catalog([None, 0.6, 0.7], [None, 0.1, 0.3]), ()).abilities["any", "m0"]
    assert solve_rate(np.array([learned.theta]))[0] == pytest.approx(0.5)
    assert learned.cost_usd == pytest.approx(0.2)
    assert learn(catalog([None], [None]), ()).abilities["any", "m0"].cost_usd == UNKNOWN_COST_USD
    rows = [row(model, True, cost_usd=1.0, task=f"t{i}{model}") for i in range(10) for model in (0, 1)]
    seen = learn(catalog([None, 0.6, 0.7], [None, 0.1, 0.3]), rows).abilities
    assert seen["any", "m0"].theta > 2 > seen["any", "m1"].theta
    assert seen["any", "m0"].cost_usd > 0.8 > seen["any", "m1"].cost_usd


def test_hostile_and_countless_labels_are_harmless() -> None:
    """Any text may be a label; one that few outcomes carry has no offset, and every offset is bounded."""
    names = ["", "\ud800", "\x00", "a" * 300, "'; DROP TABLE outcomes; --", "\u202e", "__proto__", "1:a"]
    rows = [row(i % 4, i % 5 < 3, labels={"k" + names[i % 8]: names[i % 8], "pr": str(i)}) for i in range(4000)]
    rows += [row(i % 4, i % 5 < 3, labels={"ten": str(i % 400)}) for i in range(4000)]
    learned = learn(catalog(), rows)
    assert all(abs(offset) < 12 for offset in learned.labels.values())
    assert not {label_digest("pr", str(i)) for i in range(4000)} & set(learned.labels)


def test_key_and_value_of_a_label_do_not_run_together() -> None:
    """("a", "bc") and ("ab", "c") are two labels."""
    assert label_digest("a", "bc") != label_digest("ab", "c")


def test_many_outcomes_of_one_task_stay_finite() -> None:
    """100,000 contradictory outcomes of one task are one difficulty, and leave abilities in order and finite."""
    history = History(row(i % 4, i % 2 == 0, task="same") for i in range(100_000))
    learned = learn(catalog(), history)
    assert np.isfinite(thetas(learned)).all()
    assert all(np.isfinite(one) for one in (learned.tasks, learned.minutes_weight))


def test_one_sided_outcomes_stay_within_bounds() -> None:
    """Only successes or only failures move an ability far, but not out of the scale."""
    rows = [row(0, False) for _ in range(5000)] + [row(3, True) for _ in range(5000)]
    found = thetas(learn(catalog(), rows))
    assert -18 <= found[0] < -4
    assert 4 < found[3] <= 18


def test_minutes_gain_weight_only_where_outcomes_show_it() -> None:
    """The weight grows towards the truth where longer means harder (1.5), and falls where it means nothing."""
    rng = np.random.default_rng(7)
    minutes = [float(np.exp(rng.normal(log(MINUTES_NEUTRAL), 1))) for _ in range(1500)]

    def weight(slope: float) -> float:
        rows = [
            one
            for t, m in enumerate(minutes)
            for one in tried(
                rng, [0, 1, 2, 3], rng.normal(slope * log(m / MINUTES_NEUTRAL), SIGMA), task=str(t), minutes=m
            )
        ]
        return learn(catalog(), rows).minutes_weight

    assert weight(1.5) == pytest.approx(1.4, abs=0.35)
    assert weight(0.0) == pytest.approx(0.0, abs=0.25)


def test_a_harder_population_shifts_the_untried_too() -> None:
    """Where three models do worse than published, tasks are taken to be harder, and a model not yet tried is too."""
    rng = np.random.default_rng(8)
    rows = [one for t in range(600) for one in tried(rng, [0, 1, 2], rng.normal(1.5, SIGMA), task=str(t))]
    learned = learn(catalog(solve_rate(TRUE).tolist()), rows)
    assert TASKS_SD / 2 < learned.tasks < 1.6
    assert learned.abilities["any", "m3"].n == 0
    untried = np.array([learned.abilities["any", "m3"].theta])
    assert solve_rate(untried, 0.0, learned.shape(None))[0] == pytest.approx(solve_rate(TRUE)[3], abs=1e-3)


def test_an_empty_catalog_learns_nothing() -> None:
    """No candidates, no abilities, no error."""
    learned = learn(Catalog([]), [row(0, True)])
    assert (learned.abilities, learned.used, learned.ignored) == ({}, 0, 1)


def test_version_changes_with_what_is_learned() -> None:
    """The same outcomes have the same version, others another."""
    rows = [row(0, True), row(1, False)]
    versions = [learn(catalog(), rows[:n]).version for n in (0, 1, 2, 2)]
    assert versions[2] == versions[3]
    assert all(a != b for a, b in pairwise(versions[:3]))


def test_learning_while_outcomes_are_added_sees_whole_rows() -> None:
    """A snapshot taken in another thread has columns of one length; without its cut the last row would be torn."""
    history = History()
    stop = threading.Event()

    def add() -> None:
        while not stop.is_set() and len(history) < 200_000:
            history.put(row(len(history) % 4, True, labels={"a": "b", "c": "d"}, cost_usd=0.1))

    writer = threading.Thread(target=add)
    writer.start()
    try:
        for _ in range(200):
            columns = history.snapshot()
            rows = len(columns.solved)
            assert all(
                len(column) == rows
                for column in (columns.pair, columns.cost_usd, columns.task, columns.minutes, columns.label_counts)
            )
            assert len(columns.labels) == 2 * rows
            assert rows == 0 or columns.pair.max() < len(columns.pairs)
    finally:
        stop.set()
        writer.join()
    assert len(history) > 0
