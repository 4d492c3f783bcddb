"""The log posterior of abilities, shifts and shapes of difficulty: the task's own difficulty is integrated out.

Bock and Aitkin 1981, "Marginal maximum likelihood estimation of item parameters", with a prior on everything, and with
the observed information of Louis 1982: the complete data's, less the variance of its score.

Which candidates were tried on a task depends on earlier results and on the forecast, both of which are recorded, and
not on the difficulty beyond them: the likelihood of what was seen is unchanged by that (Rubin 1976, ignorability), so
learning from first choices and from what followed failures is consistent. Counts below zero stand for what results are
conditional on, see evidence.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.forecast.columns import Codes, Places
from service.forecast.difficulty import GRID, SHAPE, Array, Shape
from service.forecast.evidence import Evidence
from service.forecast.settings import Flags

_CHUNK = 8192
_NOTHING = 1e-6
"""Share of all tasks under which a grid point is left out of the covariances; that makes steps shorter, never wrong."""

POINTS: Array = GRID[::2]
"""The difficulties that are summed over: every other one is exact to 1e-8 for a prior and to 1e-4 for the posterior of
a task with a dozen attempts. The last one is that of the tasks that nobody solves."""

_LOGISTIC = 2.9
"""Variance of the normal that is nearest to a logistic distribution of scale 1: 1.7²."""

_NORMAL = np.r_[np.ones(len(POINTS) - 1), 0.0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """`rate` and `weight`: pseudo-outcomes of each candidate on the catalog's population. The rest: normals, on the
    abilities where `theta_mean` is told, on the shifts, and on (log sigma, log odds of unsolvable) of the shape of each
    kind, which start from `shape`; with `one_shape` all kinds have the same.

    Abilities of different `block`s (but −1, which goes with any) were never tried on the same task: that saves time.

    The shifts of all tasks and of labels, and abilities where `theta_mean` is told, are normal in units of
    `Place.unit`: what they do to a rate depends on the spread beside them.
    """

    rate: Array
    weight: Array
    shift_mean: Array
    shift_sd: Array
    shape: Shape
    shape_sd: tuple[float, float]
    theta_mean: Array | None = None
    theta_precision: Array | None = None
    block: Codes | None = None
    one_shape: bool = False


@dataclass(frozen=True, slots=True)
class _Block:
    """A stretch of the evidence, which abilities it concerns, and its rows of what was tried."""

    begin: int
    end: int
    columns: Places
    rows: Places


@dataclass(slots=True)
class Place:
    """Values of all that is estimated: `theta` for each candidate, `shift` for each column of the settings, and for
    each kind a row of (log sigma, log odds of unsolvable)."""

    theta: Array
    shift: Array
    shape: Array

    def moved(self, core: Array, labels: Array, bound: float) -> "Place":
        """So much further; abilities stay within the bound."""
        k = len(self.theta)
        theta = np.clip(self.theta + core[:k], -bound, bound)
        return Place(theta, self.shift + np.r_[core[k : k + 2], labels], self.shape)

    def reshaped(self, shape: Array) -> "Place":
        """With these shapes, and all else as much further apart as tasks of no particular kind are."""
        there = Place(self.theta, self.shift, shape)
        ratio = there.unit(SHAPE) / self.unit(SHAPE)
        return Place(ratio * self.theta, self.shift * np.where(_scaled(self.shift), ratio, 1.0), shape)

    def unit(self, shape: Shape) -> float:
        """Logits here that do to a rate what one does where difficulty has that shape."""
        return float(np.sqrt((_LOGISTIC + np.exp(2 * self.shape[0, 0])) / (_LOGISTIC + shape.sigma**2)))

    def shapes(self) -> list[Shape]:
        """For each kind."""
        return [Shape(float(np.exp(s)), float(1 / (1 + np.exp(-u)))) for s, u in self.shape.tolist()]


@dataclass(slots=True)
class Slope:
    """The log posterior at one place, its gradient and its observed information.

    The core is abilities and the first two shifts; `cross` (labels × core) and `stiffness` (settings) give the labels'
    part, whose matrix would be large. `own` is the diagonal of it and `data` the labels' gradient, both
    without their prior, of which `precision` tells. What is said of the shapes is without theirs too.
    """

    value: float
    core: Array
    labels: Array
    information: Array
    cross: Array
    stiffness: Array
    own: Array
    data: Array
    precision: Array
    shape: Array
    shape_information: Array


class Likelihood:
    """The evidence with the prior's pseudo-outcomes put to it as tasks of the catalog's population.

    With `again` only of results that others came before, and without pseudo-outcomes: that is what tells the shape of
    difficulty. A first try does not: what a wider spread does to its chance, other abilities and offsets do as well,
    and thousands of offsets, each estimated from a few tries, would pass for a narrow one (Neyman and Scott 1948).
    """

    def __init__(self, evidence: Evidence, prior: Prior, *, again: bool = False) -> None:
        k = len(prior.rate)
        self.evidence, self.prior = evidence, prior
        self.settings = evidence.settings
        one = np.eye(k, k + 1, dtype=np.int8)
        patterns, settings = len(evidence.solved), len(evidence.settings)
        self.solved = np.vstack([evidence.solved, one, 0 * one])
        self.failed = np.vstack([evidence.failed, 0 * one, one])
        counts = evidence.again if again else evidence.count
        told = np.flatnonzero(counts)
        pattern = np.concatenate([evidence.pattern[told], patterns + np.arange(2 * k)])
        setting = np.concatenate([evidence.setting[told], np.full(2 * k, settings)])
        rate = np.minimum(prior.rate, 0.995 * (1 - prior.shape.unsolvable))
        weight = 0.0 * prior.weight if again else prior.weight
        count = np.concatenate([counts[told], weight * rate, weight * (1 - rate)])
        tried, tried_of = np.unique(self.solved + self.failed, axis=0, return_inverse=True)
        self.tried = tried[:, :k].astype(np.float64)
        of_row = np.where(self.tried > 0, self._block(k), -1).max(axis=1, initial=-1)
        order = np.lexsort((tried_of[pattern], of_row[tried_of[pattern]]))
        self.pattern, self.setting, self.count = pattern[order], setting[order], count[order]
        self.tried_of = tried_of[self.pattern]
        self.blocks = self._blocks(of_row, k)
        self.kind = np.r_[self.settings.kind, 0]
        self.total = self.count @ self.solved[self.pattern][:, :k]

    def _block(self, k: int) -> Codes:
        return np.zeros(k, np.int64) if self.prior.block is None else self.prior.block

    def _blocks(self, of_row: Codes, k: int) -> list[_Block]:
        """The evidence is ordered by them, so that each is one stretch of it."""
        of = of_row[self.tried_of]
        found: list[_Block] = []
        for one in np.unique(of).tolist():
            begin, end = np.searchsorted(of, [one, one + 1]).tolist()
            columns = np.flatnonzero((self._block(k) == one) | (self._block(k) < 0))
            found.append(_Block(begin, end, columns, np.flatnonzero(of_row == one)))
        return found

    def mean(self, shift: Array) -> Array:
        """The mean of difficulty in each setting, and last of the catalog's population."""
        means: Array = np.r_[self.settings.mean(shift), 0.0]
        return means

    def like(self, theta: Array) -> tuple[Array, Array]:
        """The likelihood of each pattern at each point over its greatest, and the log of that."""
        abilities = np.r_[theta, 0.0][:, None]
        log_like = self.solved @ -np.logaddexp(0.0, POINTS - abilities)
        log_like += self.failed @ -np.logaddexp(0.0, abilities - POINTS)
        peak = log_like.max(axis=1)
        return np.exp(log_like - peak[:, None]), peak

    def density(self, place: Place) -> tuple[Array, Array, Array, Array]:
        """The prior of difficulty in each setting: itself, and of its normal part mean, variance and second moment
        about the mean asked for."""
        mean = self.mean(place.shift)
        sigma, unsolvable = (np.array(one)[self.kind] for one in zip(*map(_pair, place.shapes()), strict=True))
        normal = np.exp(-0.5 * ((POINTS - mean[:, None]) / sigma[:, None]) ** 2) * _NORMAL
        normal /= normal.sum(axis=1, keepdims=True)
        centre = normal @ POINTS
        square = normal @ POINTS**2
        normal *= (1 - unsolvable)[:, None]
        normal[:, -1] = unsolvable
        return normal, centre, square - centre**2, square - 2 * mean * centre + mean**2

    def slope(self, place: Place) -> Slope:
        """Value, gradient and information at one place."""
        k, kinds = len(place.theta), len(place.shape)
        like, peak = self.like(place.theta)
        density, centre, variance, second = self.density(place)
        mean = self.mean(place.shift)
        shapes = place.shapes()
        sigma2 = np.array([one.sigma**2 for one in shapes])[self.kind]
        unsolvable = np.array([one.unsolvable for one in shapes])[self.kind]
        solve = 1 / (1 + np.exp(POINTS - place.theta[:, None]))
        powers = np.vstack([_NORMAL * POINTS**power for power in range(5)])

        value = float(self.count @ peak[self.pattern])
        reach = np.zeros((len(self.tried), len(POINTS)))
        products = np.zeros((k, k))
        by_setting = np.zeros((2 + k, len(mean)))  # score and stiffness of the mean, then its part with abilities
        by_kind = np.zeros((5, kinds))  # scores of log sigma and log odds, stiffness of each, and of both
        for part, columns in self._chunks():
            width, own = len(columns), solve[columns]
            basis = np.vstack([own, own * powers[1], own * powers[0], powers]).T
            at, count, tried_of = self.setting[part], self.count[part], self.tried_of[part]
            post = like[self.pattern[part]] * density[at]
            mass = post.sum(axis=1)
            value += float(count @ np.log(mass))
            post /= mass[:, None]
            moments = post @ basis
            tried = self.tried[tried_of][:, columns]
            expected = tried * moments[:, :width]
            products[np.ix_(columns, columns)] += expected.T @ (expected * count[:, None])
            begin = np.flatnonzero(np.r_[True, tried_of[1:] != tried_of[:-1]])
            post *= count[:, None]
            reach[tried_of[begin]] += np.add.reduceat(post, begin, axis=0)
            with_d, with_one = (tried * moments[:, width * j : width * (j + 1)] for j in (1, 2))
            one, d1, d2, d3, d4 = moments[:, 3 * width :].T
            m, c, s2, m2 = mean[at], centre[at], sigma2[at], second[at]
            q = m * m - m2
            away = d2 - 2 * m * d1 + q * one
            pull, spread = (d1 - c * one) / s2, away / s2
            stiff = (one * variance[at] - d2 + 2 * c * d1 - c * c * one) / s2**2 + pull**2
            fourth = (d4 - 4 * m * d3 + (6 * m * m - 2 * m2) * d2 - 4 * m * q * d1 + q * q * one) / s2**2
            with_pull = (with_d - c[:, None] * with_one) / s2[:, None] - expected * pull[:, None]
            settings = len(mean)
            by_setting[0] += np.bincount(at, count * pull, settings)
            by_setting[1] += np.bincount(at, count * stiff, settings)
            by_setting[2 + columns] += _summed(at, with_pull * count[:, None], settings)
            of = self.kind[at]
            gone = 1 - one
            by_kind[0] += np.bincount(of, count * spread, kinds)
            by_kind[1] += np.bincount(of, count * (gone - unsolvable[at]), kinds)
            by_kind[2] += np.bincount(of, count * (2 * (spread + one * m2 / s2) - fourth + spread**2), kinds)
            by_kind[3] += np.bincount(of, count * (unsolvable[at] * (1 - unsolvable[at]) - gone * one), kinds)
            by_kind[4] += np.bincount(of, count * spread * gone, kinds)
        return self._assembled(place, value, solve, reach, products, by_setting, by_kind)

    def _chunks(self) -> Iterator[tuple[slice, Places]]:
        for block in self.blocks:
            for low in range(block.begin, block.end, _CHUNK):
                yield slice(low, min(low + _CHUNK, block.end)), block.columns

    def _together(self, block: _Block, reach: Array, solve: Array) -> Array:
        """Sums over tasks of the products of two abilities' chances."""
        tried, chance = self.tried[block.rows][:, block.columns], solve[block.columns]
        found = np.zeros((len(block.columns), len(block.columns)))
        for point in np.flatnonzero(np.abs(reach).sum(axis=0) > _NOTHING * np.abs(reach).sum()):
            found += (tried.T @ (tried * reach[:, point, None])) * np.outer(chance[:, point], chance[:, point])
        return found

    def _assembled(
        self,
        place: Place,
        value: float,
        solve: Array,
        reach: Array,
        products: Array,
        by_setting: Array,
        by_kind: Array,
    ) -> Slope:
        """Gradient and information from the sums over tasks."""
        prior, kinds = self.prior, len(place.shape)
        precision = prior.shift_sd**-2 * np.where(_scaled(place.shift), place.unit(prior.shape) ** -2, 1.0)
        off = (place.shift - prior.shift_mean) * precision
        value -= 0.5 * float(off @ (place.shift - prior.shift_mean))
        theta_theta = np.diag((self.tried * (reach @ (solve * (1 - solve)).T)).sum(axis=0)) + products
        for block in self.blocks:
            theta_theta[np.ix_(block.columns, block.columns)] -= self._together(block, reach[block.rows], solve)
        pull = np.zeros(len(place.theta))
        if prior.theta_mean is not None and prior.theta_precision is not None:
            unit = place.unit(prior.shape)
            away = place.theta - unit * prior.theta_mean
            pull = prior.theta_precision @ away / unit**2
            value -= 0.5 * float(away @ pull)
            theta_theta += prior.theta_precision / unit**2
        gathered = np.array([self.settings.gathered(one[:-1]) for one in by_setting])
        stiffness = by_setting[1][:-1]
        first = np.vstack([np.ones(len(self.settings)), self.settings.log_minutes])
        with_shift = gathered[2:, :2].T
        shift_shift = (first * stiffness) @ first.T + np.diag(precision[:2])
        between = np.array([self.settings.gathered(stiffness * one)[2:] for one in first])
        by_set = np.bincount(self.settings.label_set, stiffness, self.settings.sets)
        own = np.bincount(self.settings.token_label, by_set[self.settings.token_set], len(self.settings.labels))
        return Slope(
            value=value,
            core=np.r_[self.total - (self.tried * (reach @ solve.T)).sum(axis=0) - pull, gathered[0, :2] - off[:2]],
            labels=gathered[0, 2:] - off[2:],
            information=np.block([[theta_theta, with_shift.T], [with_shift, shift_shift]]),
            cross=np.vstack([gathered[2:, 2:], between]).T,
            stiffness=stiffness,
            own=own.astype(np.float64),
            data=gathered[0, 2:],
            precision=precision[2:],
            shape=by_kind[:2].T,
            shape_information=by_kind[[2, 4, 4, 3]].T.reshape(kinds, 2, 2),
        )


def start_shape(shape: Shape) -> Array:
    """(log sigma, log odds of unsolvable)."""
    return np.array([np.log(shape.sigma), np.log(shape.unsolvable / (1 - shape.unsolvable))])


def _scaled(shift: Array) -> Flags:
    """Which shifts are in units of `Place.unit`: all but that of minutes."""
    scaled: Flags = np.arange(len(shift)) != 1
    return scaled


def _pair(shape: Shape) -> tuple[float, float]:
    return shape.sigma, shape.unsolvable


def _summed(group: Array, values: Array, groups: int) -> Array:
    """For each column of values its sums by group: columns × groups."""
    return np.array([np.bincount(group, column, groups) for column in values.T], dtype=np.float64)
