"""Everything that a plan weighs, together: against exhaustive search, by sums that know nothing of the programme."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.verifier import PERFECT, Verifier
from service.forecast.difficulty import GRID, Array, chances, cost_factor, log_normal, weights
from service.forecast.luck import SAME_MODEL, SAME_PAIR, Kinship, rejection
from service.forecast.options import Options
from service.forecast.plan import MAX_STEPS, Path, best_path
from service.forecast.stakes import Stakes

RATES = st.one_of(st.just(0.0), st.floats(0, 0.5), st.just(0.5))
VERIFIERS = st.builds(
    Verifier,
    false_accept=RATES,
    false_reject=RATES,
    harm_usd=st.one_of(st.just(0.0), st.floats(0, 50), st.just(1_000_000.0)),
)
STAKES = st.builds(
    Stakes,
    value_usd=st.one_of(st.floats(0.1, 100), st.just(1e6)),
    delay_usd_per_hour=st.one_of(st.just(0.0), st.floats(0, 100)),
    verifier=st.one_of(st.just(PERFECT), VERIFIERS),
    max_cost_usd=st.one_of(st.none(), st.floats(0.01, 2)),
)
CANDIDATES = st.lists(
    st.tuples(st.floats(-4, 4), st.floats(0.001, 3), st.floats(0, 60), st.floats(0, 1)), min_size=1, max_size=4
)


@dataclass(frozen=True)
class Case:
    """One instance: what may be tried, what is at stake, and the distribution over two kinds of work."""

    options: Options
    stakes: Stakes
    prior: Array
    worlds: list[tuple[Array, Array]]
    """For each way in which luck may fall: its weight at each grid point, each candidate's chances there."""


