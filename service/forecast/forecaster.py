"""What makes forecasts: everything learned so far, put to one task and its candidates."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec
import numpy as np

from service.contract.catalog import Candidate, Catalog
from service.contract.task import Attempt
from service.contract.verifier import PERFECT, Verifier
from service.forecast.ability import NEUTRAL, learn
from service.forecast.ability_report import AbilityReport, report_of
from service.forecast.columns import Key
from service.forecast.costs import UNKNOWN_COST_USD
from service.forecast.curves import Curves, KindCurves, Mixture, likeliest, mixture
from service.forecast.difficulty import GRID, MAX_SHIFT, Array, chances, solve_rate
from service.forecast.evidence import log_minutes
from service.forecast.forecast import Forecast
from service.forecast.history import label_digest
from service.forecast.learned import Learned, LearnedAbility
from service.forecast.luck import Kinship, Tried, rejection
from service.forecast.options import Options
from service.forecast.siblings import models
from service.forecast.size import dearer, harder, within

MinutesSource = Literal["classifier", "text"]

TEXT_WEIGHT = 0.1
"""Logits that a task is harder when the text's minutes are e times as long. On 231 SWE-bench Verified tasks 0.3 is best
in cross-validation, but gains 0.6 in log-likelihood over no weight at all, which may be chance; a third of it is kept.
The estimate was itself fitted with those issues among others, which flatters it a little.
(tests/load/forecast_fit.py. People's minutes gain 14. From a classifier the weight is `Learned.minutes_weight`.)"""


LEANING = 0.5
"""Logits by which the candidate that a text leans to is ahead of an average one of the same figures, all others having
no likeness at all: as much as some 10 points of solve rate, and less than one outcome in five tells after fifty."""

LEANING_OUTCOMES = 20.0
"""After so many outcomes of a candidate its description counts half."""

_NO_KIND: Mixture = ((None, 10),)

FORECASTS_KEPT = 1024
"""Tasks for which nothing differs that a forecast rests on share it, and its plans: minutes are round numbers, shares
of kinds are tenths, and labels say nothing yet. Of tasks in words of their own two thirds find their forecast here, and
four in ten would among 256. A forecast holds some 10 KB."""

OPTIONS_KEPT = 64
"""Sets of candidates after certain failures: what luck tells of them is reckoned once for all tasks."""

SIZES_KEPT = 256
"""Sets of candidates for tasks of a size: their curves take up to 80 KB, and forecasts share them."""


def _completed(learned: LearnedAbility | None, published: LearnedAbility) -> LearnedAbility:
    """What was learned, and what is published where nothing was: of a candidate, or of a kind that is new."""
    if learned is None:
        return published
    return msgspec.structs.replace(
        learned, kinds={kind: learned.kinds.get(kind, known) for kind, known in published.kinds.items()}
    )


def _within(shift: float) -> float:
    return min(max(shift, -MAX_SHIFT), MAX_SHIFT)


def _rejected(fail: Array, verifier: Verifier) -> Array:
    """The chance that an attempt is rejected, by the chance that it fails."""
    if verifier.perfect:
        return fail
    return verifier.false_reject + verifier.tells * fail


class Forecaster:
    """Abilities, costs and offsets learned so far, ready to be asked. Immutable: safe to share between threads.

    A candidate that `learned` does not know (the catalog has changed since) stands at what the catalog says of it.
    """

    def __init__(self, catalog: Catalog, learned: Learned | None = None, *, kept: int = FORECASTS_KEPT) -> None:
        """So many forecasts are `kept`."""
        nothing = learn(catalog, ())
        self.catalog = catalog
        self.learned = nothing if learned is None else learned
        if learned is not None:
            nothing = learn(catalog, (), shape=learned.shape(None))
        self._abilities: dict[Key, LearnedAbility] = {
            key: _completed(self.learned.abilities.get(key), known) for key, known in nothing.abilities.items()
        }
        self._row = {candidate.key: row for row, candidate in enumerate(catalog.candidates)}
        self._every_row = tuple(range(len(catalog.candidates)))
        self._curves = KindCurves(catalog, self._abilities, self.learned)
        self._fail_stranger: Array = 1.0 / (1.0 + np.exp(NEUTRAL - GRID))
        self._tasks = _within(self.learned.tasks)
        self._model: tuple[int, ...] = tuple(models(catalog.candidates).tolist())
        self._made = lru_cache(kept)(self._make)
        self._dearer = lru_cache(SIZES_KEPT)(self._make_dearer)
        self._options = lru_cache(OPTIONS_KEPT)(self._make_options)
        self._shown = lru_cache(OPTIONS_KEPT)(self._abilities_shown)

    @property
    def version(self) -> str:
        """Changes with everything learned."""
        return self.learned.version

    def strength(self, candidate: Candidate, kind: str | None, *, off: float = 0.0) -> float | None:
        """The share of this service's tasks of that kind, or of all, that a candidate of the catalog would solve at the
        first try, were it by `off` standard deviations stronger than it is thought to be. None where an older release
        learned it, which did not tell how well it is known."""
        known = self._abilities[candidate.key].of(kind)
        if known.sd is None:
            return None
        theta = np.array([known.theta + off * known.sd])
        return float(solve_rate(theta, self._tasks, self.learned.shape(kind))[0])

    def cost_usd(self, candidate: Candidate) -> float:
        """Mean cost of one attempt in US dollars, whatever the task."""
        known = self._abilities.get(candidate.key)
        return UNKNOWN_COST_USD if known is None else known.cost_usd

    def forecast(
        self,
        candidates: Sequence[Candidate],
        *,
        labels: Mapping[str, str],
        minutes: float | None,
        minutes_source: MinutesSource,
        attempts: Sequence[Attempt],
        kinds: Mapping[str, float] | None = None,
        leaning: Mapping[int, float] | None = None,
        verifier: Verifier = PERFECT,
        again: bool = False,
    ) -> Forecast:
        """Chances and costs of these candidates of the catalog, at least one, for a task that is of one of `kinds`, as
        likely as they say; those that the catalog does not have count for nothing.

        Each `failed` attempt multiplies the distribution of kind and difficulty by the chance that the `verifier`
        rejected it, 1 − P(solved) where that never errs; one by a pair that the catalog does not have counts as one of
        a middling candidate. `rate_limited` and `error` never really ran, and `solved` is no reason to ask again: they
        say nothing. `leaning` says to which candidates, by their place in the catalog, the text leans (see
        classifiers/likeness.py): a weak advantage, which outcomes overrule. With `again` a plan may try each candidate
        twice, earlier attempts included.
        """
        known, read_as_kind = self.learned.labels, bool(self.catalog.kinds)
        offsets = [
            (key, offset)
            for key, value in (labels.items() if known else ())
            if (offset := known.get(label_digest(key, value), 0.0)) and not (read_as_kind and key == "kind")
        ]
        failed = (self._row.get(a.key) for a in attempts if a.result == "failed")
        everyone = candidates is self.catalog.candidates
        rows = self._every_row if everyone else tuple([self._row[candidate.key] for candidate in candidates])
        of = mixture(kinds, self.catalog.kind_ids) if kinds else _NO_KIND
        leans = self._leans(rows, leaning) if leaning else None
        return self._made(rows, tuple(offsets), (minutes, minutes_source), tuple(failed), of, leans, (verifier, again))

    def _leans(self, rows: Sequence[int], leaning: Mapping[int, float]) -> tuple[float, ...] | None:
        """Logits for each row, rounded, so that tasks which lean alike share a forecast."""
        known = [self._abilities[candidate.key].n for candidate in self.catalog.candidates]
        shares = [leaning.get(row, 0.0) * LEANING_OUTCOMES / (LEANING_OUTCOMES + known[row]) for row in rows]
        leans = tuple([round(20 * LEANING * share) / 20 for share in shares])
        return leans if any(leans) else None

    def _make(
        self,
        rows: tuple[int, ...],
        offsets: tuple[tuple[str, float], ...],
        told: tuple[float | None, MinutesSource],
        failed: tuple[int | None, ...],
        of: Mixture,
        leans: tuple[float, ...] | None,
        how: tuple[Verifier, bool],
    ) -> Forecast:
        """`rows` number the candidates and those that failed; None is one that the catalog does not have."""
        (minutes, minutes_source), (verifier, again) = told, how
        weight = self.learned.minutes_weight if minutes_source == "classifier" else TEXT_WEIGHT
        by_minutes = 0.0 if minutes is None else weight * log_minutes(within(minutes)) + harder(minutes)
        shift = self.learned.tasks + sum(offset for _, offset in offsets) + by_minutes
        mean = _within(shift)
        curves = self._curves.curves(tuple([kind for kind, _ in of]))
        posterior = self._curves.prior(of, mean)
        for rejected in self._rejections(curves, failed, verifier):
            posterior = posterior * rejected
            posterior /= posterior.sum()
        candidates, shown = tuple([self.catalog.candidates[row] for row in rows]), self._shown(likeliest(of))
        larger = dearer(minutes)
        explanation: dict[str, Any] = {
            "learned": {"version": self.version, "outcomes": self.learned.used, "ignored": self.learned.ignored},
            "kinds": [kind for kind, _ in of],
            "shift": {
                "tasks": round(self.learned.tasks, 4),
                "labels": {key: round(offset, 4) for key, offset in offsets},
                "minutes": {
                    "minutes": minutes,
                    "source": None if minutes is None else minutes_source,
                    "weight": round(weight, 4),
                    "logits": round(by_minutes, 4),
                    "cost_factor": round(larger, 4),
                },
                "total": round(mean, 4),
            },
            "failed_attempts": len(failed),
            "candidates": [shown[row] for row in rows],
        }
        of_catalog = tuple([row for row in failed if row is not None])
        options = self._options(rows, tuple([kind for kind, _ in of]), larger, of_catalog, again)
        if leans is not None:
            options = options.with_chance(self._leaning_chance([candidate.key for candidate in candidates], of, leans))
            explanation["candidates"] = [
                {**shown, "leaning": lean} for shown, lean in zip(explanation["candidates"], leans, strict=True)
            ]
        return Forecast(candidates, posterior, options, explanation, verifier=verifier)

    def _make_options(
        self,
        rows: tuple[int, ...],
        kinds: tuple[str | None, ...],
        larger: float,
        failed: tuple[int, ...],
        again: bool,
    ) -> Options:
        every, curves = self._curves.curves(kinds), self._dearer(rows, kinds, larger)
        return Options(
            curves.chance,
            curves.cost_usd,
            minutes=curves.minutes,
            kinship=Kinship(
                model=tuple([self._model[row] for row in rows]),
                pair=rows,
                rejected=tuple([self._tried(every, row) for row in failed]),
            ),
            tries=[2 - min(1, failed.count(row)) if again else 1 for row in rows],
            kinds=len(kinds),
        )

    def _make_dearer(self, rows: tuple[int, ...], kinds: tuple[str | None, ...], larger: float) -> Curves:
        every = self._curves.curves(kinds)
        return (every if rows == self._every_row else every.of(rows)).dearer(larger)

    def _tried(self, curves: Curves, row: int) -> Tried:
        return Tried(self._model[row], row, curves.chance[row])

    def _abilities_shown(self, kind: str | None) -> tuple[dict[str, Any], ...]:
        """What an explanation says of each candidate, whatever the task."""
        here = [(candidate, self._abilities[candidate.key].of(kind)) for candidate in self.catalog.candidates]
        return tuple(
            [
                {
                    "agent_type": candidate.agent_type,
                    "model": candidate.model,
                    "effort": candidate.effort,
                    "theta": round(known.theta, 4),
                    "n": known.n,
                }
                for candidate, known in here
            ]
        )

    def _rejections(self, curves: Curves, failed: tuple[int | None, ...], verifier: Verifier) -> list[Array]:
        """The chance that what failed was rejected, at each grid point: of strangers and of models one by one, of
        several attempts of one model together, because they share its luck."""
        by_model: dict[int, list[int]] = {}
        found: list[Array] = []
        for row in failed:
            if row is None:
                found.append(_rejected(np.tile(self._fail_stranger, curves.chance.shape[1] // len(GRID)), verifier))
            else:
                by_model.setdefault(self._model[row], []).append(row)
        for rows in by_model.values():
            if len(rows) == 1:
                found.append(_rejected(curves.fail[rows[0]], verifier))
            else:
                found.append(rejection([self._tried(curves, row) for row in rows], verifier))
        return found

    def _leaning_chance(self, keys: Sequence[Key], of: Mixture, leans: Sequence[float]) -> Array:
        offsets = np.array(leans)
        theta = [np.array([self._abilities[key].of(kind).theta for key in keys]) + offsets for kind, _ in of]
        return np.hstack([chances(one) for one in theta])

    def abilities(self) -> list[AbilityReport]:
        """Every candidate of the catalog, in its order, with what is known of it before and after outcomes."""
        rates = {kind: self._rates(kind) for kind in (None, *self.catalog.kind_ids)}
        return [
            report_of(candidate, self._abilities[candidate.key], {kind: of[row] for kind, of in rates.items()})
            for row, candidate in enumerate(self.catalog.candidates)
        ]

    def _rates(self, kind: str | None) -> list[float]:
        theta = np.array([self._abilities[candidate.key].of(kind).theta for candidate in self.catalog.candidates])
        rates: list[float] = solve_rate(theta, self._tasks, self.learned.shape(kind)).tolist()
        return rates
