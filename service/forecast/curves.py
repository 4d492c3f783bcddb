"""Chances and costs of every candidate over difficulty, for one kind of work or for several side by side.

Where the kind is uncertain, what is not known of a task is its kind and its difficulty together: the grid of difficulty
stands there once for each kind that it may be, one after the other, and everything that is summed over difficulty is
summed over both. A failure then says something of both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from service.contract.catalog import Catalog
from service.forecast.columns import Key
from service.forecast.difficulty import GRID, MAX_SHIFT, Array, chances, cost_factor, densities, density
from service.forecast.learned import Learned, LearnedAbility

TENTHS = 10
"""Probabilities of kinds are rounded to so many parts, so that tasks of much the same kinds share a forecast. A kind
that is less likely than half a part is left out, and so there are never more than ten."""

FEW = 6
"""Kinds of a catalog that are always reckoned side by side."""

DENSITIES_KEPT = 64
"""Minutes are round numbers and labels say little, so that many tasks share a mean; each takes 3 KB."""

Mixture = tuple[tuple[str | None, int], ...]
"""Kinds with their parts, in the catalog's order, so that tasks of the same kinds share their curves; last None, which
is no kind that the catalog has."""


def mixture(kinds: Mapping[str, float], known: Sequence[str]) -> Mixture:
    """Of what a task may be; what the shares lack of one is None. Nothing that is known: one whole of None.

    One of several kinds has all of them that the catalog has, where they are few, those without a part too: so all such
    tasks share what is reckoned of candidates.
    """
    parts: list[tuple[str | None, int]] = [(kind, round(TENTHS * kinds.get(kind, 0.0))) for kind in known]
    if (nothing := round(TENTHS * (1.0 - sum(kinds.values())))) > 0:
        parts.append((None, nothing))
    kept = [part for part in parts if part[1]]
    if len(kept) > 1 and len(known) <= FEW:
        return tuple(parts)
    return tuple(kept) or ((None, TENTHS),)


def likeliest(of: Mixture) -> str | None:
    """The kind that has the most parts."""
    return max(of, key=lambda part: part[1])[0]


@dataclass(frozen=True, slots=True)
class Curves:
    """Candidates × (kinds × grid): P(solved), P(failed), expected US dollars, and minutes where any are known; and, for
    each kind, by which factor an attempt costs more over all tasks than in this kind."""

    chance: Array
    fail: Array
    cost_usd: Array
    minutes: Array | None
    general: Array

    def dearer(self, factor: float) -> "Curves":
        """At a task that is dearer by `factor` than most: what a kind costs more already is not counted twice."""
        if factor == 1.0:
            return self
        times: Array | float = factor
        if factor > 1.0:
            times = np.repeat(np.clip(factor * self.general, 1.0, factor), len(GRID), axis=1)
        minutes = None if self.minutes is None else self.minutes * times
        return replace(self, cost_usd=self.cost_usd * times, minutes=minutes)

    def of(self, rows: Sequence[int]) -> "Curves":
        """Of these candidates."""
        at = list(rows)
        minutes = None if self.minutes is None else self.minutes[at]
        return Curves(self.chance[at], self.fail[at], self.cost_usd[at], minutes, self.general[at])


class KindCurves:
    """The curves of a catalog's candidates by what was learned; those of a set of kinds are made once."""

    def __init__(self, catalog: Catalog, abilities: Mapping[Key, LearnedAbility], learned: Learned) -> None:
        self._known = [abilities[candidate.key] for candidate in catalog.candidates]
        self._learned = learned
        self._tasks = min(max(learned.tasks, -MAX_SHIFT), MAX_SHIFT)
        self._made: dict[tuple[str | None, ...], Curves] = {}
        self._densities = lru_cache(DENSITIES_KEPT)(self._make_densities)

    def curves(self, kinds: tuple[str | None, ...]) -> Curves:
        """For these kinds, side by side."""
        found = self._made.get(kinds)
        if found is None:
            parts = [self._single(kind) for kind in kinds]
            found = parts[0] if len(parts) == 1 else _beside(parts)
            if len(self._made) < _KEPT:
                self._made[kinds] = found
        return found

    def prior(self, of: Mixture, mean: float) -> Array:
        """Kind and difficulty before any attempt: probabilities over kinds × grid, where difficulty has that mean."""
        if len(of) == 1:
            return density(mean, self._learned.shape(of[0][0]))
        shares = np.array([parts for _, parts in of]) / sum(parts for _, parts in of)
        mixed: Array = shares[:, None] * self._densities(tuple([kind for kind, _ in of]), mean)
        return mixed.reshape(-1)

    def _make_densities(self, kinds: tuple[str | None, ...], mean: float) -> Array:
        return densities(mean, [self._learned.shape(kind) for kind in kinds])

    def _single(self, kind: str | None) -> Curves:
        found = self._made.get((kind,))
        if found is not None:
            return found
        here = [known.of(kind) for known in self._known]
        theta = np.array([one.theta for one in here])
        factor = cost_factor(self._tasks, self._learned.shape(kind))
        general = [_times(known.cost_usd, one.cost_usd) for known, one in zip(self._known, here, strict=True)]
        takes = [one.minutes for one in here]
        minutes = None if any(one is None for one in takes) else np.array(takes, dtype=np.float64)[:, None] * factor
        made = Curves(
            chances(theta),
            1.0 / (1.0 + np.exp(theta[:, None] - GRID)),
            np.array([one.cost_usd for one in here])[:, None] * factor,
            minutes,
            np.array(general)[:, None],
        )
        self._made[kind,] = made
        return made


_KEPT = 512
"""Sets of kinds whose curves are kept; each takes some 25 KB a kind."""


def _beside(parts: Sequence[Curves]) -> Curves:
    minutes = [part.minutes for part in parts if part.minutes is not None]
    return Curves(
        np.hstack([part.chance for part in parts]),
        np.hstack([part.fail for part in parts]),
        np.hstack([part.cost_usd for part in parts]),
        np.hstack(minutes) if len(minutes) == len(parts) else None,
        np.hstack([part.general for part in parts]),
    )


def _times(general: float, special: float) -> float:
    return general / special if special > 0 else 1.0
