"""Abilities and shifts of difficulty by marginal likelihood: the task's own difficulty is integrated out.

Bock and Aitkin 1981, "Marginal maximum likelihood estimation of item parameters", with a prior on everything. The
logarithm of the posterior is concave in abilities and shifts together (the integrand is log-concave in them and in d,
and Prékopa 1973 carries that through the integral), so there is one maximum, whatever the start. It is found by
Newton's method with the observed information of Louis 1982 rather than by the EM iteration of the paper, which has
the same fixed point and needs hundreds of rounds where a task has only one or two attempts.

Which candidates were tried on a task depends on earlier results and on the forecast, both of which are recorded, and
not on the difficulty beyond them: the likelihood of what was seen is unchanged by that (Rubin 1976, ignorability), so
learning from first choices and from what followed failures is consistent.
"""

from dataclasses import dataclass

import numpy as np

from service.forecast.difficulty import GRID, SIGMA, Array, cost_factor, log_normal
from service.forecast.evidence import Evidence

_CHUNK = 8192
_ROUNDS = 40
_NEAR = 1e-4
"""A step that promises less than this in log posterior is the last: what it leaves is of the order of its square."""
_NOTHING = 1e-6
"""Share of all tasks under which a grid point is left out of the covariances; that makes steps shorter, never wrong."""
_BOUND = 18.0
"""Abilities stay within the grid; no rate from 0.001 to 0.999 comes near it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """`rate` and `weight`: pseudo-outcomes of each candidate on the catalog's population. Shifts: normals."""

    rate: Array
    weight: Array
    shift_mean: Array
    shift_sd: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The maximum: `theta` for each candidate, `shift` for each column of the settings; Newton steps it took."""

    theta: Array
    shift: Array
    rounds: int


@dataclass(slots=True)
class _Point:
    """The log posterior at one point, its gradient and its observed information."""

    value: float
    gradient: Array
    information: Array


def maximise(evidence: Evidence, prior: Prior, theta: Array) -> Fit:
    """The posterior mode, from `theta` on; each step either raises the posterior or ends the search."""
    model = _Model(evidence, prior)
    at = np.concatenate([theta, prior.shift_mean])
    now = model.evaluate(at)
    rounds = 0
    while rounds < _ROUNDS:
        rounds += 1
        step = np.linalg.solve(now.information, now.gradient)
        if float(step @ now.gradient) < _NEAR:
            at = at + step
            break
        step *= min(1.0, 4.0 / float(np.abs(step).max()))
        for _ in range(20):
            there = at + step
            there[: len(theta)] = np.clip(there[: len(theta)], -_BOUND, _BOUND)
            then = model.evaluate(there)
            if then.value > now.value:
                break
            step /= 2
        else:
            break
        at, now = there, then
    return Fit(theta=at[: len(theta)], shift=at[len(theta) :], rounds=rounds)


def cost_factors(evidence: Evidence, fit: Fit) -> Array:
    """For each i of the evidence how costly an attempt at such a task is, relative to this service's average task.

    It is the mean of `cost_factor` over the task's posterior: costs of a strong candidate that are seen only after
    weaker ones failed come from harder tasks, and are not taken for its mean.
    """
    log_like = evidence.solved @ -np.logaddexp(0.0, GRID - fit.theta[:, None])
    log_like += evidence.failed @ -np.logaddexp(0.0, fit.theta[:, None] - GRID)
    like = np.exp(log_like - log_like.max(axis=1, keepdims=True))
    density = np.exp(log_normal((evidence.settings @ fit.shift)[:, None]))
    both = np.vstack([cost_factor(float(fit.shift[0])), np.ones(len(GRID))]).T
    factors = np.empty(len(evidence.count))
    for low in range(0, len(factors), _CHUNK):
        part = slice(low, low + _CHUNK)
        sums = (like[evidence.pattern[part]] * density[evidence.setting[part]]) @ both
        factors[part] = sums[:, 0] / sums[:, 1]
    return factors


class _Model:
    """The evidence with the prior's pseudo-outcomes put to it as tasks of the catalog's population."""

    def __init__(self, evidence: Evidence, prior: Prior) -> None:
        k = len(prior.rate)
        one = np.eye(k)
        patterns = len(evidence.solved)
        settings = len(evidence.settings)
        self.prior = prior
        self.solved = np.vstack([evidence.solved, one, 0 * one])
        self.failed = np.vstack([evidence.failed, 0 * one, one])
        self.settings = np.vstack([evidence.settings, np.zeros((1, evidence.settings.shape[1]))])
        pattern = np.concatenate([evidence.pattern, patterns + np.arange(2 * k)])
        setting = np.concatenate([evidence.setting, np.full(2 * k, settings)])
        count = np.concatenate([evidence.count, prior.weight * prior.rate, prior.weight * (1 - prior.rate)])
        self.tried, self.tried_of = np.unique(self.solved + self.failed, axis=0, return_inverse=True)
        order = np.argsort(self.tried_of[pattern], kind="stable")
        self.pattern, self.setting, self.count = pattern[order], setting[order], count[order]
        self.total = self.count @ self.solved[self.pattern]

    def evaluate(self, at: Array) -> _Point:
        k = len(self.prior.rate)
        theta, shift = at[:k], at[k:]
        log_solve = -np.logaddexp(0.0, GRID - theta[:, None])
        log_fail = -np.logaddexp(0.0, theta[:, None] - GRID)
        solve = np.exp(log_solve)
        log_like = self.solved @ log_solve + self.failed @ log_fail
        peak = log_like.max(axis=1)
        like = np.exp(log_like - peak[:, None])
        mean = self.settings @ shift
        density = np.exp(log_normal(mean[:, None]))

        value = float(self.count @ peak[self.pattern])
        reach = np.zeros((len(self.tried), len(GRID)))
        products = np.zeros((k, k))
        pull, stiffness = np.zeros(len(mean)), np.zeros(len(mean))
        cross = np.zeros(len(mean) * k)
        both = np.vstack([solve, solve * GRID, GRID, GRID**2]).T
        for low in range(0, len(self.count), _CHUNK):
            part = slice(low, low + _CHUNK)
            setting, count = self.setting[part], self.count[part]
            tried_of = self.tried_of[self.pattern[part]]
            post = like[self.pattern[part]] * density[setting]
            mass = post.sum(axis=1)
            value += float(count @ np.log(mass))
            post *= (count / mass)[:, None]
            begin = np.flatnonzero(np.r_[True, tried_of[1:] != tried_of[:-1]])
            reach[tried_of[begin]] += np.add.reduceat(post, begin, axis=0)
            moments = (post @ both) / np.maximum(count, 1e-300)[:, None]
            p, pd, d, dd = moments[:, :k], moments[:, k:-2], moments[:, -2], moments[:, -1]
            tried = self.tried[tried_of]
            expected = tried * p
            products += expected.T @ (expected * count[:, None])
            pull += np.bincount(setting, count * (d - mean[setting]), len(mean))
            stiffness += np.bincount(setting, count * (1 - (dd - d * d) / SIGMA**2), len(mean))
            covariance = tried * (pd - p * d[:, None]) * count[:, None]
            cell = setting[:, None] * k + np.arange(k)
            cross += np.bincount(cell.ravel(), covariance.ravel(), len(cross))
        return self._assemble(value, shift, solve, reach, products, pull, stiffness, cross.reshape(-1, k))

    def _assemble(
        self,
        value: float,
        shift: Array,
        solve: Array,
        reach: Array,
        products: Array,
        pull: Array,
        stiffness: Array,
        cross: Array,
    ) -> _Point:
        """Gradient and information from the sums over tasks; minus the complete data's, by Louis's formula."""
        prior = self.prior
        off = (shift - prior.shift_mean) / prior.shift_sd**2
        gradient = np.concatenate(
            [
                self.total - (self.tried * (reach @ solve.T)).sum(axis=0),
                self.settings.T @ pull / SIGMA**2 - off,
            ]
        )
        theta_theta = np.diag((self.tried * (reach @ (solve * (1 - solve)).T)).sum(axis=0)) + products
        for point in np.flatnonzero(reach.sum(axis=0) > _NOTHING * reach.sum()):
            together = self.tried.T @ (self.tried * reach[:, point, None])
            theta_theta -= together * np.outer(solve[:, point], solve[:, point])
        theta_shift = cross.T @ self.settings / SIGMA**2
        shift_shift = self.settings.T @ (self.settings * stiffness[:, None]) / SIGMA**2
        shift_shift[np.diag_indices_from(shift_shift)] += 1 / prior.shift_sd**2
        return _Point(
            value - 0.5 * float(off @ (shift - prior.shift_mean)),
            gradient,
            np.block([[theta_theta, theta_shift], [theta_shift.T, shift_shift]]),
        )
