"""What makes forecasts: everything learned so far, put to one task and its candidates."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec
import numpy as np

from service.contract.catalog import Candidate, Catalog
from service.contract.task import Attempt
from service.contract.verifier import PERFECT, Verifier
from service.forecast.ability import NEUTRAL, Learned, LearnedAbility, learn
from service.forecast.costs import UNKNOWN_COST_USD
from service.forecast.difficulty import (
    GRID,
    MAX_SHIFT,
    Array,
    chances,
    cost_factor,
    log_normal,
    solve_rate,
    weights,
)
from service.forecast.evidence import log_minutes
from service.forecast.forecast import Forecast, known_minutes
from service.forecast.history import label_digest
from service.forecast.luck import Tried, rejection
from service.forecast.options import Options

MinutesSource = Literal["classifier", "text"]

TEXT_WEIGHT = 0.1
"""Logits that a task is harder when the text's minutes are e times as long. On 231 SWE-bench Verified tasks 0.3 is best
in cross-validation, but gains 0.6 in log-likelihood over no weight at all, which may be chance; a third of it is kept.
The estimate was itself fitted with those issues among others, which flatters it a little.
(tests/load/forecast_fit.py. People's minutes gain 14. From a classifier the weight is `Learned.minutes_weight`.)"""


FORECASTS_KEPT = 256
"""Tasks for which nothing differs that a forecast rests on share it, and its plans: most do, where minutes are round
numbers and labels say nothing yet. A forecast holds some 10 KB."""

OPTIONS_KEPT = 64
"""Sets of candidates after certain failures: what luck tells of them is reckoned once for all tasks."""


class AbilityReport(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate as `GET /v1/catalog` shows it: the catalog's figures (None where unknown) and what was learned.

    `learned_solve_rate` is the share of this service's tasks that it is expected to solve at the first try, `theta` its
    ability in logits, `n` the outcomes behind it and `n_cost` those that told a cost.
    """

    agent_type: str
    model: str
    prior_solve_rate: float | None
    prior_cost_usd: float | None
    learned_solve_rate: float
    learned_cost_usd: float
    theta: float
    n: int
    n_cost: int


class Forecaster:
    """Abilities, costs and offsets learned so far, ready to be asked. Immutable: safe to share between threads.

    A candidate that `learned` does not know (the catalog has changed since) stands at what the catalog says of it.
    """

    def __init__(self, catalog: Catalog, learned: Learned | None = None) -> None:
        published = learn(catalog, ())
        self.catalog = catalog
        self.learned = published if learned is None else learned
        self._abilities: dict[tuple[str, str], LearnedAbility] = {
            **published.abilities,
            **{key: known for key, known in self.learned.abilities.items() if key in catalog.by_key},
        }
        known = [self._abilities[candidate.key] for candidate in catalog.candidates]
        self._row = {candidate.key: row for row, candidate in enumerate(catalog.candidates)}
        theta = np.array([one.theta for one in known])
        self._chance = chances(theta)
        self._log_fail = -np.logaddexp(0.0, theta[:, None] - GRID)
        self._log_fail_stranger: Array = -np.logaddexp(0.0, NEUTRAL - GRID)
        mean_cost = np.array([one.cost_usd for one in known])
        self._cost: Array = mean_cost[:, None] * cost_factor(self.learned.tasks)
        minutes = known_minutes(catalog.candidates)
        self._minutes = None if minutes is None else minutes[:, None] * cost_factor(self.learned.tasks)
        models = {(c.agent_type, c.model): number for number, c in enumerate(catalog.candidates)}
        self._model = tuple(models[c.agent_type, c.model] for c in catalog.candidates)
        self._made = lru_cache(FORECASTS_KEPT)(self._make)
        self._options = lru_cache(OPTIONS_KEPT)(self._make_options)

    @property
    def version(self) -> str:
        """Changes with everything learned."""
        return self.learned.version

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
        verifier: Verifier = PERFECT,
        again: bool = False,
    ) -> Forecast:
        """Chances and costs of these candidates of the catalog, at least one, for a task.

        Each `failed` attempt multiplies the distribution of difficulty by the chance that the `verifier` rejected it,
        1 − P(solved) where that never errs; one by a pair that the catalog does not have counts as one of a middling
        candidate. A plan may try each candidate twice, those attempts included, where that is to be done `again`.
        `rate_limited` and `error` never really ran, and `solved` is no reason to ask again: they say nothing.
        """
        known = self.learned.labels
        offsets = [(key, known.get(label_digest(key, value), 0.0)) for key, value in labels.items()] if known else []
        failed = (self._row.get((a.agent_type, a.model)) for a in attempts if a.result == "failed")
        rows = tuple([self._row[candidate.key] for candidate in candidates])
        shifting = tuple([(key, offset) for key, offset in offsets if offset])
        return self._made(rows, shifting, (minutes, minutes_source), tuple(failed), verifier, again)

    def _make(
        self,
        rows: tuple[int, ...],
        offsets: tuple[tuple[str, float], ...],
        told: tuple[float | None, MinutesSource],
        failed: tuple[int | None, ...],
        verifier: Verifier,
        again: bool,
    ) -> Forecast:
        """`rows` number the candidates and those that failed; None is one that the catalog does not have."""
        minutes, minutes_source = told
        weight = self.learned.minutes_weight if minutes_source == "classifier" else TEXT_WEIGHT
        by_minutes = 0.0 if minutes is None else weight * log_minutes(minutes)
        shift = self.learned.tasks + sum(offset for _, offset in offsets) + by_minutes
        mean = min(max(shift, -MAX_SHIFT), MAX_SHIFT)
        log_density = log_normal(mean) + self._log_rejection(failed, verifier)
        candidates = tuple(self.catalog.candidates[row] for row in rows)
        known = [self._abilities[candidate.key] for candidate in candidates]
        explanation: dict[str, Any] = {
            "learned": {"version": self.version, "outcomes": self.learned.used, "ignored": self.learned.ignored},
            "shift": {
                "tasks": round(self.learned.tasks, 4),
                "labels": {key: round(offset, 4) for key, offset in offsets},
                "minutes": {
                    "minutes": minutes,
                    "source": None if minutes is None else minutes_source,
                    "weight": round(weight, 4),
                    "logits": round(by_minutes, 4),
                },
                "total": round(mean, 4),
            },
            "failed_attempts": len(failed),
            "candidates": [{"theta": round(one.theta, 4), "n": one.n} for one in known],
        }
        options = self._options(rows, tuple(row for row in failed if row is not None), again)
        return Forecast(candidates, weights(log_density), options, explanation, verifier=verifier)

    def _make_options(self, rows: tuple[int, ...], failed: tuple[int, ...], again: bool) -> Options:
        of = list(rows)
        return Options(
            self._chance[of],
            self._cost[of],
            minutes=None if self._minutes is None else self._minutes[of],
            model=[self._model[row] for row in rows],
            pair=rows,
            tries=[2 - min(1, failed.count(row)) if again else 1 for row in rows],
            rejected=[self._tried(row) for row in failed],
        )

    def _tried(self, row: int) -> Tried:
        return Tried(self._model[row], row, self._chance[row])

    def _log_rejection(self, failed: tuple[int | None, ...], verifier: Verifier) -> Array:
        """log P(all these attempts were rejected) at each grid point; those of one model share luck."""
        total = np.zeros(len(GRID))
        by_model: dict[int, list[int]] = {}
        for row in failed:
            if row is None:
                total = total + self._log_one(self._log_fail_stranger, verifier)
            else:
                by_model.setdefault(self._model[row], []).append(row)
        for rows in by_model.values():
            if len(rows) == 1:
                total = total + self._log_one(self._log_fail[rows[0]], verifier)
            else:
                shared = rejection([self._tried(row) for row in rows], verifier)
                total = total + np.log(np.maximum(shared, 1e-300))
        return total

    @staticmethod
    def _log_one(log_fail: Array, verifier: Verifier) -> Array:
        if verifier.perfect:
            return log_fail
        wrong = np.exp(log_fail)
        return np.log(wrong * (1 - verifier.false_accept) + (1 - wrong) * verifier.false_reject)

    def abilities(self) -> list[AbilityReport]:
        """Every candidate of the catalog, in its order, with what is known of it before and after outcomes."""
        theta = np.array([self._abilities[candidate.key].theta for candidate in self.catalog.candidates])
        rates = solve_rate(theta, self.learned.tasks)
        reports: list[AbilityReport] = []
        for candidate, rate in zip(self.catalog.candidates, rates, strict=True):
            known = self._abilities[candidate.key]
            reports.append(
                AbilityReport(
                    agent_type=candidate.agent_type,
                    model=candidate.model,
                    prior_solve_rate=candidate.solve_rate,
                    prior_cost_usd=candidate.cost_usd,
                    learned_solve_rate=float(rate),
                    learned_cost_usd=known.cost_usd,
                    theta=known.theta,
                    n=known.n,
                    n_cost=known.n_cost,
                )
            )
        return reports
