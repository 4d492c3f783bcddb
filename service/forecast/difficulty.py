"""How hard a task may be: a distribution over a fixed grid of logits, and what a candidate's chances are on it.

The Rasch model (Rasch 1960, "Probabilistic models for some intelligence and attainment tests"): candidate c has an
ability θ, the task a difficulty d, both in logits, and P(solved) = 1 / (1 + exp(d − θ)). Difficulty is Normal(μ, σ²).
μ = 0 is the population of tasks that the catalog's `solve_rate`s were measured on; that fixes the origin of the scale.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SIGMA = 3.25
"""Standard deviation of difficulty, in logits. Fitted to 12 models on 231 SWE-bench Verified tasks by
tests/load/forecast_fit.py, which prints what it rests on: the marginal likelihood is highest from 3 to 3.25, and
the chances after failures, in cross-validation, are calibrated best from 3.25 to 3.5: 0.33 said and 0.33 seen after
one, 0.21 and 0.16 to 0.20 after two, 0.12 and 0.08 to 0.10 after four. Published solve rates do not determine it."""

COST_SLOPE = 0.1
"""A task that is one logit harder costs exp(0.1) times as much to try: fitted to the same 2,772 attempts, whose cost is
1.28 times the model's mean after one failure of another model and 1.4 to 1.5 times after two to six."""

MAX_SHIFT = 6.0
"""Labels and minutes together move μ by at most this much (two σ), so that the grid always covers the distribution."""

STEP = 0.5
"""Distance of the grid's points. The trapezoidal rule is exact to about exp(−2π²/STEP) for a smooth logistic integrand
(Trefethen and Weideman 2014, SIAM Review 56), and to 2·exp(−2π²s²/STEP²) for a posterior of standard deviation s."""

GRID: Array = np.arange(-20.0, 20.0 + STEP / 2, STEP)
"""The difficulties, in logits: MAX_SHIFT and four σ to either side."""


def log_normal(mean: Array | float) -> Array:
    """log of Normal(mean, SIGMA²) at each grid point, up to a constant; a column of means gives a matrix."""
    return -0.5 * ((GRID - mean) / SIGMA) ** 2


def weights(log_density: Array) -> Array:
    """Probabilities over the grid that sum to one, from unnormalised logs (along the last axis)."""
    raised: Array = np.exp(log_density - log_density.max(axis=-1, keepdims=True))
    shares: Array = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def chances(theta: Array) -> Array:
    """P(solved) of each ability at each grid point: shape (abilities, grid), strictly between 0 and 1."""
    return 1.0 / (1.0 + np.exp(GRID - theta[..., None]))


POPULATION: Array = weights(log_normal(0.0))
"""Difficulty over the tasks that the catalog's rates speak of."""


def cost_factor(mean: float) -> Array:
    """What an attempt costs relative to an average one, at each grid point; its mean over Normal(mean, SIGMA²) is 1."""
    raised = np.exp(COST_SLOPE * (GRID - mean))
    factor: Array = raised / (raised @ weights(log_normal(mean)))
    return factor


def solve_rate(theta: Array, mean: float = 0.0) -> Array:
    """Share of tasks that each ability solves at the first try where difficulty is Normal(mean, SIGMA²)."""
    over: Array = POPULATION if mean == 0.0 else weights(log_normal(mean))
    rates: Array = chances(theta) @ over
    return rates


def ability(rate: Array) -> Array:
    """The inverse of `solve_rate` for rates strictly between 0 and 1, by bisection to 1e-12 within ±20 logits.

    Rates so extreme that no ability within ±20 logits has them (under 1e-5, over 0.99999) get that bound.
    """
    low, high = np.full(rate.shape, -20.0), np.full(rate.shape, 20.0)
    for _ in range(46):
        middle = (low + high) / 2
        short = solve_rate(middle) < rate
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    theta: Array = (low + high) / 2
    return theta
