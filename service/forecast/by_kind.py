"""Learning by kind of work: what each candidate can do in each, and what it takes.

The abilities of all cells are estimated together; how far kinds differ is estimated with them, as widths of labels are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from service.contract.catalog import Catalog
from service.forecast import costs
from service.forecast.cells import Cells, Grid, Width, possible_widths, widths
from service.forecast.columns import Codes
from service.forecast.difficulty import Array
from service.forecast.learned import LearnedAbility, LearnedKind
from service.forecast.likelihood import Likelihood, Place, Prior
from service.forecast.maximise import Fit
from service.forecast.siblings import models

ROUNDS = 2
"""How often widths and abilities are estimated from each other, before all is estimated with these widths."""

_TIMES = 8
"""How often widths of labels and shapes of difficulty are estimated from abilities and offsets, and these from them."""

UNKNOWN_MINUTES = 10.0
"""Assumed of a candidate of which no duration is known while others' are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """Of every candidate in every kind, last over all; the covariance of these last, and of the mean of all tasks.
    `sd` is how far the distance of each cell from that mean may be off, in logits (standard deviations)."""

    theta: Array
    sd: Array
    covariance: Array
    width: Width


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A maximum, what it is the maximum of, and the width of each label's key."""

    fit: Fit
    model: Likelihood
    label_widths: Array


def untaught(expected: Grid, tasks_sd: float) -> Abilities:
    """Before any outcome."""
    covariance = np.diag(np.r_[expected.candidate_sd**2, tasks_sd**2])
    width = Width()
    variance = expected.covariance(width.kind_sd, width.own_sd).diagonal() + tasks_sd**2
    sd = np.sqrt(variance).reshape(expected.mean.shape)
    return Abilities(theta=expected.mean, sd=sd, covariance=covariance, width=width)


def estimated(
    expected: Grid,
    cells: Cells,
    prior: Prior,
    place: Place,
    width: Width,
    maximum: Callable[[Prior, Place, int], Fitted],
    *,
    rounds: int = ROUNDS,
    differ: bool = False,
) -> tuple[Abilities, Fitted]:
    """`maximum` is that for a prior, searched from a place on, with what else is estimated so many times over; `prior`
    is that of a catalog without kinds, `width` a first guess. `differ` says that kinds are known to mean something."""
    size = len(cells.place)
    if expected.columns == 1:
        if expected.siblings:
            within = expected.covariance(width.kind_sd, width.own_sd)[np.ix_(cells.place, cells.place)]
            precision = np.linalg.inv(within).astype(np.float64)
            prior = replace(
                prior,
                weight=np.zeros(size),
                rate=np.full(size, 0.5),
                theta_mean=expected.mean.ravel()[cells.place],
                theta_precision=precision,
                block=np.full(size, -1),
            )
        found = maximum(prior, place, _TIMES)
        covariance = found.fit.covariance[: size + 1, : size + 1]
        sd = _from_tasks(covariance.diagonal()[:-1], covariance[:-1, -1], float(covariance[-1, -1]))[:, None]
        return Abilities(theta=found.fit.place.theta[:, None], sd=sd, covariance=covariance, width=width), found
    mean, kind = expected.mean.ravel()[cells.place], cells.place % expected.columns

    def tie(width: Width) -> Array:
        within = expected.covariance(width.kind_sd, width.own_sd)[np.ix_(cells.place, cells.place)]
        found: Array = np.linalg.inv(within).astype(np.float64)
        return found

    def tied(width: Width) -> Prior:
        return replace(
            prior,
            weight=np.zeros(size),
            rate=np.full(size, 0.5),
            theta_mean=mean,
            theta_precision=tie(width),
            block=np.where(kind == expected.columns - 1, -1, kind),
            one_shape=width.nothing,
        )

    def shown(fit: Fit, unit: float, width: Width) -> tuple[Array, Array]:
        """What outcomes alone say of the cells: its precision, and its precision times how far they are off."""
        known: Array = unit**2 * np.linalg.inv(fit.covariance[:size, :size]).astype(np.float64)
        return known - tie(width), known @ (fit.place.theta / unit - mean)

    for _ in range(rounds):
        found = maximum(tied(width), place, 1)
        place = found.fit.place
        width = widths(expected, cells.place, *shown(found.fit, place.unit(prior.shape), width), width, differ=differ)
    found = maximum(tied(width), place, _TIMES)
    unit = found.fit.place.unit(prior.shape)
    spread = possible_widths(expected, cells.place, *shown(found.fit, unit, width), width)
    core = np.linalg.inv(found.fit.covariance[: size + 1, : size + 1])
    core[:size, :size] += (tie(spread) - tie(width)) / unit**2
    sd = _spread(expected, cells, spread, np.linalg.inv(core).astype(np.float64), unit)
    return _everywhere(expected, cells, width, found.fit, unit, sd), found


