"""Outcomes are evidence given the failures before them: against a joint likelihood by brute force."""

import random
from collections import Counter
from collections.abc import Sequence
from math import inf, log

import numpy as np
import pytest

from service.contract.catalog import Candidate, Catalog
from service.forecast.ability import TASKS_SD, learn
from service.forecast.cells import PRIOR_WEIGHT
from service.forecast.difficulty import Array
from service.forecast.evidence import collect
from service.forecast.history import History, OutcomeRow
from service.forecast.learned import Learned
from service.forecast.likelihood import Likelihood, Place, Prior, start_shape

RATES = [0.35, 0.5, 0.65, 0.75]
TRUE = np.array([-1.0, 0.0, 1.0, 2.0])
PAIRS = [("any", f"m{i}") for i in range(4)]
CATALOG = Catalog(
    Candidate(agent_type=agent_type, model=model, solve_rate=rate, cost_usd=0.1)
    for (agent_type, model), rate in zip(PAIRS, RATES, strict=True)
)
FINE = np.linspace(-25, 25, 2001)


def row(model: int, solved: bool, *, task: str | None = None, failed: Sequence[int] = ()) -> OutcomeRow:
    """An outcome of a decision that knew of these failed attempts."""
    return OutcomeRow(
        agent_type="any", model=f"m{model}", solved=solved, task=task, failed=tuple(PAIRS[one] for one in failed)
    )


def escalations(seed: int, tasks: int) -> list[list[tuple[int, bool]]]:
    """What became of tasks: attempts in an order of their own, the next only after a failure."""
    rng = np.random.default_rng(seed)
    found: list[list[tuple[int, bool]]] = []
    for _ in range(tasks):
        difficulty = rng.normal(0, 2.75)
        attempts: list[tuple[int, bool]] = []
        for model in rng.permutation(4).tolist():
            attempts.append((model, bool(rng.random() < 1 / (1 + np.exp(difficulty - TRUE[model])))))
            if attempts[-1][1]:
                break
        found.append(attempts)
    return found


def reported(attempts: list[tuple[int, bool]], task: str | None) -> list[OutcomeRow]:
    """As a scheduler reports them: each by a decision that knew of the failures before it."""
    failed: list[int] = []
    rows: list[OutcomeRow] = []
    for model, solved in attempts:
        rows.append(row(model, solved, task=task, failed=tuple(failed)))
        failed.append(model)
    return rows


def log_mass(results: list[tuple[int, bool]], learned: Learned, theta: Array) -> float:
    """log ∫ P(results | d) p(d) dd by a fine sum, with the tasks that nobody solves."""
    shape = learned.shape(None)
    like = np.exp(-0.5 * ((FINE - learned.tasks) / shape.sigma) ** 2)
    like *= (1 - shape.unsolvable) / like.sum()
    hopeless = shape.unsolvable
    for model, solved in results:
        chance = 1 / (1 + np.exp(FINE - theta[model]))
        like = like * (chance if solved else 1 - chance)
        hopeless *= 0.0 if solved else 1.0
    return log(float(like.sum()) + hopeless)


def thetas(learned: Learned) -> Array:
    """Abilities in catalog order."""
    return np.array([known.theta for known in learned.abilities.values()])


def slope(learned: Learned, terms: list[tuple[list[tuple[int, bool]], float]], model: int) -> float:
    """Of the brute-force log posterior in one ability, where results count as often as `terms` says."""
    prior = learned.shape(None)
    anchor = Learned(
        abilities={},
        tasks=0.0,
        labels={},
        label_widths={},
        minutes_weight=0.0,
        shapes={"": prior},
        covariance=(),
        used=0,
        ignored=0,
        version="",
    )
    values: list[float] = []
    for step in (-1e-3, 1e-3):
        theta = thetas(learned)
        theta[model] += step
        total = sum(times * log_mass(results, learned, theta) for results, times in terms)
        for one, rate in enumerate(RATES):
            total += PRIOR_WEIGHT * rate * log_mass([(one, True)], anchor, theta)
            total += PRIOR_WEIGHT * (1 - rate) * log_mass([(one, False)], anchor, theta)
        values.append(total)
    return (values[1] - values[0]) / 2e-3


def test_outcomes_of_one_task_are_its_joint_likelihood() -> None:
    """With a task's id, what is learned is the maximum of the joint likelihood of all its attempts, by brute force."""
    tasks = escalations(1, 150)
    learned = learn(CATALOG, [one for t, task in enumerate(tasks) for one in reported(task, f"t{t}")])
    assert [slope(learned, [(task, 1.0) for task in tasks], model) for model in range(4)] == pytest.approx(
        [0.0] * 4, abs=0.02
    )


