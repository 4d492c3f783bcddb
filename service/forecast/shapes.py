"""The shapes of difficulty that outcomes tell: one for each kind of work, or one for all where kinds mean nothing."""

import numpy as np

from service.forecast.difficulty import Array
from service.forecast.likelihood import Likelihood, Place, start_shape
from service.forecast.maximise import inverse

_STRIDE = np.array([0.25, 0.7])
"""The furthest that the logs of a shape go in one step."""

_SHAPES = np.array([[np.log(1.0), -7.0], [np.log(6.0), -1.0]])
"""Least and greatest: a narrower spread than the sum's points resolve, a wider one than they cover."""


def next_shape(again: Likelihood, place: Place) -> Array:
    """The shapes that tell best what came after failures, one Newton step from those of `place`."""
    slope = again.slope(place)
    precision = np.diag(np.array(again.prior.shape_sd) ** -2.0)
    off = place.shape - start_shape(again.prior.shape)
    if again.prior.one_shape:
        told = slope.shape + np.einsum("kij,kj->ki", slope.shape_information, off)
        common = inverse(slope.shape_information.sum(axis=0) + precision) @ told.sum(axis=0)
        step = common - off
    else:
        pulled = slope.shape - off @ precision
        step = np.array([inverse(i + precision) @ g for i, g in zip(slope.shape_information, pulled, strict=True)])
    further: Array = place.shape + np.clip(step, -_STRIDE, _STRIDE)
    within: Array = np.clip(further, *_SHAPES)
    return within