def _everywhere(expected: Grid, cells: Cells, width: Width, fit: Fit, unit: float, sd: Array) -> Abilities:
    """What the cells that were estimated tell of the others."""
    size, columns = len(cells.place), expected.columns
    mean, prior = unit * expected.mean.ravel(), unit**2 * expected.covariance(width.kind_sd, width.own_sd)
    share = prior[:, cells.place] @ np.linalg.inv(prior[np.ix_(cells.place, cells.place)])
    theta = mean + share @ (fit.place.theta - mean[cells.place])
    general = np.arange(columns - 1, expected.mean.size, columns)
    of = share[general]
    core = fit.covariance[: size + 1, : size + 1]
    covariance = np.zeros((len(general) + 1, len(general) + 1))
    covariance[:-1, :-1] = prior[np.ix_(general, general)] - of @ prior[np.ix_(cells.place, general)]
    covariance[:-1, :-1] += of @ core[:size, :size] @ of.T
    covariance[:-1, -1] = covariance[-1, :-1] = of @ core[:size, size]
    covariance[-1, -1] = core[size, size]
    return Abilities(theta=theta.reshape(-1, columns), sd=sd, covariance=covariance, width=width)


def _spread(expected: Grid, cells: Cells, width: Width, core: Array, unit: float) -> Array:
    """How far abilities of all cells, less the mean of all tasks, may be off; `core` is the covariance of those that
    were estimated, last of that mean, where kinds differ by `width`."""
    prior = unit**2 * expected.covariance(width.kind_sd, width.own_sd)
    share = prior[:, cells.place] @ np.linalg.inv(prior[np.ix_(cells.place, cells.place)])
    variance = prior.diagonal() - np.einsum("ij,ij->i", share, prior[:, cells.place])
    variance += np.einsum("ij,ij->i", share @ core[:-1, :-1], share)
    sd = _from_tasks(variance, share @ core[:-1, -1], float(core[-1, -1]))
    return sd.reshape(-1, expected.columns)


def _from_tasks(variance: Array, shared: Array, of_tasks: float) -> Array:
    """Standard deviation of abilities less the mean of all tasks: that alone is what outcomes show, and it is known
    better than either."""
    found: Array = np.sqrt(np.maximum(variance + of_tasks - 2 * shared, 0.0))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The outcomes that count: candidate and kind of each, its cost and minutes (NaN where untold), how costly its task
    was expected to be, and how much it counts."""

    who: Codes
    kind: Codes
    cost_usd: Array
    minutes: Array
    factor: Array
    weight: Array


def costs_differ(catalog: Catalog, who: Codes, kind: Codes, cost_usd: Array, weight: Array) -> bool:
    """Whether what attempts cost differs by kind, and not for all candidates alike, from what is published."""
    figures, model = _figures(catalog, "cost_usd"), models(catalog.candidates)
    return costs.stiffness(figures, costs.UNKNOWN_COST_USD, model, who, kind, cost_usd, weight) == 0.0


def learned_kinds(catalog: Catalog, found: Abilities, seen: Seen) -> dict[tuple[str, str], LearnedAbility]:
    """Everything that is known of each candidate, over all and by kind."""
    model, theta = models(catalog.candidates), found.theta
    cost, n_cost = costs.by_kind(
        _figures(catalog, "cost_usd"),
        costs.UNKNOWN_COST_USD,
        model,
        seen.who,
        seen.kind,
        seen.cost_usd,
        seen.factor,
        seen.weight,
    )
    takes = _figures(catalog, "minutes")
    timed = bool(np.isfinite(takes).any() or np.isfinite(seen.minutes).any())
    minutes = np.zeros(takes.shape)
    if timed:
        minutes, _ = costs.by_kind(
            takes, UNKNOWN_MINUTES, model, seen.who, seen.kind, seen.minutes, seen.factor, seen.weight
        )
    shape = theta.shape
    n = np.bincount(seen.who * shape[1] + seen.kind, minlength=theta.size).reshape(shape)
    known: dict[tuple[str, str], LearnedAbility] = {}
    for c, candidate in enumerate(catalog.candidates):
        cells = [
            LearnedKind(
                theta=float(theta[c, k]),
                sd=float(found.sd[c, k]),
                cost_usd=float(cost[c, k]),
                minutes=float(minutes[c, k]) if timed else None,
                n=int(n[c, k]),
                n_cost=int(n_cost[c, k]),
            )
            for k in range(shape[1])
        ]
        known[candidate.key] = LearnedAbility(
            theta=cells[-1].theta,
            sd=cells[-1].sd,
            cost_usd=cells[-1].cost_usd,
            minutes=cells[-1].minutes,
            n=int(n[c].sum()),
            n_cost=cells[-1].n_cost,
            kinds=dict(zip(catalog.kind_ids, cells[:-1], strict=True)),
        )
    return known


def _figures(catalog: Catalog, what: str) -> Array:
    """What the catalog says: candidates × kinds, last over all; NaN where it says nothing."""
    rows = [
        [getattr(candidate.kinds.get(kind), what, None) for kind in catalog.kind_ids] + [getattr(candidate, what)]
        for candidate in catalog.candidates
    ]
    found = np.array(rows, dtype=np.float64)
    return found.reshape(len(rows), len(catalog.kinds) + 1)
