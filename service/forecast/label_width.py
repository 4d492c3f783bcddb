"""How far labels of one key differ, from the labels themselves: empirical Bayes (Efron and Morris 1973), key by key."""

import numpy as np

from service.forecast.columns import Digests
from service.forecast.difficulty import Array
from service.forecast.history import label_keys

WIDTHS: Array = np.array([0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0])
"""Standard deviations, in logits, that are compared; the first one is nothing."""

TYPICAL = 0.4
"""Scale of the half-Cauchy prior on the width (Gelman 2006): labels that say nothing are the rule, and where they do
say something it may be any much."""


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