def test_without_a_task_each_result_counts_given_the_failures_before_it() -> None:
    """A re-ask's result is log P(result and failures) − log P(failures), so that no failure counts twice."""
    tasks = escalations(2, 150)
    learned = learn(CATALOG, [one for task in tasks for one in reported(task, None)])
    terms = [(task[: n + 1], 1.0) for task in tasks for n in range(len(task))]
    terms += [(task[:n], -1.0) for task in tasks for n in range(1, len(task))]
    assert [slope(learned, terms, model) for model in range(4)] == pytest.approx([0.0] * 4, abs=0.02)
    joint = learn(CATALOG, [one for t, task in enumerate(tasks) for one in reported(task, f"t{t}")])
    assert thetas(learned) == pytest.approx(thetas(joint), abs=0.02)


def test_taken_for_first_tries_the_same_outcomes_teach_what_is_false() -> None:
    """The defect that this is about: with neither id nor failures, strong models that see failures look weak."""
    tasks = escalations(3, 800)
    ordered = [sorted(task) for task in tasks]
    rows = [one for task in ordered for one in reported(task, None)]
    plain = [OutcomeRow(agent_type="any", model=one.model, solved=one.solved) for one in rows]
    told, untold = learn(CATALOG, rows), learn(CATALOG, plain)
    assert thetas(untold)[3] - thetas(untold)[0] < thetas(told)[3] - thetas(told)[0] - 0.5


def test_an_attempt_recorded_by_task_and_by_attempts_counts_once() -> None:
    """Failures that are on record as outcomes of the task are not counted again because a later decision knew them."""
    tasks = escalations(4, 80)
    twice = [one for t, task in enumerate(tasks) for one in reported(task, f"t{t}")]
    once = [row(model, solved, task=f"t{t}") for t, task in enumerate(tasks) for model, solved in task]
    assert learn(CATALOG, twice) == learn(CATALOG, once)


def test_attempts_that_are_not_on_record_condition_those_that_are() -> None:
    """A task whose first failure was never reported teaches by its second result, given that failure."""
    tasks = [task[:2] for task in escalations(5, 300) if len(task) > 1]
    with_task = learn(CATALOG, [reported(task, f"t{t}")[-1] for t, task in enumerate(tasks)])
    without = learn(CATALOG, [reported(task, None)[-1] for task in tasks])
    assert thetas(with_task).tolist() == thetas(without).tolist()
    terms = [(task, 1.0) for task in tasks] + [(task[:-1], -1.0) for task in tasks]
    assert [slope(with_task, terms, model) for model in range(4)] == pytest.approx([0.0] * 4, abs=0.02)


def test_outcomes_may_come_in_any_order() -> None:
    """Attempts reported in another order than they happened teach the same, to the last bit."""
    rows = [one for t, task in enumerate(escalations(6, 60)) for one in reported(task, f"t{t}" if t % 3 else None)]
    forwards = learn(CATALOG, rows)
    for seed in range(3):
        assert learn(CATALOG, random.Random(seed).sample(rows, len(rows))) == forwards


def test_failures_in_any_order_condition_alike() -> None:
    """Which attempts failed before counts, and not in which order they are told."""
    one = [row(3, t % 3 > 0, failed=(0, 1, 2)) for t in range(30)]
    other = [row(3, t % 3 > 0, failed=(2, 0, 1)) for t in range(30)]
    assert learn(CATALOG, one) == learn(CATALOG, other)


def test_a_pair_that_failed_twice_counts_twice() -> None:
    """Two failures of one pair before a success say more than one."""
    single = learn(CATALOG, [row(2, True, failed=(3,)) for _ in range(40)])
    double = learn(CATALOG, [row(2, True, failed=(3, 3)) for _ in range(40)])
    assert thetas(double)[2] > thetas(single)[2]


def test_a_failure_of_a_stranger_conditions_too() -> None:
    """A pair that the catalog does not have counts as one of ability 0 that failed before, as it does in a forecast."""
    strange = OutcomeRow(agent_type="any", model="m2", solved=True, failed=(("gone", "x"),))
    evidence = collect(History([strange] * 6, half_life=inf).snapshot(), PAIRS)
    told = {
        (tuple(evidence.solved[p].tolist()), tuple(evidence.failed[p].tolist())): count
        for p, count in zip(evidence.pattern.tolist(), evidence.count.tolist(), strict=True)
    }
    assert told == {((0, 0, 1, 0, 0), (0, 0, 0, 0, 1)): 6.0, ((0, 0, 0, 0, 0), (0, 0, 0, 0, 1)): -6.0}


