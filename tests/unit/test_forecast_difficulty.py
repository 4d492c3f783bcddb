"""The distribution of difficulty against numbers made in another way."""

from math import exp, pi, sqrt

import numpy as np
import pytest

from service.forecast.difficulty import (
    COST_REACH,
    COST_SLOPE,
    GRID,
    MAX_SHIFT,
    SIGMA,
    UNSOLVABLE,
    Shape,
    ability,
    cost_factor,
    density,
    solve_rate,
)


def integral(theta: float, mean: float) -> float:
    """∫ σ(θ − d) Normal(d; mean, SIGMA²) dd by Simpson's rule over twelve σ in 4,000 parts, but for the unsolvable."""
    parts, low, high = 4000, mean - 12 * SIGMA, mean + 12 * SIGMA
    width = (high - low) / parts
    total = 0.0
    for i in range(parts + 1):
        d = low + i * width
        density = exp(-0.5 * ((d - mean) / SIGMA) ** 2) / (SIGMA * sqrt(2 * pi))
        total += (1 if i in (0, parts) else 4 if i % 2 else 2) * density / (1 + exp(d - theta))
    return total * width / 3 * (1 - UNSOLVABLE)


@pytest.mark.parametrize("theta", [-9.0, -2.0, 0.0, 0.7, 3.0, 7.0], ids=str)
@pytest.mark.parametrize("mean", [0.0, 2.0, -MAX_SHIFT, MAX_SHIFT], ids=str)
def test_solve_rate_is_the_integral(theta: float, mean: float) -> None:
    """The grid's sum agrees with a fine numerical integral wherever labels and minutes may shift the mean."""
    tolerance = 1e-7 if abs(mean) <= 2 else 1e-3
    assert float(solve_rate(np.array([theta]), mean)[0]) == pytest.approx(integral(theta, mean), abs=tolerance)


def test_ability_inverts_the_solve_rate() -> None:
    """The ability of a published rate solves that share of the catalog's population."""
    rates = np.array([0.001, 0.0906, 0.348, 0.5, 0.744, 0.98])
    assert solve_rate(ability(rates)) == pytest.approx(rates, abs=1e-12)
    even = Shape(SIGMA, 1e-9)
    assert ability(np.array([0.5]), even)[0] == pytest.approx(0, abs=1e-6)


def test_a_rate_above_what_can_be_solved_gets_the_greatest_ability() -> None:
    """Where a tenth of the tasks is unsolvable, a published 99 % is the bound and no error."""
    assert ability(np.array([0.99]), Shape(SIGMA, 0.1))[0] == pytest.approx(20)


@pytest.mark.parametrize("mean", [-4.0, 0.0, 4.0], ids=str)
@pytest.mark.parametrize("every", [1, 2], ids=["all-points", "every-other"])
def test_distribution_has_its_mean_and_spread(mean: float, every: int) -> None:
    """The grid covers the normal distribution that it stands for, and so does every other point of it."""
    shares = every * density(mean)[::every]
    points, last = GRID[::every], 2 // every
    assert shares.sum() == pytest.approx(1, abs=1e-6)
    assert shares[-last:].sum() == pytest.approx(UNSOLVABLE, abs=1e-9)
    solvable = shares[:-last] / (1 - UNSOLVABLE)
    assert solvable @ points[:-last] == pytest.approx(mean, abs=1e-3)
    assert np.sqrt(solvable @ (points[:-last] - mean) ** 2) == pytest.approx(SIGMA, abs=2e-3)


def test_the_furthest_shift_still_has_a_spread() -> None:
    """At the greatest shift the distribution is cut off at the grid's end, where nobody solves anything anyway."""
    for mean in (-MAX_SHIFT, MAX_SHIFT):
        shares = density(mean)
        assert shares.sum() == pytest.approx(1)
        assert (shares >= 0).all()
        assert shares[:-2] @ GRID[:-2] / (1 - UNSOLVABLE) == pytest.approx(mean, abs=0.02)


def test_cost_factor_is_one_on_average() -> None:
    """An average task of this service costs what an attempt costs on average; harder ones more, by the slope."""
    factor = cost_factor(1.5)
    assert factor @ density(1.5) == pytest.approx(1)
    near = GRID <= 1.5 + COST_REACH
    assert np.diff(np.log(factor[near])) == pytest.approx(COST_SLOPE * np.diff(GRID[near]))
    assert np.diff(factor[~near]) == pytest.approx(0)
