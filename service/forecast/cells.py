"""Candidates by kind of work: a cell is a candidate in one kind, or in none that is known.

Ability in a cell = what the catalog's figures say of it + what its candidate is better by everywhere + what its kind
is easier by for everyone + what is its own. The three deviations are normal with means of 0, so cells are tied
together: an outcome in one moves the others of its candidate too, and what is their own stays small where kinds do not
differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from math import inf, log, log1p

import numpy as np

from service.contract.catalog import Candidate, Catalog
from service.forecast.columns import WITHDRAWN, Codes, Columns, Key, Places
from service.forecast.difficulty import Array, Shape, ability, weights
from service.forecast.history import label_digest, label_keys
from service.forecast.settings import Flags
from service.forecast.siblings import models, of_siblings

PRIOR_WEIGHT = 30.0
"""A `solve_rate` of the catalog counts as so many outcomes on average tasks. The data at hand cannot fit it (published
rates include the very tasks, so that the heavier the prior the better): 30 gives up 0.3 to 1 % of log-likelihood there,
and lets 30 outcomes elsewhere outweigh a benchmark."""

UNKNOWN_RATE = 0.5
"""Assumed where the catalog has no `solve_rate`: the middle of the scale."""

UNKNOWN_WEIGHT = 1.0
"""What is assumed counts as one outcome, the weakest prior that keeps an ability finite."""

RATES = (0.001, 0.999)
"""A rate beyond these is taken for a rounded one."""

KIND_SD = 0.5
OWN_SD = 0.4
"""How far, in logits, a kind is from what is published of it, for everyone and for one candidate, before outcomes."""

SIBLINGS = 0.5
"""Share of what is not known of an effort that is not known of its siblings either, the other efforts of the model: so
far do outcomes of one move another. A guess, since no recorded runs have several efforts of a model."""

WIDTHS: Array = np.array([0.02, 0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.3, 1.8, 2.5])
"""Standard deviations that are compared once there are outcomes; the first one is nothing."""

MIN_OUTCOMES = 3
MAX_CELLS = 400
"""A cell is estimated by itself from so many outcomes on; so many at most, those with the most outcomes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Every candidate in every kind, the last column being none that is known: what is expected before outcomes.

    `mean` in logits; `rate` and `weight` of each candidate over all tasks, in outcomes; `candidate_sd` of its own
    deviation; `apart` is by how much more a cell may be on its own where its figure is missing. `model` numbers the
    model of each candidate, of which several may be efforts.
    """

    model: Places
    mean: Array
    rate: Array
    weight: Array
    candidate_sd: Array
    apart: Array

    @property
    def columns(self) -> int:
        """Kinds, and one for none."""
        return int(self.mean.shape[1])

    @property
    def siblings(self) -> bool:
        """Whether any model has several efforts."""
        return len(np.unique(self.model)) < len(self.model)

    def covariance(self, kind_sd: float, own_sd: float) -> Array:
        """Of all cells, candidate by candidate."""
        columns = self.columns
        known: Array = np.r_[np.ones(columns - 1), 0.0]  # a task of no known kind is of any
        place: Codes = np.arange(int(self.mean.size), dtype=np.int64)
        of: Codes = place // columns
        kind: Codes = place % columns
        own = self.candidate_sd[of]
        found = np.where(of[:, None] == of, own[:, None] ** 2, 0.0)
        if self.siblings:
            alike = (self.model[of][:, None] == self.model[of]) & (of[:, None] != of)
            found += np.where(alike, SIBLINGS * np.minimum(own[:, None], own) ** 2, 0.0)
        found += np.where(kind[:, None] == kind, kind_sd**2 * known[kind], 0.0)
        found[np.diag_indices(len(found))] += own_sd**2 * known[kind] + self.apart.ravel() ** 2
        return found


def grid(catalog: Catalog, shape: Shape) -> Grid:
    """From the catalog's figures; what is missing of a candidate in a kind is as its others and as others are in it,
    those of the same model where there are any."""
    candidates, kinds = catalog.candidates, catalog.kind_ids
    general = abilities([candidate.solve_rate for candidate in candidates], shape)
    special = (
        np.array([abilities([rate_of(candidate, kind) for candidate in candidates], shape) for kind in kinds])
        .reshape(len(kinds), len(candidates))
        .T
    )
    off = special - general[:, None]
    typical, spread = np.zeros(len(kinds)), np.zeros(len(kinds))
    for k in range(len(kinds)):
        told = off[~np.isnan(off[:, k]), k]
        typical[k] = told.mean() if len(told) else 0.0
        spread[k] = told.std(ddof=1) if len(told) > 1 else 0.0
    nothing = float(abilities([UNKNOWN_RATE], shape)[0])
    by_kinds = special - typical
    known: Flags = ~np.isnan(by_kinds)
    of_kinds = np.where(known, by_kinds, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    unrated: Array = np.where(known.any(axis=1), of_kinds, np.nan)
    base: Array = np.where(np.isnan(general), unrated, general)
    model = models(candidates)
    base = np.where(np.isnan(base), of_siblings(base, model, nothing), base)
    missing = np.isnan(special)
    mean = np.where(missing, base[:, None] + of_siblings(off, model, typical), special)
    rate = np.array([UNKNOWN_RATE if c.solve_rate is None else c.solve_rate for c in candidates])
    rate = np.clip(rate.astype(np.float64), *RATES)
    weight = np.where(~np.isnan(general) | known.any(axis=1), PRIOR_WEIGHT, UNKNOWN_WEIGHT)
    return Grid(
        model=model,
        mean=np.column_stack([mean, base]),
        rate=rate,
        weight=weight,
        candidate_sd=np.sqrt(rate_variance(rate, weight, shape)),
        apart=np.column_stack([np.where(missing, spread, 0.0), np.zeros(len(candidates))]),
    )


def rate_of(candidate: Candidate, kind: str) -> float | None:
    """What is published of it for that kind."""
    figures = candidate.kinds.get(kind)
    return None if figures is None else figures.solve_rate


def abilities(rates: Sequence[float | None], shape: Shape) -> Array:
    """The abilities that rates are; NaN where there is none."""
    told = np.array([UNKNOWN_RATE if rate is None else rate for rate in rates], dtype=np.float64)
    found = ability(np.clip(told, *RATES), shape) if len(told) else told
    return np.where([rate is None for rate in rates], np.nan, found)


def rate_variance(rate: Array, weight: Array, shape: Shape) -> Array:
    """Of an ability in logits that rests on so many outcomes at that rate, with difficulty of that shape (Laplace)."""
    attenuated = 1 + (shape.sigma / 1.7) ** 2
    inside = np.clip(rate, *RATES)
    found: Array = attenuated / (weight * inside * (1 - inside))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Those that are estimated: `place[i]` is the place of cell i in the grid, `names` are candidate and kind, `keys`
    what stands for that in `columns`. `kind` is the number of each outcome's kind, the last one being none that is
    known."""

    place: Places
    keys: list[Key]
    names: list[tuple[Key, str | None]]
    kind: Codes
    columns: Columns


