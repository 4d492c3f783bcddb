"""What one attempt takes, in dollars or in minutes: the catalog's figure as a prior, and the mean of what was recorded,
robust to absurd ones."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from service.contract.catalog import Candidate
from service.forecast.columns import Codes, Places
from service.forecast.difficulty import Array
from service.forecast.settings import Flags
from service.forecast.siblings import of_siblings

PRIOR_WEIGHT = 5.0
"""The catalog's figure counts as so many recorded ones."""

UNKNOWN_WEIGHT = 0.5
"""A figure that is not in the catalog is a guess: half an outcome."""

UNKNOWN_COST_USD = 0.3
"""Assumed where no candidate of the catalog has a cost: the median of the mean costs of the 30 models published on
the SWE-bench Verified bash-only leaderboard by 2025-12."""

MISSING_WEIGHT = 2.0
"""What is taken from other figures of the candidate and of the kind counts as so many outcomes."""

STIFFEST = 1000.0
"""As many outcomes at most: kinds that were alike so far may differ tomorrow."""

_NO_SPREAD = 1e-9
"""Costs that are all the same but for rounding tell nothing."""

CHANCE = 3.0
"""Standard deviations of a sum of squares by which chance alone hardly ever exceeds its mean."""

_LEAST = 1e-6
"""Dollars or minutes; what costs nothing has no ratio to anything."""

CAP = 40.0
"""A recorded cost counts as at most so many times the candidate's median. Of the 2,772 attempts recorded for 12 models
on 231 SWE-bench Verified tasks none was above 33 times its model's median, so that real costs are hardly touched."""


def prior_costs(candidates: Sequence[Candidate]) -> tuple[Array, Array]:
    """Cost of one attempt in US dollars, and its weight in outcomes; an unknown one is the median of the known."""
    return prior_means([candidate.cost_usd for candidate in candidates], UNKNOWN_COST_USD)


def prior_means(figures: Sequence[float | None], unknown: float) -> tuple[Array, Array]:
    """The same of any figures; `unknown` is assumed where there is none at all."""
    known = [figure for figure in figures if figure is not None]
    guess = float(np.median(known)) if known else unknown
    mean = np.array([guess if figure is None else figure for figure in figures])
    weight = np.array([UNKNOWN_WEIGHT if figure is None else PRIOR_WEIGHT for figure in figures])
    return mean, weight


def learned_means(
    prior: Array, prior_weight: Array, who: Codes, seen: Array, factor: Array, weight: Array, unknown: float
) -> tuple[Array, Codes]:
    """Mean of each candidate, and how many outcomes told one; NaN, infinite and negative figures tell nothing.

    `factor` says how costly the outcome's task was expected to be, relative to an average one; the mean is the ratio of
    the sums of both (as a rate is events over exposure), so that costs seen on hard tasks only are not taken for it.
    `weight` is how much each outcome counts.

    Figures are winsorised at CAP times the candidate's weighted median, in which the prior counts by its weight. So one
    cost of $100,000 among ten ordinary ones adds at most some three times the median to their mean, and a prior that is
    wrong by a factor of a thousand is still outvoted. Where the median is 0, the median over all candidates serves.
    """
    mean = prior.copy()
    count = np.zeros(len(prior), dtype=np.int64)
    fallback = float(np.median(prior)) if prior.any() else 0.0
    usable = np.isfinite(seen) & (seen >= 0)
    who, seen, factor, weight = who[usable], seen[usable], factor[usable], weight[usable]
    order = np.lexsort((weight, factor, seen, who))
    ends = np.searchsorted(who[order], np.arange(len(prior) + 1))
    for c in range(len(prior)):
        mine = order[ends[c] : ends[c + 1]]
        own, share = seen[mine], weight[mine]
        if len(own):
            cap = CAP * (_median(own, share, float(prior[c]), float(prior_weight[c])) or fallback or unknown)
            total = prior_weight[c] * min(prior[c], cap) + share @ np.minimum(own, cap)
            mean[c] = total / (prior_weight[c] + share @ factor[mine])
            count[c] = len(own)
    return mean, count


