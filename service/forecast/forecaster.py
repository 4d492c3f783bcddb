"""What each candidate's chances and costs are for one task, from everything learned so far, and the plan from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, Literal

import msgspec
import numpy as np

from service.contract.catalog import Candidate, Catalog
from service.contract.decision import Step
from service.contract.kind import Figures
from service.contract.task import Attempt
from service.forecast.ability import NEUTRAL, learn
from service.forecast.columns import Key
from service.forecast.costs import UNKNOWN_COST_USD
from service.forecast.curves import KindCurves, Mixture, mixture
from service.forecast.difficulty import GRID, MAX_SHIFT, Array, chances, solve_rate
from service.forecast.evidence import log_minutes
from service.forecast.history import label_digest
from service.forecast.learned import Learned, LearnedAbility
from service.forecast.plan import MAX_STEPS, best_path
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

FORECASTS_KEPT = 256
PLANS_KEPT = 16
"""Of each forecast. Tasks for which nothing differs that a forecast rests on share it, and its plans: most do, where
minutes are round numbers and labels say nothing yet. A forecast holds some 10 KB."""


class KindReport(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate in one kind of work, as `GET /v1/catalog` shows it; the fields are those of AbilityReport."""

    prior_solve_rate: float | None
    prior_cost_usd: float | None
    prior_minutes: float | None
    learned_solve_rate: float
    learned_cost_usd: float
    learned_minutes: float | None
    n: int
    n_cost: int


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
    kinds: dict[str, KindReport] = {}


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

    def worth_usd(self, value_usd: float) -> float:
        """What going through it is expected to bring, where a solved task is worth `value_usd`."""
        return value_usd * self.p_solve - self.cost_usd


