"""What each candidate's chances and costs are for one task, from everything learned so far, and the plan from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, Literal

import msgspec
import numpy as np

from service.contract.catalog import Candidate, Catalog
from service.contract.decision import Step
from service.contract.task import Attempt
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
from service.forecast.history import label_digest
from service.forecast.plan import MAX_STEPS, best_path

MinutesSource = Literal["classifier", "text"]

TEXT_WEIGHT = 0.1
"""Logits that a task is harder when the text's minutes are e times as long. On 231 SWE-bench Verified tasks 0.3 is best
in cross-validation, but gains 0.6 in log-likelihood over no weight at all, which may be chance; a third of it is kept.
The estimate was itself fitted with those issues among others, which flatters it a little.
(tests/load/forecast_fit.py. People's minutes gain 14. From a classifier the weight is `Learned.minutes_weight`.)"""


FORECASTS_KEPT = 256
PLANS_KEPT = 16
LEANED_KEPT = 16
"""Of each forecast. Tasks for which nothing differs that a forecast rests on share it, and its plans: most do, where
minutes are round numbers and labels say nothing yet. A forecast holds some 10 KB."""


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


COST_DIGITS = 9
"""Of an answer's dollars: a cost that equals a limit shall not exceed it by the last bit of a sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps, at least one; chance that one of them solves the task, expected cost of going through them.

    `worthwhile` is false where for every candidate p_solve × value < cost_usd now: then the step is the least loss.
    """

    steps: tuple[Step, ...]
    p_solve: float
    cost_usd: float
    worthwhile: bool


class Forecast:
    """Chances and costs of the candidates for one task, given the attempts so far. Immutable, and shared by tasks."""

    def __init__(
        self,
        candidates: tuple[Candidate, ...],
        posterior: Array,
        chance: Array,
        cost: Array,
        explanation: dict[str, Any],
    ) -> None:
        self.candidates = candidates
        self.posterior = posterior
        self._explanation = explanation
        self._chance, self._cost = chance, cost
        self._leaned = lru_cache(LEANED_KEPT)(self._lean)
        self._plan = lru_cache(PLANS_KEPT)(partial(_plan, candidates, posterior, chance, cost))
        self.p_solve: tuple[float, ...] = tuple((chance @ posterior).tolist())
        self.cost_usd: tuple[float, ...] = tuple((cost @ posterior).tolist())

    def plan(self, value_usd: float, first: Candidate | None = None, max_steps: int = MAX_STEPS) -> Plan:
        """The best plan where a solved task is worth `value_usd`; `first`, one of the candidates, is its step one."""
        return self._plan(value_usd, None if first is None else self.candidates.index(first), max_steps)

    def leaning(self, logits: tuple[float, ...]) -> "Forecast":
        """The same with each candidate's chance moved by so many logits at every difficulty; itself where empty."""
        return self._leaned(logits) if logits else self

    def _lean(self, logits: tuple[float, ...]) -> "Forecast":
        odds = np.exp(np.array(logits))[:, None]
        chance = self._chance * odds / (1 - self._chance + self._chance * odds)
        by_candidate = [
            {**one, "leaning": round(logit, 2)}
            for one, logit in zip(self._explanation["candidates"], logits, strict=True)
        ]
        explanation = {**self._explanation, "candidates": by_candidate}
        return Forecast(self.candidates, self.posterior, chance, self._cost, explanation)

    def explain(self) -> dict[str, Any]:
        """What the forecast rests on, ready for JSON: abilities, difficulty, minutes and offsets used. Not to be
        changed: it is made once."""
        return self._explained

    @cached_property
    def explained(self) -> msgspec.Raw:
        """The same as JSON, written once."""
        return msgspec.Raw(msgspec.json.encode(self._explained))

    @cached_property
    def _explained(self) -> dict[str, Any]:
        mean = float(self.posterior @ GRID)
        spread = float(np.sqrt(self.posterior @ (GRID - mean) ** 2))
        return {
            **self._explanation,
            "difficulty": {"mean": round(mean, 3), "sd": round(spread, 3)},
            "candidates": [
                {
                    "agent_type": candidate.agent_type,
                    "model": candidate.model,
                    **self._explanation["candidates"][i],
                    "p_solve": round(self.p_solve[i], 4),
                    "cost_usd": round(self.cost_usd[i], 6),
                }
                for i, candidate in enumerate(self.candidates)
            ],
        }


def _plan(
    candidates: tuple[Candidate, ...],
    posterior: Array,
    chance: Array,
    cost: Array,
    value_usd: float,
    first: int | None,
    max_steps: int,
) -> Plan:
    path = best_path(posterior, chance, cost, value_usd, first=first, max_steps=max_steps)
    return Plan(
        steps=tuple(
            Step(
                agent_type=candidates[c].agent_type,
                model=candidates[c].model,
                p_solve=p,
                cost_usd=round(cost, COST_DIGITS),
            )
            for c, p, cost in zip(path.order, path.p_solve, path.cost_usd, strict=True)
        ),
        p_solve=path.total_p_solve,
        cost_usd=path.total_cost_usd,
        worthwhile=path.worthwhile,
    )


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
        self._made = lru_cache(FORECASTS_KEPT)(self._make)

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
    ) -> Forecast:
        """Chances and costs of these candidates of the catalog, at least one, for a task.

        Each `failed` attempt multiplies the distribution of difficulty by 1 − P(solved); one by a pair that the catalog
        does not have counts as one of a middling candidate. `rate_limited` and `error` never really ran, and `solved`
        is no reason to ask again: they say nothing.
        """
        known = self.learned.labels
        offsets = [(key, known.get(label_digest(key, value), 0.0)) for key, value in labels.items()] if known else []
        failed = (self._row.get((a.agent_type, a.model)) for a in attempts if a.result == "failed")
        rows = tuple([self._row[candidate.key] for candidate in candidates])
        shifting = tuple([(key, offset) for key, offset in offsets if offset])
        return self._made(rows, shifting, minutes, minutes_source, tuple(failed))

    def _make(
        self,
        rows: tuple[int, ...],
        offsets: tuple[tuple[str, float], ...],
        minutes: float | None,
        minutes_source: MinutesSource,
        failed: tuple[int | None, ...],
    ) -> Forecast:
        """`rows` number the candidates and those that failed; None is one that the catalog does not have."""
        weight = self.learned.minutes_weight if minutes_source == "classifier" else TEXT_WEIGHT
        by_minutes = 0.0 if minutes is None else weight * log_minutes(minutes)
        shift = self.learned.tasks + sum(offset for _, offset in offsets) + by_minutes
        mean = min(max(shift, -MAX_SHIFT), MAX_SHIFT)
        log_density = log_normal(mean)
        for row in failed:
            log_density = log_density + (self._log_fail_stranger if row is None else self._log_fail[row])
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
        chance, cost = self._chance, self._cost
        if rows != tuple(range(len(chance))):
            chance, cost = chance[list(rows)], cost[list(rows)]
        return Forecast(candidates, weights(log_density), chance, cost, explanation)

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
