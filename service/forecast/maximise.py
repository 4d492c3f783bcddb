"""The posterior mode by Newton's method: exact in abilities and shifts, whatever the number of labels.

The labels' part of the information is never written out, because there may be twenty thousand: the step is found by
conjugate gradients, preconditioned by the rest exactly and the labels one by one (Nocedal and Wright 2006, chapter 7).
Neither the share of tasks that nobody solves nor results given failures before them leave the posterior concave
everywhere, so directions of negative curvature are walked uphill, and every step either raises the posterior or is cut.
"""

from dataclasses import dataclass

import numpy as np

from service.forecast.difficulty import Array
from service.forecast.likelihood import Likelihood, Place, Slope

_ROUNDS = 40
_NEAR = 1e-4
"""A step that promises less than this in log posterior is the last: what it leaves is of the order of its square."""

_BOUND = 12.0
"""Abilities stay within it: 99.9 % of a population is easier."""

_ENOUGH = 1e-3
"""Of the residual that conjugate gradients leave."""

_FLATTEST = 1e-3
"""Curvature, as a share of the greatest, below which a direction counts as flat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The maximum, the covariance of the core (abilities, first two shifts) around it, and for each label what
    it would be without a prior of its own, with the variance of that; Newton steps it took."""

    place: Place
    covariance: Array
    label_alone: Array
    label_variance: Array
    rounds: int


def maximise(model: Likelihood, place: Place) -> Fit:
    """The posterior mode, from `place` on."""
    now = model.slope(place)
    rounds = 0
    while rounds < _ROUNDS:
        rounds += 1
        core, labels = _step(model, now)
        promised = float(core @ now.core + labels @ now.labels)
        if promised < _NEAR:
            place = place.moved(core, labels, _BOUND)
            break
        longest = max(float(np.abs(core).max()), float(np.abs(labels).max(initial=0.0)))
        share = min(1.0, 4.0 / longest)
        for _ in range(20):
            there = place.moved(share * core, share * labels, _BOUND)
            then = model.slope(there)
            if then.value > now.value:
                break
            share /= 2
        else:
            break
        place, now = there, then
    own = np.maximum(now.own, 1e-9)
    shifts = place.shift[2:]
    return Fit(
        place=place,
        covariance=_covariance(now),
        label_alone=shifts + now.data / own,
        label_variance=1 / own,
        rounds=rounds,
    )


def _step(model: Likelihood, slope: Slope) -> tuple[Array, Array]:
    dense = inverse(slope.information)
    if not len(slope.labels):
        return dense @ slope.core, slope.labels
    settings, size = model.settings, len(slope.core)
    diagonal = np.maximum(slope.own, 0.0) + slope.precision

    def turned(v: Array) -> Array:
        core, labels = v[:size], v[size:]
        means = settings.mean(np.r_[0.0, 0.0, labels])
        own = settings.gathered(slope.stiffness * means)[2:] + slope.precision * labels
        image: Array = np.r_[slope.information @ core + slope.cross.T @ labels, slope.cross @ core + own]
        return image

    def prepared(v: Array) -> Array:
        nearly: Array = np.r_[dense @ v[:size], v[size:] / diagonal]
        return nearly

    right = np.r_[slope.core, slope.labels]
    found = np.zeros(len(right))
    left, ready = right, prepared(right)
    direction, norm = ready, float(right @ ready)
    end = _ENOUGH**2 * norm
    for number in range(100):
        image = turned(direction)
        curvature = float(direction @ image)
        if curvature <= 0:
            found = found if number else ready
            break
        length = norm / curvature
        found = found + length * direction
        left = left - length * image
        ready = prepared(left)
        norm, before = float(left @ ready), norm
        if norm <= end:
            break
        direction = ready + (norm / before) * direction
    return found[:size], found[size:]


def inverse(information: Array) -> Array:
    """That of a matrix with every eigenvalue made positive."""
    values, vectors = np.linalg.eigh(information)
    floor = _FLATTEST * max(float(np.abs(values).max()), 1e-9)
    found: Array = (vectors / np.maximum(np.abs(values), min(floor, 1e-2))) @ vectors.T
    return found


def _covariance(slope: Slope) -> Array:
    """Of the core, with the labels integrated out one by one."""
    around = slope.cross / (np.maximum(slope.own, 0.0) + slope.precision)[:, None]
    return inverse(slope.information - slope.cross.T @ around)