def by_kind(
    figures: Array, unknown: float, model: Places, who: Codes, kind: Codes, seen: Array, factor: Array, weight: Array
) -> tuple[Array, Codes]:
    """Mean of each candidate in each kind, and how many outcomes told one.

    `figures` is candidates × kinds, the last column being the catalog's figure for all tasks; NaN where there is none.
    What is missing is as other candidates' figures of that kind are to their own for all tasks, those of the same model
    where there are any. Then outcomes move each candidate as a whole, each kind as a whole, and last each candidate in
    each kind. An effort without any figure starts, weakly, from what is known of the other efforts of its model;
    `model` numbers that of each candidate.
    """
    width = figures.shape[1]
    general, general_weight = _general(figures, unknown)
    ratio, told = _ratios(figures, general, model)
    own_weight = np.where(told, PRIOR_WEIGHT, np.minimum(general_weight, MISSING_WEIGHT)[:, None])
    exposure = factor * ratio[who, kind]
    mean, n = learned_means(general, general_weight, who, seen, exposure, weight, unknown)
    untold: Flags = np.isnan(figures).sum(axis=1) == width
    known = np.where(~untold | (n > 0), np.log(np.maximum(mean, _LEAST)), np.nan)
    start = np.where(untold, np.exp(of_siblings(known, model, np.log(general))), general)
    if (start != general).any():
        mean, n = learned_means(start, general_weight, who, seen, exposure, weight, unknown)
    usable = np.isfinite(seen) & (seen >= 0)
    expected = factor * mean[who] * ratio[who, kind]
    times = np.minimum(seen / expected, CAP)[usable]
    by = (
        np.bincount(kind[usable], (weight * factor)[usable], width),
        np.bincount(kind[usable], (weight * factor)[usable] * times, width),
    )
    common = (PRIOR_WEIGHT + by[1]) / (PRIOR_WEIGHT + by[0])
    common[-1] = 1.0
    prior = (mean[:, None] * ratio * common).ravel()
    own = who * width + kind
    own_weight = np.maximum(own_weight, stiffness(figures, unknown, model, who, kind, seen, weight) or 0.0)
    cells, counts = learned_means(prior, own_weight.ravel(), own, seen, factor, weight, unknown)
    found = cells.reshape(-1, width)
    found[:, -1] = mean
    found = np.where(found <= 2 * _LEAST, 0.0, found)
    by_cell = counts.reshape(-1, width)
    by_cell[:, -1] = n
    return found, by_cell


def _general(figures: Array, unknown: float) -> tuple[Array, Array]:
    general, weight = prior_means([None if np.isnan(one) else float(one) for one in figures[:, -1]], unknown)
    return np.maximum(general, _LEAST), weight


def _ratios(figures: Array, general: Array, model: Places) -> tuple[Array, Flags]:
    """Figures by kind over those for all tasks, and which of them are published."""
    with np.errstate(invalid="ignore"):
        logs = np.log(np.maximum(figures, _LEAST) / general[:, None])
    told = ~np.isnan(logs)
    typical = np.where(told, logs, 0.0).sum(axis=0) / np.maximum(told.sum(axis=0), 1)
    ratio = np.exp(np.where(told, logs, of_siblings(logs, model, typical)))
    ratio[:, -1] = 1.0
    return ratio, told


def stiffness(
    figures: Array, unknown: float, model: Places, who: Codes, kind: Codes, seen: Array, weight: Array
) -> float | None:
    """How many outcomes what is expected of a candidate in a kind counts as at least: 0 where candidates differ by
    kind from what `figures` say, None where nothing tells. The parameters are those of `by_kind`.

    Means of candidates in kinds, less what each is in all and what all are in each kind, are held against the spread
    within them (DerSimonian and Laird 1986), in logs, whose spread is that of most and not of the dearest. Where they
    differ by no more than chance would have it, kinds mean nothing beyond what is published, and each is what is
    expected of it.
    """
    ratio, _ = _ratios(figures, _general(figures, unknown)[0], model)
    usable = np.isfinite(seen) & (seen > 0) & (kind < figures.shape[1] - 1)
    who, kind, weight = who[usable], kind[usable], weight[usable]
    logs = np.log(np.maximum(seen[usable] / ratio[who, kind], _LEAST))
    shape = int(who.max(initial=0)) + 1, int(kind.max(initial=0)) + 1
    cell = who * shape[1] + kind
    n = np.bincount(cell, weight, shape[0] * shape[1])
    mean = np.bincount(cell, weight * logs, len(n)) / np.maximum(n, _LEAST)
    within = float(weight @ (logs - mean[cell]) ** 2)
    n, mean = n.reshape(shape), mean.reshape(shape)
    filled = int((n > 0).sum())
    spare, free = len(logs) - filled, filled - sum(int((n.sum(axis=axis) > 0).sum()) for axis in (0, 1)) + 1
    if free < 1 or spare < 1 or within < _NO_SPREAD:
        return None
    for axis in (1, 0, 1, 0):  # what a candidate is in all, and what all are in a kind, is none of its own
        mean = mean - (n * mean).sum(axis=axis, keepdims=True) / np.maximum(n.sum(axis=axis, keepdims=True), _LEAST)
    within *= len(logs) / (spare * float(n.sum()))
    surplus = float((n * mean**2).sum()) - free * within
    if surplus > CHANCE * sqrt(2 * free) * within:
        return 0.0
    return min(within * float(n.sum()) / surplus, STIFFEST) if surplus > 0 else STIFFEST


def _median(ascending: Array, share: Array, prior: float, weight: float) -> float:
    values = np.append(ascending, prior)
    shares = np.append(share, weight)
    order = np.argsort(values, kind="stable")
    upto: Array = np.cumsum(shares[order])
    half = np.flatnonzero(upto >= upto[-1] / 2)[0]
    return float(values[order[half]])
