"""Which candidates the search looks at, where there are more than it can search exactly in the time it has."""

import numpy as np

from service.forecast.difficulty import Array
from service.forecast.search import Index

_PROBES = 9
"""Grid points at which candidates are compared. Within one kind of work the curves are those of one family and do not
cross, so that one point would do; more tell kinds apart."""


def screen(prior: Array, rejection: Array, worth: Array, expense: Array, *, steps: int, limit: int) -> Index:
    """The `limit` candidates, at most, that a plan of `steps` shall be made of, ascending.

    Two rules lose nothing where work is of one kind: a candidate that is not worth its cost now never will be, and one
    to which `steps` others are at least equal in chances and in cost can always be replaced by one of them. If more are
    left, those stay that take part in the best plans of two steps; what all that loses is measured by
    tests/load/bench_forecast.py.
    """
    alone: Array = worth @ prior
    probes = np.linspace(0, len(prior) - 1, _PROBES + 2).astype(np.intp)[1:-1]
    miss, price = rejection[:, probes], expense[:, probes]
    equal_or_better = ((miss[:, None] >= miss) & (price[:, None] >= price)).all(axis=2)
    twins = equal_or_better & equal_or_better.T
    better = equal_or_better & ~(twins & np.triu(np.ones_like(twins)))
    kept = np.flatnonzero((alone > 0) & (better.sum(axis=1) < steps))
    if len(kept) <= limit:
        return kept
    reach = rejection[kept] * prior
    pairs: Array = reach @ worth[kept].T
    np.fill_diagonal(pairs, 0.0)
    pairs = np.maximum(pairs, 0.0) + alone[kept][:, None]
    through = np.maximum(pairs.max(axis=0), pairs.max(axis=1))
    return np.sort(kept[np.argsort(-through, kind="stable")[:limit]])