def cells_of(catalog: Catalog, columns: Columns) -> Cells:
    """The outcomes with cells in place of pairs. Cells of few outcomes count as their candidate in no known kind."""
    width = len(catalog.kinds) + 1
    number = {kind: k for k, kind in enumerate(catalog.kind_ids)}
    row = {candidate.key: c for c, candidate in enumerate(catalog.candidates)}
    kind = np.array([number.get(name, width - 1) for name in columns.kinds] or [width - 1], dtype=np.int64)[
        columns.kind
    ]
    of_pair = np.array([row.get(pair, -1) for pair in columns.pairs] or [-1], dtype=np.int64)
    pair = of_pair[columns.pair]
    live = (pair >= 0) & (columns.solved != WITHDRAWN)
    seen = np.bincount((pair * width + kind)[live], minlength=len(row) * width).reshape(-1, width)
    often = np.argsort(-seen[:, :-1].ravel(), kind="stable")[:MAX_CELLS]
    kept = np.zeros((len(row), width - 1), dtype=bool)
    kept.ravel()[often] = seen[:, :-1].ravel()[often] >= MIN_OUTCOMES
    kept = np.column_stack([kept, np.full(len(row), width == 1)])
    kept[:, -1] |= seen.sum(axis=1) > np.where(kept[:, :-1], seen[:, :-1], 0).sum(axis=1)
    target = np.where(kept, np.arange(width), width - 1)
    pairs = len(columns.pairs)

    def cell(code: Codes, of_kind: Codes) -> Codes:
        """A number for a pair in a kind: the pairs themselves stand for those that the catalog does not have."""
        candidate = of_pair[code]
        if not len(row):
            return code
        inside = np.maximum(candidate, 0)
        return np.where(candidate < 0, code, pairs + inside * width + target[inside, of_kind]).astype(np.int64)

    names = [("stranger", f"{i}") for i in range(pairs)] + [("cell", f"{i}") for i in range(len(row) * width)]
    place = np.flatnonzero(kept.ravel())
    columns = without_key(columns, "kind") if catalog.kinds else columns
    return Cells(
        place=place,
        keys=[names[pairs + one] for one in place.tolist()],
        names=[
            (catalog.candidates[one // width].key, (*catalog.kind_ids, None)[one % width]) for one in place.tolist()
        ],
        kind=kind,
        columns=replace(
            columns,
            pairs=tuple(names),
            pair=cell(columns.pair, kind),
            failed=cell(columns.failed, np.repeat(kind, columns.failed_counts)),
        ),
    )


def without_key(columns: Columns, key: str) -> Columns:
    """The same without the labels of that key: what the kind explains shall not be explained twice."""
    kept = label_keys(columns.labels) != label_keys(np.array([label_digest(key, "")], dtype=np.uint64))[0]
    if kept.all():
        return columns
    of_row = np.repeat(np.arange(len(columns.pair)), columns.label_counts)
    counts = np.bincount(of_row[kept], minlength=len(columns.pair)).astype(np.int64)
    return replace(columns, labels=columns.labels[kept], label_counts=counts)


@dataclass(frozen=True, slots=True)
class Width:
    """How far kinds differ from what is published: for everyone, and for one candidate."""

    kind_sd: float = KIND_SD
    own_sd: float = OWN_SD

    @property
    def nothing(self) -> bool:
        """Whether kinds are taken to mean nothing beyond what is published of them."""
        return bool(max(self.kind_sd, self.own_sd) <= WIDTHS[0])


STRONGLY = log(10)
"""The least log of a Bayes factor that is called strong evidence (Jeffreys 1961): above it by chance is hardly ever."""

NOTHING = Width(float(WIDTHS[0]), float(WIDTHS[0]))


def widths(expected: Grid, place: Places, data: Array, told: Array, start: Width, *, differ: bool = False) -> Width:
    """The most probable of WIDTHS, one after the other; or NOTHING, unless outcomes speak STRONGLY for all else
    together, or kinds are known to `differ`.

    The most probable width is above nothing every second time where kinds mean nothing (Self and Liang 1987), which
    costs a little each time.
    """
    probable = cache(partial(_probable, expected, place, data, told))
    compared: list[float] = WIDTHS.tolist()
    begin = min(compared, key=lambda width: abs(width - start.kind_sd))
    own_sd = max(compared, key=lambda width: probable(begin, width))
    kind_sd = max(compared, key=lambda width: probable(width, own_sd))
    own_sd = max(compared, key=lambda width: probable(kind_sd, width))
    seen = {(begin, width) for width in compared} | {(width, own_sd) for width in compared}
    seen |= {(kind_sd, width) for width in compared}
    something = (
        float(np.logaddexp.reduce(np.array([probable(*one) for one in seen]))) - _whole(KIND_SD) - _whole(OWN_SD)
    )
    nothing = probable(NOTHING.kind_sd, NOTHING.own_sd)
    nothing += log1p((NOTHING.kind_sd / KIND_SD) ** 2) + log1p((NOTHING.own_sd / OWN_SD) ** 2)
    if not differ and something <= nothing + STRONGLY:
        return NOTHING
    return Width(kind_sd=kind_sd, own_sd=own_sd)


def _whole(scale: float) -> float:
    """The log of the sum over WIDTHS of how probable they are beforehand."""
    return log(float((1 / (1 + (WIDTHS / scale) ** 2)).sum()))


def possible_widths(expected: Grid, place: Places, data: Array, told: Array, at: Width) -> Width:
    """How far kinds may well differ where `at` is only the most probable: few outcomes show no difference that is there
    all the same. Root mean squares over all widths, but no more than is assumed or is probable."""
    probable = partial(_probable, expected, place, data, told)

    def possible(logs: list[float], assumed: float, most: float) -> float:
        share = weights(np.array(logs)) * np.gradient(WIDTHS)
        return max(most, min(assumed, float(np.sqrt(share @ WIDTHS**2 / share.sum()))))

    return Width(
        kind_sd=possible([probable(width, at.own_sd) for width in WIDTHS.tolist()], KIND_SD, at.kind_sd),
        own_sd=possible([probable(at.kind_sd, width) for width in WIDTHS.tolist()], OWN_SD, at.own_sd),
    )


def _probable(expected: Grid, place: Places, data: Array, told: Array, kind_sd: float, own_sd: float) -> float:
    """The log of how probable these widths are, but for a constant, with half-Cauchy priors of the scales that are
    assumed.

    What outcomes say of the cells at `place` is taken to be exp(told·x − x·data·x / 2), x being how far they are from
    their means; then the deviations can be integrated out.
    """
    prior = expected.covariance(kind_sd, own_sd)[np.ix_(place, place)]
    both = np.eye(len(place)) + data @ prior
    sign, size = np.linalg.slogdet(both)
    if sign <= 0:
        return -inf
    fit = float(told @ prior @ np.linalg.solve(both, told))
    return (fit - float(size)) / 2 - log1p((kind_sd / KIND_SD) ** 2) - log1p((own_sd / OWN_SD) ** 2)
