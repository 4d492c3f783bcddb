"""What one attempt costs: the catalog's figure as a prior, and the mean of what was recorded, robust to absurd ones."""

from collections.abc import Sequence

import numpy as np

from service.contract.catalog import Candidate
from service.forecast.difficulty import Array
from service.forecast.history import Codes

PRIOR_WEIGHT = 5.0
"""The catalog's cost counts as so many recorded ones."""

UNKNOWN_WEIGHT = 0.5
"""A cost that is not in the catalog is a guess: half an outcome."""

UNKNOWN_COST_USD = 0.3
"""Assumed where no candidate of the catalog has a cost: the median of the mean costs of the 30 models published on
the SWE-bench Verified bash-only leaderboard by 2025-12."""

CAP = 40.0
"""A recorded cost counts as at most so many times the candidate's median. Of the 2,772 attempts recorded for 12 models
on 231 SWE-bench Verified tasks none was above 33 times its model's median, so that real costs are hardly touched."""


def prior_costs(candidates: Sequence[Candidate]) -> tuple[Array, Array]:
    """Cost of one attempt in US dollars, and its weight in outcomes; an unknown one is the median of the known."""
    known = [candidate.cost_usd for candidate in candidates if candidate.cost_usd is not None]
    guess = float(np.median(known)) if known else UNKNOWN_COST_USD
    cost = np.array([guess if candidate.cost_usd is None else candidate.cost_usd for candidate in candidates])
    weight = np.array([UNKNOWN_WEIGHT if candidate.cost_usd is None else PRIOR_WEIGHT for candidate in candidates])
    return cost, weight


def learned_costs(prior: Array, weight: Array, who: Codes, cost_usd: Array, factor: Array) -> tuple[Array, Codes]:
    """Mean cost of each candidate, and how many outcomes told one; NaN, infinite and negative costs tell nothing.

    `factor` says how costly the outcome's task was expected to be, relative to an average one; the mean is the ratio of
    the sums of both (as a rate is events over exposure), so that costs seen on hard tasks only are not taken for it.

    Costs are winsorised at CAP times the candidate's weighted median, in which the prior counts by its weight. So one
    cost of $100,000 among ten ordinary ones adds at most some three times the median to their mean, and a prior that is
    wrong by a factor of a thousand is still outvoted. Where the median is 0, the median over all candidates serves.
    """
    cost = prior.copy()
    count = np.zeros(len(prior), dtype=np.int64)
    fallback = float(np.median(prior)) if prior.any() else 0.0
    usable = np.isfinite(cost_usd) & (cost_usd >= 0)
    who, cost_usd, factor = who[usable], cost_usd[usable], factor[usable]
    order = np.lexsort((factor, cost_usd, who))
    ends = np.searchsorted(who[order], np.arange(len(prior) + 1))
    for c in range(len(prior)):
        mine = order[ends[c] : ends[c + 1]]
        own = cost_usd[mine]
        if len(own):
            cap = CAP * (_median(own, float(prior[c]), float(weight[c])) or fallback or UNKNOWN_COST_USD)
            kept = np.minimum(own, cap)
            cost[c] = (weight[c] * min(prior[c], cap) + kept.sum()) / (weight[c] + factor[mine].sum())
            count[c] = len(own)
    return cost, count


def _median(ascending: Array, prior: float, weight: float) -> float:
    values = np.append(ascending, prior)
    shares = np.append(np.ones(len(ascending)), weight)
    order = np.argsort(values, kind="stable")
    upto: Array = np.cumsum(shares[order])
    half = np.flatnonzero(upto >= upto[-1] / 2)[0]
    return float(values[order[half]])