def kin(model: list[int]) -> Kinship:
    """Candidates of these models."""
    return Kinship(model=tuple(model), pair=tuple(range(len(model))))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Pools (a share of the list price), efforts (one model twice), time, a verifier, limits, second tries, kinds."""
    drawn = draw(CANDIDATES)
    kinds = draw(st.integers(1, 2))
    means = [draw(st.floats(-3, 3)) for _ in range(kinds)]
    share = draw(st.floats(0.05, 0.95))
    prior = np.concatenate(
        [part * weights(log_normal(mean)) for part, mean in zip((share, 1 - share), means, strict=False)]
    )
    prior /= prior.sum()
    factor = np.concatenate([cost_factor(mean) for mean in means])
    theta = np.array([theta for theta, *_ in drawn])
    chance = np.hstack([chances(theta + kind * draw(st.floats(-2, 2))) for kind in range(kinds)])
    cost = np.array([list_usd * used_up for _, list_usd, _, used_up in drawn])[:, None] * factor
    minutes = np.array([minutes for *_, minutes, _ in drawn])[:, None] * factor
    model = [draw(st.integers(0, c)) for c in range(len(drawn))]
    again = len(drawn) <= 2 and draw(st.booleans())
    options = Options(chance, cost, minutes=minutes, kinship=kin(model), tries=[1 + again] * len(drawn), kinds=kinds)
    return Case(options, draw(STAKES), prior, worlds(model, chance))


def worlds(model: list[int], chance: Array) -> list[tuple[Array, Array]]:
    """Every way in which the luck of each model may fall, at each grid point."""
    per_model = [list(of_model([c for c in range(len(model)) if model[c] == m], chance)) for m in sorted(set(model))]
    found: list[tuple[Array, Array]] = []
    for combined in product(*per_model):
        weight, then = np.ones(chance.shape[1]), np.zeros_like(chance)
        for share, rows in combined:
            weight = weight * share
            for c, row in rows.items():
                then[c] = row
        found.append((weight, then))
    return found


def of_model(mine: list[int], chance: Array) -> Iterator[tuple[Array, dict[int, Array]]]:
    """What may be drawn for the candidates of one model: attempts apart, pairs alike, all by one draw."""
    ones = np.ones(chance.shape[1])
    yield ones * (1 - SAME_PAIR), {c: chance[c] for c in mine}
    for drawn in product((0.0, 1.0), repeat=len(mine)):
        share = ones * (SAME_PAIR - SAME_MODEL)
        for c, solves in zip(mine, drawn, strict=True):
            share = share * (chance[c] if solves else 1 - chance[c])
        yield share, {c: ones * solves for c, solves in zip(mine, drawn, strict=True)}
    marks = np.sort(np.vstack([0 * ones, chance[mine], ones]), axis=0)
    for low, high in pairwise(marks):
        yield SAME_MODEL * (high - low), {c: ((low + high) / 2 < chance[c]) * 1.0 for c in mine}


def summed(case: Case, order: tuple[int, ...]) -> dict[str, Any]:
    """What becomes of the plan: a sum over kinds, difficulties and luck, in which attempts are independent."""
    check, options = case.stakes.verifier, case.options
    assert options.minutes is not None
    totals: dict[str, Any] = {"right": 0.0, "wrong": 0.0, "cost": 0.0, "minutes": 0.0, "steps": []}
    reach = [case.prior * weight for weight, _ in case.worlds]
    for c in order:
        before = sum(float(one.sum()) for one in reach)
        cost = sum(float(one @ options.cost[c]) for one in reach)
        totals["cost"] += cost
        totals["minutes"] += sum(float(one @ options.minutes[c]) for one in reach)
        solved = sum(float(one @ chance[c]) for one, (_, chance) in zip(reach, case.worlds, strict=True))
        totals["right"] += solved * (1 - check.false_reject)
        totals["wrong"] += (before - solved) * check.false_accept
        totals["steps"].append((solved / before, cost / before))
        reach = [
            one * (chance[c] * check.false_reject + (1 - chance[c]) * (1 - check.false_accept))
            for one, (_, chance) in zip(reach, case.worlds, strict=True)
        ]
    totals["worth"] = (
        case.stakes.value_usd * totals["right"]
        - check.harm_usd * totals["wrong"]
        - totals["cost"]
        - case.stakes.delay_usd_per_hour / 60 * totals["minutes"]
    )
    return totals


def orders(case: Case, first: int | None) -> Iterator[tuple[int, ...]]:
    """Every plan that could be made."""
    may = [c for c, tries in enumerate(case.options.tries) for _ in range(tries)]
    for size in range(1, min(len(may), MAX_STEPS) + 1):
        for order in set(permutations(may, size)):
            if first is None or order[0] == first:
                yield order


def keeps(totals: dict[str, Any], limit: float | None, *, fixed: int) -> bool:
    """Whether no step but the first so many, which the caller fixed, is too dear when it is made."""
    return limit is None or all(cost <= limit * (1 + 1e-9) for _, cost in totals["steps"][fixed:])


def stake(case: Case) -> float:
    """The money that rounding is measured by."""
    check = case.stakes.verifier
    dear = float(case.stakes.expense(case.options.cost, case.options.minutes).max())
    return case.stakes.value_usd + check.harm_usd * check.false_accept + dear


@settings(max_examples=150, deadline=None)
@given(case=cases(), data=st.data())
def test_plan_is_the_best_of_all_that_could_be_made(case: Case, data: st.DataObject) -> None:
    """No order of attempts within the limit is worth more: pools, efforts, time, verifier, second tries together."""
    first = data.draw(st.one_of(st.none(), st.integers(0, len(case.options.cost) - 1)))
    fixed = 0 if first is None else 1
    limit = case.stakes.max_cost_usd
    tried = {order: summed(case, order) for order in orders(case, first)}
    allowed = [found["worth"] for found in tried.values() if keeps(found, limit, fixed=fixed)]
    path = best_path(case.prior, case.options, case.stakes, first=first)
    mine = tried[path.order]
    if allowed:
        assert keeps(mine, limit, fixed=fixed)
        assert mine["worth"] == pytest.approx(max(allowed), abs=1e-9 * stake(case))
    else:
        assert len(path.order) == 1


@settings(max_examples=100, deadline=None)
@given(case=cases(), first=st.none() | st.just(0))
def test_figures_of_a_plan_are_the_sums(case: Case, first: int | None) -> None:
    """Each step's figures and the totals are those of the sums, whatever errs and whatever luck is shared."""
    path = best_path(case.prior, case.options, case.stakes, first=first)
    found = summed(case, path.order)
    assert path.total_p_solve == pytest.approx(found["right"], abs=1e-9)
    assert path.total_p_wrong == pytest.approx(found["wrong"], abs=1e-9)
    assert path.total_cost_usd == pytest.approx(found["cost"], rel=1e-9)
    assert path.total_minutes == pytest.approx(found["minutes"], rel=1e-9, abs=1e-12)
    for p, cost, (seen, spent) in zip(path.p_solve, path.cost_usd, found["steps"], strict=True):
        assert p == pytest.approx(seen, abs=1e-8)
        assert cost == pytest.approx(spent, rel=1e-8)


