"""How far labels of one key differ, from the labels themselves: empirical Bayes (Efron and Morris 1973), key by key."""

import numpy as np

from service.forecast.columns import Digests
from service.forecast.difficulty import Array
from service.forecast.history import label_keys

WIDTHS: Array = np.array([0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0])
"""Standard deviations that are compared, in logits where difficulty is spread as `SHAPE` says; the first is nothing."""

TYPICAL = 1.0
"""Scale of the half-Cauchy prior on the width (Gelman 2006): labels that say nothing are the rule, and where they do
say something it may be any much."""


FREEDOM = 4.0
"""Degrees of freedom of the prior on offsets: few enough to leave room for one that is far off."""


def label_widths(labels: Digests, alone: Array, variance: Array) -> Array:
    """For each label the width of its key: the most probable of WIDTHS, where label i alone is `alone[i]` with an error
    of that variance."""
    keys, key = np.unique(label_keys(labels), return_inverse=True)
    total = variance[:, None] + WIDTHS**2
    log_like = -0.5 * (np.log(total) + alone[:, None] ** 2 / total)
    by_key = np.zeros((len(keys), len(WIDTHS)))
    np.add.at(by_key, key, log_like)
    by_key -= np.log1p((WIDTHS / TYPICAL) ** 2)
    widths: Array = WIDTHS[np.argmax(by_key, axis=1)][key]
    return widths


def label_spreads(widths: Array, offsets: Array) -> Array:
    """For each label the standard deviation of its own prior, given the width of its key and where its offset is.

    Student's t with FREEDOM degrees of freedom, as a normal whose variance is reconsidered (Lange, Little and Taylor
    1989): a repository that is unlike all others is not pulled to them by what they have in common.
    """
    spreads: Array = np.sqrt((FREEDOM * widths**2 + offsets**2) / (FREEDOM + 1))
    return np.where(widths > WIDTHS[0], spreads, widths)
