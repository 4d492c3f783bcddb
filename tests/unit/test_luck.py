"""The luck that attempts of one model share, against direct sums over it and against recorded figures."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.verifier import PERFECT, Verifier
from service.forecast.difficulty import GRID, POPULATION, Array, chances
from service.forecast.luck import SAME_MODEL, SAME_PAIR, Tried, chance_after, rejection

VERIFIERS = st.builds(Verifier, false_accept=st.floats(0, 0.5), false_reject=st.floats(0, 0.5))


def attempt(pair: int, theta: float) -> Tried:
    """An attempt of one model with this ability."""
    return Tried(0, pair, chances(np.array([theta]))[0])


def after(tried: list[Tried], one: Tried) -> float:
    """The mean chance over all tasks on which those attempts failed."""
    left = POPULATION * (rejection(tried, PERFECT) if tried else 1.0)
    return float(left @ chance_after(tried, one, PERFECT) / left.sum())


def test_second_tries_as_recorded() -> None:
    """After one failure a model solves 11 %, another of its strength 20 %, a better one 35 %; a third try 6 %: within
    a point."""
    theta = -0.858
    model = attempt(0, theta)
    left = POPULATION * (1 - model.chance)
    assert float(left @ model.chance / left.sum()) == pytest.approx(0.20, abs=0.005)
    assert after([model], model) == pytest.approx(0.106, abs=0.001)
    assert after([model, model], model) == pytest.approx(0.065, abs=0.001)
    better = chances(np.array([0.314]))[0]
    assert float(left @ better / left.sum()) == pytest.approx(0.35, abs=0.005)


def test_an_effort_that_failed_tells_more_than_a_stranger() -> None:
    """After a failure another effort of the model is less likely to solve the task than a stranger as able, and
    likelier than the same pair."""
    first, sibling, stranger = attempt(0, 0.0), attempt(1, 0.0), chances(np.array([0.0]))[0]
    left = POPULATION * (1 - first.chance)
    by_stranger = float(left @ stranger / left.sum())
    assert after([first], first) < after([first], sibling) - 0.01 < by_stranger - 0.02


def test_nothing_tried_tells_nothing() -> None:
    """A first attempt has the chances of a first attempt, bit by bit."""
    one = attempt(0, 0.7)
    assert chance_after([], one, PERFECT) is one.chance


@settings(max_examples=80, deadline=None)
@given(
    tried=st.lists(st.tuples(st.integers(0, 2), st.floats(-4, 4)), min_size=1, max_size=4),
    one=st.integers(0, 3),
    verifier=VERIFIERS,
)
def test_chances_agree_with_a_sum_over_all_draws(tried: list[tuple[int, float]], one: int, verifier: Verifier) -> None:
    """P(rejected) and P(solves | rejected) are those of the draws that the model describes, one by one."""
    theta = {0: -1.0, 1: 0.5, 2: 0.5, 3: 2.0}
    pairs = [pair for pair, _ in tried]
    attempts = [attempt(pair, theta[pair]) for pair in pairs]
    for g in range(0, len(GRID), 16):
        p = {pair: float(attempt(pair, theta[pair]).chance[g]) for pair in theta}
        rejected, solved = summed(pairs, one, p, verifier)
        assert rejection(attempts, verifier)[g] == pytest.approx(rejected, rel=1e-9, abs=1e-14)
        mine = attempt(one, theta[one])
        assert chance_after(attempts, mine, verifier)[g] == pytest.approx(solved / rejected, rel=1e-6, abs=1e-6)


def summed(pairs: list[int], one: int, p: dict[int, float], verifier: Verifier) -> tuple[float, float]:
    """(P(all rejected), P(all rejected and `one` solves it)), by going through everything that can be drawn."""
    rejected, solved = 0.0, 0.0
    for weight, solving in worlds(pairs, p):
        passing = weight
        for pair in pairs:
            passing *= solving[pair] * verifier.false_reject + (1 - solving[pair]) * (1 - verifier.false_accept)
        rejected += passing
        solved += passing * solving[one]
    return rejected, solved


def worlds(pairs: list[int], p: dict[int, float]) -> list[tuple[float, dict[int, float]]]:
    """What may be drawn for one model: its weight, and each pair's chance then."""
    found = [(1 - SAME_PAIR, p)]
    for drawn in product((0.0, 1.0), repeat=len(p)):
        weight = float(np.prod([p[pair] if solves else 1 - p[pair] for pair, solves in zip(p, drawn, strict=True)]))
        found.append(((SAME_PAIR - SAME_MODEL) * weight, dict(zip(p, drawn, strict=True))))
    edges = sorted({0.0, 1.0, *p.values()})
    for low, high in pairwise(edges):
        middle = (low + high) / 2
        found.append((SAME_MODEL * (high - low), {pair: float(middle < chance) for pair, chance in p.items()}))
    return found


def test_curves_are_chances() -> None:
    """However often something was tried, and by whatever check, a chance stays between 0 and 1."""
    tried = [attempt(pair, theta) for pair, theta in ((0, -18.0), (1, 18.0), (0, -18.0), (2, 0.0))]
    for verifier in (PERFECT, Verifier(false_accept=0.5, false_reject=0.5), Verifier(false_reject=0.5)):
        found: Array = chance_after(tried, attempt(3, 5.0), verifier)
        assert ((found >= 0) & (found <= 1)).all()