def test_weights_count_each_outcome_by_its_own_age() -> None:
    """With forgetting, each result given those before it counts by the newer outcomes of its own candidate."""
    rows = [one for t, task in enumerate(escalations(7, 40)) for one in reported(task, f"t{t}")]
    history = History(rows, half_life=15.0)
    newer = Counter[str]()
    weight: list[float] = []
    for one in reversed(rows):
        weight.insert(0, 0.5 ** (newer[one.model] / 15.0))
        newer[one.model] += 1
    terms: list[tuple[list[tuple[int, bool]], float]] = []
    for one, share in zip(rows, weight, strict=True):
        before = [(int(model[1:]), False) for _, model in one.failed]
        terms += [([*before, (int(one.model[1:]), one.solved)], share), (before, -share)]
    learned = learn(CATALOG, history)
    assert [slope(learned, terms, model) for model in range(4)] == pytest.approx([0.0] * 4, abs=0.02)


def test_gradient_and_information_are_those_of_the_value() -> None:
    """Against differences of the value: every ability, shift and shape, with labels, minutes, kinds and conditions."""
    rng = np.random.default_rng(8)
    rows = [
        OutcomeRow(
            agent_type=one.agent_type,
            model=one.model,
            solved=one.solved,
            task=one.task,
            failed=one.failed,
            labels={"repo": f"r{t % 3}", "team": f"{t % 2}"},
            kind="research" if t % 2 else None,
            minutes=float(rng.integers(1, 99)) if t % 3 else None,
        )
        for t, task in enumerate(escalations(8, 40))
        for one in reported(task, f"t{t}" if t % 4 else None)
    ]
    evidence = collect(History(rows, half_life=25.0).snapshot(), PAIRS)
    assert (evidence.count < 0).any()
    labels, kinds = len(evidence.labels), len(evidence.settings.kinds)
    assert (labels, kinds) == (5, 2)
    prior = Prior(
        rate=np.array(RATES),
        weight=np.full(4, 7.0),
        shift_mean=np.zeros(2 + labels),
        shift_sd=np.r_[TASKS_SD, 0.3, np.full(labels, 0.7)],
        shape=learn(CATALOG, ()).shape(None),
        shape_sd=(0.3, 1.0),
    )
    model = Likelihood(evidence, prior)
    place = Place(TRUE + 0.2, rng.normal(0, 0.3, 2 + labels), start_shape(prior.shape) + rng.normal(0, 0.2, (kinds, 2)))
    here, size, step = model.slope(place), 4 + 2, 1e-4

    def at(which: int, by: float) -> tuple[float, Array]:
        move = by * np.eye(size + labels)[which]
        there = model.slope(place.moved(move[:size], move[size:], inf))
        return there.value, np.r_[there.core, there.labels]

    ends = [(at(i, step), at(i, -step)) for i in range(size + labels)]
    gradient = [(up[0] - down[0]) / (2 * step) for up, down in ends]
    assert np.r_[here.core, here.labels] == pytest.approx(gradient, abs=1e-5)
    bend = -np.array([(up[1] - down[1]) / (2 * step) for up, down in ends])
    assert here.information == pytest.approx(bend[:size, :size], abs=1e-3)
    assert here.cross == pytest.approx(bend[size:, :size], abs=1e-3)
    assert here.own + here.precision == pytest.approx(np.diag(bend)[size:], abs=1e-3)


def test_gradient_of_the_shape_is_that_of_what_came_after_failures() -> None:
    """Against differences of the value without its prior, for each kind, where only results after others count."""
    rows = [
        OutcomeRow(
            agent_type=one.agent_type,
            model=one.model,
            solved=one.solved,
            task=one.task,
            failed=one.failed,
            kind="research" if t % 2 else None,
        )
        for t, task in enumerate(escalations(9, 60))
        for one in reported(task, f"t{t}" if t % 4 else None)
    ]
    evidence = collect(History(rows, half_life=25.0).snapshot(), PAIRS)
    prior = Prior(
        rate=np.array(RATES),
        weight=np.full(4, 7.0),
        shift_mean=np.zeros(2),
        shift_sd=np.array([1e9, 1e9]),
        shape=learn(CATALOG, ()).shape(None),
        shape_sd=(1e9, 1e9),
    )
    again = Likelihood(evidence, prior, again=True)
    start = np.tile(start_shape(prior.shape), (2, 1)) + np.array([[0.1, 0.5], [-0.2, -0.4]])
    here = again.slope(Place(TRUE, np.zeros(2), start))
    for kind in (0, 1):
        for part in (0, 1):
            ends: list[float] = []
            for step in (-1e-4, 1e-4):
                shape = start.copy()
                shape[kind, part] += step
                ends.append(again.slope(Place(TRUE, np.zeros(2), shape)).value)
            assert here.shape[kind, part] == pytest.approx((ends[1] - ends[0]) / 2e-4, abs=1e-4)
    assert np.linalg.eigvalsh(here.shape_information).min() > -1
