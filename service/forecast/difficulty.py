"""How hard a task may be: a distribution over a fixed grid of logits, and what a candidate's chances are on it.

The Rasch model (Rasch 1960, "Probabilistic models for some intelligence and attainment tests"): candidate c has an
ability θ, the task a difficulty d, both in logits, and P(solved) = 1 / (1 + exp(d − θ)). Difficulty is Normal(μ, σ²),
but for a small share of tasks that nobody solves: those stand at the far end of the grid.
μ = 0 is the population of tasks that the catalog's `solve_rate`s were measured on; that fixes the origin of the scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shape:
    """How difficulty is spread: `sigma` in logits, and the share of tasks that no candidate solves."""

    sigma: float
    unsolvable: float


SIGMA = 2.5
UNSOLVABLE = 0.018
SHAPE = Shape(SIGMA, UNSOLVABLE)
"""Assumed until outcomes tell: what five sets of recorded tasks have in common, whose own sigma is 1.6 (writing tests)
to 3.7 (resolving issues), and whose share of unsolvable tasks is 0.01 to 0.06 (tests/load/shape_fit.py)."""

COST_SLOPE = 0.1
"""A task that is one logit harder costs exp(0.1) times as much to try: fitted to the same 2,772 attempts, whose cost is
1.28 times the model's mean after one failure of another model and 1.4 to 1.5 times after two to six."""

COST_REACH = 7.0
"""Logits above the mean beyond which a task gets no dearer: nobody goes on for ever at what cannot be done."""

MAX_SHIFT = 10.0
"""Labels and minutes together move μ by at most this much, so that the grid always covers half the distribution."""

STEP = 0.5
"""Distance of the grid's points. The trapezoidal rule is exact to about exp(−2π²/STEP) for a smooth logistic integrand
(Trefethen and Weideman 2014, SIAM Review 56), and to 2·exp(−2π²s²/STEP²) for a posterior of standard deviation s."""

GRID: Array = np.arange(-20.0, 20.0 + STEP / 2, STEP)
"""The difficulties, in logits."""


def log_normal(mean: Array | float, sigma: Array | float = SIGMA) -> Array:
    """log of Normal(mean, sigma²) at each grid point, up to a constant; a column of either gives a matrix."""
    return -0.5 * ((GRID - mean) / sigma) ** 2


def weights(log_density: Array) -> Array:
    """Probabilities over the grid that sum to one, from unnormalised logs (along the last axis)."""
    raised: Array = np.exp(log_density - log_density.max(axis=-1, keepdims=True))
    shares: Array = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def density(mean: float = 0.0, shape: Shape = SHAPE) -> Array:
    """Probabilities over the grid. The last two points are those of the tasks that nobody solves, half the share each,
    so that every other point of the grid is, but for a factor of two, the same distribution."""
    found = np.full(len(GRID), shape.unsolvable / 2)
    found[:-2] = (1 - shape.unsolvable) * weights(log_normal(mean, shape.sigma)[:-2])
    return found


def densities(mean: float, shapes: Sequence[Shape]) -> Array:
    """Several of them: shapes × grid."""
    sigma = np.array([[shape.sigma] for shape in shapes])
    unsolvable = np.array([[shape.unsolvable] for shape in shapes])
    found = np.empty((len(shapes), len(GRID)))
    found[:, -2:] = unsolvable / 2
    found[:, :-2] = (1 - unsolvable) * weights(log_normal(mean, sigma)[:, :-2])
    return found


def chances(theta: Array) -> Array:
    """P(solved) of each ability at each grid point: shape (abilities, grid), strictly between 0 and 1."""
    return 1.0 / (1.0 + np.exp(GRID - theta[..., None]))


POPULATION: Array = density()
"""Difficulty over the tasks that the catalog's rates speak of."""


def cost_factor(mean: float, shape: Shape = SHAPE) -> Array:
    """What an attempt costs relative to an average one, at each grid point; its mean over `density` is 1."""
    raised = np.exp(COST_SLOPE * np.minimum(GRID - mean, COST_REACH))
    factor: Array = raised / (raised @ density(mean, shape))
    return factor


def solve_rate(theta: Array, mean: float = 0.0, shape: Shape = SHAPE) -> Array:
    """Share of tasks that each ability solves at the first try."""
    rates: Array = chances(theta) @ density(mean, shape)
    return rates


def ability(rate: Array, shape: Shape = SHAPE) -> Array:
    """The inverse of `solve_rate` for rates strictly between 0 and 1, by bisection to 1e-12 within ±20 logits.

    Rates so extreme that no ability within ±20 logits has them (over 1 − the share of what nobody solves, for instance)
    get that bound.
    """
    low, high = np.full(rate.shape, -20.0), np.full(rate.shape, 20.0)
    for _ in range(46):
        middle = (low + high) / 2
        short = solve_rate(middle, 0.0, shape) < rate
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    theta: Array = (low + high) / 2
    return theta