@settings(max_examples=60, deadline=None)
@given(case=cases(), limits=st.lists(st.floats(0.001, 3), min_size=2, max_size=6))
def test_a_higher_limit_never_gives_a_worse_plan(case: Case, limits: list[float]) -> None:
    """The plan's worth does not fall as `max_cost_usd` rises, from where the first attempt is within it."""
    least = float((case.options.cost @ case.prior).min())
    worths: list[float] = []
    for limit in [*sorted(limit for limit in limits if limit >= least), None]:
        stakes = Stakes(
            value_usd=case.stakes.value_usd,
            delay_usd_per_hour=case.stakes.delay_usd_per_hour,
            verifier=case.stakes.verifier,
            max_cost_usd=limit,
        )
        worths.append(summed(case, best_path(case.prior, case.options, stakes).order)["worth"])
    assert all(low <= high + 1e-9 * stake(case) for low, high in pairwise(worths))


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_a_perfect_check_plans_as_if_there_were_none(case: Case) -> None:
    """With rates of 0 the harm does not matter, and the plan is the same to the last bit."""
    plain, careful = (
        Stakes(value_usd=case.stakes.value_usd, verifier=verifier) for verifier in (PERFECT, Verifier(harm_usd=1e6))
    )
    assert best_path(case.prior, case.options, plain) == best_path(case.prior, case.options, careful)


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_asked_again_the_plan_goes_on_as_it_was(case: Case) -> None:
    """After a rejection of its first step, the plan made anew is worth what the first one had left."""
    path = best_path(case.prior, case.options, case.stakes)
    if len(path.order) < 2:
        return
    one, check = case.options.tried(path.order[0]), case.stakes.verifier
    again = Options(
        case.options.chance,
        case.options.cost,
        minutes=case.options.minutes,
        kinship=case.options.kinship._replace(rejected=(one,)),
        tries=[tries - (c == path.order[0]) for c, tries in enumerate(case.options.tries)],
        kinds=case.options.kinds,
    )
    left = case.prior * rejection([one], check)
    found = best_path(left / left.sum(), again, case.stakes)
    assert found.order == path.order[1:]
    assert found.p_solve == pytest.approx(path.p_solve[1:], abs=1e-9)


def test_eight_steps_out_of_twelve_are_the_best_of_a_plain_programme() -> None:
    """At full size, on the coarse grid, the plan is worth what a dictionary of sets finds on the fine one."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        theta, price = np.sort(rng.normal(0, 1.5, 12)), np.sort(rng.lognormal(-2, 1, 12))
        chance, cost = chances(theta), price[:, None] * cost_factor(0.0)
        prior, value = weights(log_normal(0.5)), 40.0
        path = best_path(prior, Options(chance, cost), Stakes(value_usd=value))
        worth = value * path.total_p_solve - path.total_cost_usd
        assert worth == pytest.approx(by_dictionary(prior, chance, cost, value, MAX_STEPS), abs=1e-9 * value)
        assert len(path.order) > 5


@pytest.mark.parametrize(("value", "least_steps"), [(1.0, 1), (3.0, 2), (40.0, 6)])
def test_with_kinds_side_by_side_next_to_nothing_is_lost(value: float, least_steps: int) -> None:
    """At full size and with several kinds, where the grid is coarsest and numbers are rounded, the plan is worth what a
    dictionary of sets finds, but for a ten-thousandth; also where the search ends long before the eighth step.
    """
    rng = np.random.default_rng(5)
    kinds = 3
    theta = np.sort(rng.normal(0, 1.5, 12))[:, None] + rng.normal(0, 0.7, (12, kinds))
    price = np.sort(rng.lognormal(-2, 1, 12))[:, None] * np.exp(rng.normal(0, 0.5, (12, kinds)))
    chance = np.hstack([chances(theta[:, k]) for k in range(kinds)])
    cost = np.hstack([price[:, k, None] * cost_factor(0.0) for k in range(kinds)])
    prior = np.concatenate([weights(log_normal(mean)) / kinds for mean in (-0.5, 0.5, 1.0)])
    path = best_path(prior, Options(chance, cost, kinds=kinds), Stakes(value_usd=value))
    worth = value * path.total_p_solve - path.total_cost_usd
    assert worth == pytest.approx(by_dictionary(prior, chance, cost, value, MAX_STEPS), rel=1e-4)
    assert len(path.order) >= least_steps


def by_dictionary(prior: Array, chance: Array, cost: Array, value: float, steps: int) -> float:
    """The best worth, forward over sets of candidates that failed."""
    states: dict[frozenset[int], tuple[Array, float]] = {frozenset(): (prior, 0.0)}
    best = 0.0
    for _ in range(steps):
        after: dict[frozenset[int], tuple[Array, float]] = {}
        for failed, (reach, so_far) in states.items():
            for c in set(range(len(chance))) - failed:
                worth = so_far + float(reach @ (value * chance[c] - cost[c]))
                known = after.get(failed | {c})
                if known is None or worth > known[1]:
                    after[failed | {c}] = (reach * (1 - chance[c]), worth)
        states = after
        best = max(best, *(worth for _, worth in states.values()))
    return best


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.5, 0.0), (0.0, 0.5)], ids=str)
def test_rates_of_one_half_and_harm_of_a_million(rates: tuple[float, float]) -> None:
    """The worst check there may be gives a plan of finite figures."""
    chance, cost = chances(np.array([0.0, 1.0])), np.array([[0.1], [0.5]]) * cost_factor(0.0)
    verifier = Verifier(false_accept=rates[0], false_reject=rates[1], harm_usd=1e6)
    options = Options(chance, cost, tries=[2, 2])
    path: Path = best_path(weights(log_normal(0.0)), options, Stakes(value_usd=15.0, verifier=verifier))
    assert np.isfinite([*path.p_solve, *path.cost_usd, path.total_p_solve, path.total_p_wrong]).all()
    assert path.worthwhile is (rates[0] == 0)
    assert len(GRID) == chance.shape[1]
