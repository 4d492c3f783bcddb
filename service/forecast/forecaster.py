"""What each candidate's chances and costs are for one task, from everything learned so far, and the plan from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from service.catalog import Candidate, Catalog
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
from service.task import Attempt

MinutesSource = Literal["classifier", "text"]

TEXT_WEIGHT = 0.1
"""Logits that a task is harder when the text's minutes are e times as long. On 231 SWE-bench Verified tasks 0.3 is best
in cross-validation, but gains 0.6 in log-likelihood over no weight at all, which may be chance; a third of it is kept.
The estimate was itself fitted with those issues among others, which flatters it a little.
(tests/load/forecast_fit.py. People's minutes gain 14. From a classifier the weight is `Learned.minutes_weight`.)"""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One attempt: `p_solve` and expected `cost_usd` are given that every earlier step failed."""

    candidate: Candidate
    p_solve: float
    cost_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps, at least one; chance that one of them solves the task, expected cost of going through them.

    `worthwhile` is false where for every candidate p_solve × value < cost_usd now: then the step is the least loss.
    """

    steps: tuple[PlannedStep, ...]
    p_solve: float
    cost_usd: float
    worthwhile: bool


class Forecast:
    """Chances and costs of the candidates for one task, given the attempts so far. Immutable."""

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
        self._chance = chance
        self._cost = cost
        self._explanation = explanation
        self.p_solve: tuple[float, ...] = tuple((chance @ posterior).tolist())
        self.cost_usd: tuple[float, ...] = tuple((cost @ posterior).tolist())

    def plan(self, value_usd: float, first: Candidate | None = None, max_steps: int = MAX_STEPS) -> Plan:
        """The best plan where a solved task is worth `value_usd`; `first`, one of the candidates, is its step one."""
        start = None if first is None else self.candidates.index(first)
        path = best_path(self.posterior, self._chance, self._cost, value_usd, first=start, max_steps=max_steps)
        return Plan(
            steps=tuple(
                PlannedStep(candidate=self.candidates[c], p_solve=p, cost_usd=cost)
                for c, p, cost in zip(path.order, path.p_solve, path.cost_usd, strict=True)
            ),
            p_solve=path.total_p_solve,
            cost_usd=path.total_cost_usd,
            worthwhile=path.worthwhile,
        )

    def explain(self) -> dict[str, Any]:
        """What the forecast rests on, ready for JSON: abilities, difficulty, minutes and offsets used."""
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
        self._row = {key: row for row, key in enumerate(self._abilities)}
        theta = np.array([known.theta for known in self._abilities.values()])
        self._chance = chances(theta)
        self._cost = np.array([known.cost_usd for known in self._abilities.values()])
        self._log_fail = -np.logaddexp(0.0, theta[:, None] - GRID)
        self._log_fail_stranger: Array = -np.logaddexp(0.0, NEUTRAL - GRID)
        self._factor = cost_factor(self.learned.tasks)

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
        offsets = {key: self.learned.labels.get(label_digest(key, value), 0.0) for key, value in labels.items()}
        weight = self.learned.minutes_weight if minutes_source == "classifier" else TEXT_WEIGHT
        by_minutes = 0.0 if minutes is None else weight * log_minutes(minutes)
        shift = self.learned.tasks + sum(offsets.values()) + by_minutes
        mean = min(max(shift, -MAX_SHIFT), MAX_SHIFT)
        log_density = log_normal(mean)
        failed = 0
        for attempt in attempts:
            if attempt.result == "failed":
                row = self._row.get((attempt.agent_type, attempt.model))
                log_density = log_density + (self._log_fail_stranger if row is None else self._log_fail[row])
                failed += 1
        rows = [self._row[candidate.key] for candidate in candidates]
        known = [self._abilities[candidate.key] for candidate in candidates]
        explanation: dict[str, Any] = {
            "learned": {"version": self.version, "outcomes": self.learned.used, "ignored": self.learned.ignored},
            "shift": {
                "tasks": round(self.learned.tasks, 4),
                "labels": {key: round(offset, 4) for key, offset in offsets.items() if offset},
                "minutes": {
                    "minutes": minutes,
                    "source": None if minutes is None else minutes_source,
                    "weight": round(weight, 4),
                    "logits": round(by_minutes, 4),
                },
                "total": round(mean, 4),
            },
            "failed_attempts": failed,
            "candidates": [{"theta": round(one.theta, 4), "n": one.n} for one in known],
        }
        return Forecast(
            tuple(candidates),
            weights(log_density),
            self._chance[rows],
            self._cost[rows, None] * self._factor,
            explanation,
        )

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
