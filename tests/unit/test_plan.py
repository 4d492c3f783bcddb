"""The plan against exhaustive search and direct summation."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.forecast.difficulty import GRID, Array, chances, cost_factor, log_normal, weights
from service.forecast.options import Options
from service.forecast.plan import EXACT, MAX_STEPS, Path
from service.forecast.plan import best_path as best_path_of
from service.forecast.stakes import Stakes

ABILITIES = st.one_of(st.floats(-6, 6), st.sampled_from([0.0, 1.0, -18.0, 18.0]))
COSTS = st.one_of(st.floats(0.001, 5), st.sampled_from([0.0, 0.1, 1000.0]))
INSTANCES = st.lists(st.tuples(ABILITIES, COSTS), min_size=1, max_size=7)
VALUES = st.one_of(st.floats(0.01, 100), st.sampled_from([1e-6, 1e6]))


def best_path(
    prior: Array,
    chance: Array,
    cost: Array,
    value: float,
    *,
    first: int | None = None,
    max_steps: int = MAX_STEPS,
    exact: int = EXACT,
) -> Path:
    """The plan where nothing but the value is at stake."""
    options = Options(chance, cost)
    return best_path_of(prior, options, Stakes(value_usd=value), first=first, max_steps=max_steps, exact=exact)


def curves(pairs: list[tuple[float, float]]) -> tuple[Array, Array]:
    """Chances and costs at each grid point."""
    theta = np.array([theta for theta, _ in pairs])
    return chances(theta), np.array([cost for _, cost in pairs])[:, None] * cost_factor(0.0)


def summed(order: tuple[int, ...], prior: Array, chance: Array, cost: Array) -> tuple[float, float]:
    """(chance that the plan solves the task, its expected cost), one difficulty at a time, in plain Python."""
    solved, spent = 0.0, 0.0
    for d in range(len(GRID)):
        reached = float(prior[d])
        for c in order:
            spent += reached * float(cost[c, d])
            solved += reached * float(chance[c, d])
            reached *= 1 - float(chance[c, d])
    return solved, spent


def worth_of(order: tuple[int, ...], prior: Array, chance: Array, cost: Array, value: float) -> float:
    """What going through the steps is worth in dollars."""
    reach, worth = prior, 0.0
    for c in order:
        worth += float(reach @ (value * chance[c] - cost[c]))
        reach = reach * (1 - chance[c])
    return worth


def exhaustive(prior: Array, chance: Array, cost: Array, value: float, steps: int, first: int | None) -> float:
    """The highest worth over every ordered choice of one to `steps` candidates that starts with `first`."""
    orders = (order for size in range(1, steps + 1) for order in permutations(range(len(chance)), size))
    return max(worth_of(order, prior, chance, cost, value) for order in orders if first is None or order[0] == first)


@settings(max_examples=60, deadline=None)
@given(pairs=INSTANCES, value=VALUES, mean=st.floats(-5, 5), data=st.data())
def test_plan_is_the_best_of_all_orders(
    pairs: list[tuple[float, float]], value: float, mean: float, data: st.DataObject
) -> None:
    """No ordered choice of up to `max_steps` candidates is worth more, with and without a fixed first step."""
    steps = data.draw(st.integers(1, 4 if len(pairs) == 7 else MAX_STEPS))
    first = data.draw(st.one_of(st.none(), st.integers(0, len(pairs) - 1)))
    chance, cost = curves(pairs)
    prior = weights(log_normal(mean))
    found = best_path(prior, chance, cost, value, first=first, max_steps=steps)
    best = exhaustive(prior, chance, cost, value, steps, first)
    assert len(set(found.order)) == len(found.order) <= steps
    assert first is None or found.order[0] == first
    stake = value + max(one for _, one in pairs)
    assert worth_of(found.order, prior, chance, cost, value) == pytest.approx(best, abs=1e-9 * stake)


def test_plan_out_of_seven_is_the_best_of_all() -> None:
    """The full depth agrees with exhaustive search over all 13,699 orders of seven candidates."""
    rng = np.random.default_rng(3)
    for _ in range(3):
        theta = np.sort(rng.normal(0, 1.5, 7))
        chance, cost = curves(list(zip(theta.tolist(), np.sort(rng.lognormal(-2, 1, 7)).tolist(), strict=True)))
        prior = weights(log_normal(0.5))
        found = best_path(prior, chance, cost, 20.0)
        assert len(found.order) >= 3
        worth = worth_of(found.order, prior, chance, cost, 20.0)
        assert worth == pytest.approx(exhaustive(prior, chance, cost, 20.0, MAX_STEPS, None), abs=1e-10)


@settings(max_examples=60, deadline=None)
@given(pairs=INSTANCES, value=VALUES, first=st.none() | st.just(0))
def test_totals_agree_with_direct_summation(pairs: list[tuple[float, float]], value: float, first: int | None) -> None:
    """`total_p_solve` and `total_cost_usd` are the sums over difficulties and follow from the steps' figures."""
    chance, cost = curves(pairs)
    prior = weights(log_normal(0.0))
    found = best_path(prior, chance, cost, value, first=first)
    solved, spent = summed(found.order, prior, chance, cost)
    assert found.total_p_solve == pytest.approx(solved, abs=1e-9)
    assert found.total_cost_usd == pytest.approx(spent, rel=1e-9, abs=1e-12)
    reached, by_steps = 1.0, 0.0
    for p, one in zip(found.p_solve, found.cost_usd, strict=True):
        by_steps += reached * one
        reached *= 1 - p
    assert found.total_p_solve == pytest.approx(1 - reached, abs=1e-12)
    assert found.total_cost_usd == pytest.approx(by_steps, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(pairs=INSTANCES, value=VALUES)
def test_worthwhile_says_whether_any_next_attempt_pays(pairs: list[tuple[float, float]], value: float) -> None:
    """`worthwhile` is false exactly where p_solve × value < cost for every candidate; there is a step all the same."""
    chance, cost = curves(pairs)
    prior = weights(log_normal(1.0))
    found = best_path(prior, chance, cost, value)
    pays = [float(p @ prior) * value >= float(one @ prior) for p, one in zip(chance, cost, strict=True)]
    assert found.worthwhile is any(pays)
    assert len(found.order) == 1 or found.worthwhile


def test_not_worthwhile_takes_the_least_loss() -> None:
    """Where nothing pays, the one step is the candidate that loses least."""
    chance, cost = curves([(2.0, 5.0), (0.0, 2.0), (-1.0, 3.0)])
    found = best_path(weights(log_normal(0.0)), chance, cost, 0.01)
    assert (found.order, found.worthwhile) == ((1,), False)


def test_every_later_step_pays_for_itself() -> None:
    """The plan ends before the first step that is worth less than it costs."""
    chance, cost = curves([(0.0, 0.05), (1.0, 0.5), (2.0, 3.0), (2.5, 40.0)])
    found = best_path(weights(log_normal(0.0)), chance, cost, 5.0)
    assert 3 not in found.order
    assert all(p * 5.0 >= one for p, one in zip(found.p_solve, found.cost_usd, strict=True))


def test_equal_candidates_go_in_the_order_of_the_list() -> None:
    """Ties are broken by position, and so the same way every time."""
    chance, cost = curves([(1.0, 0.1)] * 7)
    assert best_path(weights(log_normal(0.0)), chance, cost, 1000.0).order == tuple(range(7))
    chance, cost = curves([(1.0, 0.1)] * 20)
    assert best_path(weights(log_normal(0.0)), chance, cost, 1000.0).order == tuple(range(8))


def test_where_cost_decides_nothing_the_strongest_goes_first() -> None:
    """Free candidates in any order are worth the same; the one that is likeliest to solve the task is tried first."""
    chance, cost = curves([(0.3, 0.0), (2.0, 0.0), (1.0, 0.0), (2.0, 0.0)])
    for value in (0.1, 1.0, 7.0, 1e4):
        assert best_path(weights(log_normal(0.3)), chance, cost, value).order == (1, 3, 2, 0)


def test_free_candidates_come_first() -> None:
    """An attempt that costs nothing is made before the same attempt for money."""
    chance, cost = curves([(0.0, 0.2), (0.0, 0.0), (2.0, 1.0)])
    assert best_path(weights(log_normal(0.0)), chance, cost, 10.0).order[0] == 1


@pytest.mark.parametrize("count", [13, 15, 18], ids=str)
def test_screen_keeps_within_one_percent_of_exact(count: int) -> None:
    """Beyond 12 candidates the plan is worth at least 99 % of the exact one, the hardest kind of catalog included."""
    rng = np.random.default_rng(count)
    prior = weights(log_normal(0.0))
    for kind in range(4):
        theta, price = rng.normal(0.5, 1.5, count), np.exp(rng.normal(-1.5, 1.5, count))
        if kind % 2:
            theta, price = np.sort(theta), np.sort(price)
        chance, cost = curves(list(zip(theta.tolist(), price.tolist(), strict=True)))
        value = float(np.exp(rng.uniform(0, 4)))
        screened = best_path(prior, chance, cost, value)
        exact = best_path(prior, chance, cost, value, exact=count)
        assert worth_of(screened.order, prior, chance, cost, value) >= 0.99 * worth_of(
            exact.order, prior, chance, cost, value
        )


def test_fifty_candidates_with_a_first_step() -> None:
    """A fixed first step is kept even where the screen would set it aside."""
    chance, cost = curves([(0.1 * i, 0.02 * (i + 1)) for i in range(49)] + [(-5.0, 90.0)])
    found = best_path(weights(log_normal(0.0)), chance, cost, 50.0, first=49)
    assert found.order[0] == 49
    assert 49 not in found.order[1:]
    assert len(found.order) > 2
