"""The distribution of difficulty against numbers made in another way."""

from math import exp, pi, sqrt

import numpy as np
import pytest

from service.forecast.difficulty import (
    COST_SLOPE,
    GRID,
    MAX_SHIFT,
    SIGMA,
    ability,
    cost_factor,
    log_normal,
    solve_rate,
    weights,
)


def integral(theta: float, mean: float) -> float:
    """∫ σ(θ − d) Normal(d; mean, SIGMA²) dd by Simpson's rule over twelve σ in 4,000 parts."""
    parts, low, high = 4000, mean - 12 * SIGMA, mean + 12 * SIGMA
    width = (high - low) / parts
    total = 0.0
    for i in range(parts + 1):
        d = low + i * width
        density = exp(-0.5 * ((d - mean) / SIGMA) ** 2) / (SIGMA * sqrt(2 * pi))
        total += (1 if i in (0, parts) else 4 if i % 2 else 2) * density / (1 + exp(d - theta))
    return total * width / 3


@pytest.mark.parametrize("theta", [-9.0, -2.0, 0.0, 0.7, 3.0, 9.0], ids=str)
@pytest.mark.parametrize("mean", [0.0, 2.0, -MAX_SHIFT, MAX_SHIFT], ids=str)
def test_solve_rate_is_the_integral(theta: float, mean: float) -> None:
    """The grid's sum agrees with a fine numerical integral wherever labels and minutes may shift the mean."""
    tolerance = {0.0: 1e-8, 2.0: 1e-7}.get(mean, 2e-5)
    assert float(solve_rate(np.array([theta]), mean)[0]) == pytest.approx(integral(theta, mean), abs=tolerance)


def test_ability_inverts_the_solve_rate() -> None:
    """The ability of a published rate solves that share of the catalog's population."""
    rates = np.array([0.001, 0.0906, 0.348, 0.5, 0.744, 0.999])
    assert solve_rate(ability(rates)) == pytest.approx(rates, abs=1e-12)
    assert ability(np.array([0.5]))[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("mean", [-MAX_SHIFT, 0.0, MAX_SHIFT], ids=str)
def test_distribution_has_its_mean_and_spread(mean: float) -> None:
    """The grid covers the normal distribution that it stands for."""
    shares = weights(log_normal(mean))
    assert shares.sum() == pytest.approx(1)
    assert shares @ GRID == pytest.approx(mean, abs=1e-3)
    assert np.sqrt(shares @ (GRID - mean) ** 2) == pytest.approx(SIGMA, abs=2e-3)


def test_cost_factor_is_one_on_average() -> None:
    """An average task of this service costs what an attempt costs on average; harder ones more, by the slope."""
    factor = cost_factor(1.5)
    assert factor @ weights(log_normal(1.5)) == pytest.approx(1)
    assert np.diff(np.log(factor)) == pytest.approx(COST_SLOPE * np.diff(GRID))