class Forecast:
    """Chances and costs of the candidates for one task, given the attempts so far. Immutable, and shared by tasks."""

    def __init__(
        self,
        candidates: tuple[Candidate, ...],
        posterior: Array,
        chance: Array,
        cost: Array,
        explanation: dict[str, Any],
        minutes: Array | None = None,
    ) -> None:
        """`posterior` is over the kinds that it may be × the grid, and so are the curves of the candidates."""
        self.candidates = candidates
        self.posterior = posterior
        self._explanation = explanation
        self._plan = lru_cache(PLANS_KEPT)(partial(_plan, candidates, posterior, chance, cost))
        self.p_solve: tuple[float, ...] = tuple((chance @ posterior).tolist())
        self.cost_usd: tuple[float, ...] = tuple((cost @ posterior).tolist())
        self.minutes: tuple[float, ...] | None = None if minutes is None else tuple((minutes @ posterior).tolist())

    def plan(self, value_usd: float, first: Candidate | None = None, max_steps: int = MAX_STEPS) -> Plan:
        """The best plan where a solved task is worth `value_usd`; `first`, one of the candidates, is its step one."""
        return self._plan(value_usd, None if first is None else self.candidates.index(first), max_steps)

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
        by_kind = self.posterior.reshape(-1, len(GRID))
        hopeless = float(by_kind[:, -2:].sum())
        solvable = by_kind[:, :-2].sum(axis=0) / (1 - hopeless)
        mean = float(solvable @ GRID[:-2])
        spread = float(np.sqrt(solvable @ (GRID[:-2] - mean) ** 2))
        shares = zip(self._explanation["kinds"], by_kind.sum(axis=1).tolist(), strict=True)
        return {
            **self._explanation,
            "kinds": {kind: round(share, 4) for kind, share in shares if kind is not None},
            "difficulty": {"mean": round(mean, 3), "sd": round(spread, 3), "unsolvable": round(hopeless, 4)},
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


def _completed(learned: LearnedAbility | None, published: LearnedAbility) -> LearnedAbility:
    """What was learned, and what is published where nothing was: of a candidate, or of a kind that is new."""
    if learned is None:
        return published
    return msgspec.structs.replace(
        learned, kinds={kind: learned.kinds.get(kind, known) for kind, known in published.kinds.items()}
    )


def _within(shift: float) -> float:
    return min(max(shift, -MAX_SHIFT), MAX_SHIFT)


class Forecaster:
    """Abilities, costs and offsets learned so far, ready to be asked. Immutable: safe to share between threads.

    A candidate that `learned` does not know (the catalog has changed since) stands at what the catalog says of it.
    """

    def __init__(self, catalog: Catalog, learned: Learned | None = None) -> None:
        nothing = learn(catalog, ())
        self.catalog = catalog
        self.learned = nothing if learned is None else learned
        if learned is not None:
            nothing = learn(catalog, (), shape=learned.shape(None))
        self._abilities: dict[Key, LearnedAbility] = {
            key: _completed(self.learned.abilities.get(key), known) for key, known in nothing.abilities.items()
        }
        self._row = {candidate.key: row for row, candidate in enumerate(catalog.candidates)}
        self._curves = KindCurves(catalog, self._abilities, self.learned)
        self._fail_stranger: Array = 1.0 / (1.0 + np.exp(NEUTRAL - GRID))
        self._tasks = _within(self.learned.tasks)
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
        kinds: Mapping[str, float] | None = None,
        leaning: Mapping[int, float] | None = None,
    ) -> Forecast:
        """Chances and costs of these candidates of the catalog, at least one, for a task that is of one of `kinds`, as
        likely as they say; those that the catalog does not have count for nothing.

        Each `failed` attempt multiplies the distribution of kind and difficulty by 1 − P(solved); one by a pair that
        the catalog does not have counts as one of a middling candidate. `rate_limited` and `error` never really ran,
        and `solved` is no reason to ask again: they say nothing. `leaning` says to which candidates, by their place in
        the catalog, the text leans (see classifiers/likeness.py): a weak advantage, which outcomes overrule.
        """
        known, read_as_kind = self.learned.labels, bool(self.catalog.kinds)
        offsets = [
            (key, offset)
            for key, value in (labels.items() if known else ())
            if (offset := known.get(label_digest(key, value), 0.0)) and not (read_as_kind and key == "kind")
        ]
        failed = (self._row.get((a.agent_type, a.model)) for a in attempts if a.result == "failed")
        rows = tuple([self._row[candidate.key] for candidate in candidates])
        of = mixture(kinds, self.catalog.kind_ids) if kinds else _NO_KIND
        leans = self._leans(rows, leaning) if leaning else None
        return self._made(rows, tuple(offsets), minutes, minutes_source, tuple(failed), of, leans)

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
        minutes: float | None,
        minutes_source: MinutesSource,
        failed: tuple[int | None, ...],
        of: Mixture,
        leans: tuple[float, ...] | None,
    ) -> Forecast:
        """`rows` number the candidates and those that failed; None is one that the catalog does not have."""
        weight = self.learned.minutes_weight if minutes_source == "classifier" else TEXT_WEIGHT
        by_minutes = 0.0 if minutes is None else weight * log_minutes(within(minutes)) + harder(minutes)
        shift = self.learned.tasks + sum(offset for _, offset in offsets) + by_minutes
        mean = _within(shift)
        curves = self._curves.curves(tuple([kind for kind, _ in of]))
        posterior = self._curves.prior(of, mean)
        for row in failed:
            posterior = posterior * (np.tile(self._fail_stranger, len(of)) if row is None else curves.fail[row])
            posterior /= posterior.sum()
        if rows != tuple(range(len(curves.chance))):
            curves = curves.of(rows)
        candidates = tuple(self.catalog.candidates[row] for row in rows)
        here = [self._abilities[candidate.key].of(of[0][0]) for candidate in candidates]
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
            "candidates": [{"theta": round(one.theta, 4), "n": one.n} for one in here],
        }
        chance = curves.chance
        if leans is not None:
            chance = self._leaning_chance([candidate.key for candidate in candidates], of, leans)
            explanation["candidates"] = [
                {**shown, "leaning": lean} for shown, lean in zip(explanation["candidates"], leans, strict=True)
            ]
        if larger != 1.0:
            curves = curves.larger(larger)
        return Forecast(candidates, posterior, chance, curves.cost_usd, explanation, curves.minutes)

    def _leaning_chance(self, keys: Sequence[Key], of: Mixture, leans: Sequence[float]) -> Array:
        offsets = np.array(leans)
        theta = [np.array([self._abilities[key].of(kind).theta for key in keys]) + offsets for kind, _ in of]
        return np.hstack([chances(one) for one in theta])

    def abilities(self) -> list[AbilityReport]:
        """Every candidate of the catalog, in its order, with what is known of it before and after outcomes."""
        rates = {kind: self._rates(kind) for kind in (None, *self.catalog.kind_ids)}
        reports: list[AbilityReport] = []
        for row, candidate in enumerate(self.catalog.candidates):
            known = self._abilities[candidate.key]
            reports.append(
                AbilityReport(
                    agent_type=candidate.agent_type,
                    model=candidate.model,
                    prior_solve_rate=candidate.solve_rate,
                    prior_cost_usd=candidate.cost_usd,
                    learned_solve_rate=rates[None][row],
                    learned_cost_usd=known.cost_usd,
                    theta=known.theta,
                    n=known.n,
                    n_cost=known.n_cost,
                    kinds={kind: self._report(candidate, kind, rates[kind][row]) for kind in self.catalog.kind_ids},
                )
            )
        return reports

    def _rates(self, kind: str | None) -> list[float]:
        theta = np.array([self._abilities[candidate.key].of(kind).theta for candidate in self.catalog.candidates])
        rates: list[float] = solve_rate(theta, self._tasks, self.learned.shape(kind)).tolist()
        return rates

    def _report(self, candidate: Candidate, kind: str, rate: float) -> KindReport:
        known, figures = self._abilities[candidate.key].of(kind), candidate.kinds.get(kind, Figures())
        return KindReport(
            prior_solve_rate=figures.solve_rate,
            prior_cost_usd=figures.cost_usd,
            prior_minutes=figures.minutes,
            learned_solve_rate=rate,
            learned_cost_usd=known.cost_usd,
            learned_minutes=known.minutes,
            n=known.n,
            n_cost=known.n_cost,
        )
