"""What each candidate's chances and costs are for one task, and the plan from them."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import msgspec
import numpy as np

from service.base.remembered import Remembered
from service.contract.catalog import Candidate
from service.contract.decision import Step
from service.contract.task import Key
from service.contract.verifier import PERFECT, Verifier
from service.forecast.difficulty import GRID, Array
from service.forecast.options import Options
from service.forecast.plan import MAX_STEPS, best_path
from service.forecast.stakes import Stakes

COST_DIGITS = 9
"""Of an answer's dollars: a cost that equals a limit shall not exceed it by the last bit of a sum."""

SWAYED_KEPT = 64
"""Of all forecasts: a classifier says something else of nearly every task, but each is asked for three times by its
decision. Each takes 50 KB."""

PLANS_KEPT = 16
"""Of each forecast: tasks for which nothing differs that a forecast rests on share it, and its plans."""

Prices = tuple[float, ...]
"""For each candidate the share of its list price that an attempt takes."""

_Asked = tuple[Stakes, int | None, Prices | None, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps, at least one; chance that right work is accepted, and that wrong work is; what going through them is
    expected to cost, to take (None where that is not known), and to be worth in all.

    `worthwhile` is false where every candidate's next attempt costs more than it is worth: then the step is the least
    loss.
    """

    steps: tuple[Step, ...]
    p_solve: float
    p_wrong: float
    cost_usd: float
    minutes: float | None
    worth_usd: float
    worthwhile: bool


class Forecast:
    """Chances and costs of the candidates for one task, given the attempts so far. Immutable, and shared by tasks."""

    def __init__(
        self,
        candidates: tuple[Candidate, ...],
        posterior: Array,
        options: Options,
        explanation: dict[str, Any],
        *,
        verifier: Verifier = PERFECT,
    ) -> None:
        """`posterior` is over the kinds that it may be × the grid, and so are the curves of the candidates. `verifier`
        is what rejected the attempts so far, and will judge those to come."""
        self.candidates = candidates
        self.posterior = posterior
        self.verifier = verifier
        self._options = options
        self._explanation = explanation
        self._plans: Remembered[_Asked, Plan] = Remembered(PLANS_KEPT)
        self.p_solve: tuple[float, ...] = tuple((options.chance_now(verifier) @ posterior).tolist())
        self.cost_usd: tuple[float, ...] = tuple((options.cost @ posterior).tolist())
        minutes = options.minutes
        self.minutes: tuple[float, ...] | None = None if minutes is None else tuple((minutes @ posterior).tolist())

    def plan(
        self,
        stakes: Stakes,
        first: Candidate | None = None,
        *,
        prices: Prices | None = None,
        max_steps: int = MAX_STEPS,
    ) -> Plan:
        """The best plan by `stakes`, whose verifier is the forecast's; `first`, one of the candidates, is its step one.

        `prices` says what share of its list price each candidate's attempt takes; None: all of it. The best plan is the
        same whether or not its first step is given.
        """
        place = None if first is None else self.candidates.index(first)
        return self._plans.get((stakes, place, prices, max_steps), self._make_plan)

    def swayed(self, logits: tuple[float, ...]) -> "Forecast":
        """The same with each candidate's chance moved by so many logits at every difficulty; itself where none is."""
        return _swayed(self, logits) if any(logits) else self

    def sway(self, logits: tuple[float, ...]) -> "Forecast":
        """The same as `swayed`, made anew."""
        odds, before = np.exp(np.array(logits))[:, None], self._options.chance
        by_candidate = [
            {**one, "swayed": round(logit, 2)}
            for one, logit in zip(self._explanation["candidates"], logits, strict=True)
        ]
        return Forecast(
            self.candidates,
            self.posterior,
            self._options.with_chance(before * odds / (1 - before + before * odds)),
            {**self._explanation, "candidates": by_candidate},
            verifier=self.verifier,
        )

    def costs_at(self, prices: Prices | None) -> tuple[float, ...]:
        """What an attempt of each candidate takes now, in US dollars."""
        if prices is None:
            return self.cost_usd
        return tuple(cost * price for cost, price in zip(self.cost_usd, prices, strict=True))

    @cached_property
    def places(self) -> dict[Key, int]:
        """Where each candidate stands, by its key."""
        return {candidate.key: place for place, candidate in enumerate(self.candidates)}

    def explain(self) -> dict[str, Any]:
        """What the forecast rests on, ready for JSON: abilities, difficulty, minutes and offsets used."""
        found: dict[str, Any] = msgspec.json.decode(self.explained)
        return found

    @cached_property
    def explained(self) -> msgspec.Raw:
        """The same as JSON, written once."""
        by_kind = self.posterior.reshape(-1, len(GRID))
        hopeless = float(by_kind[:, -2:].sum())
        solvable = by_kind[:, :-2].sum(axis=0) / (1 - hopeless)
        mean = float(solvable @ GRID[:-2])
        spread = float(np.sqrt(solvable @ (GRID[:-2] - mean) ** 2))
        shares = zip(self._explanation["kinds"], by_kind.sum(axis=1).tolist(), strict=True)
        found = {
            **self._explanation,
            "kinds": {kind: round(share, 4) for kind, share in shares if kind is not None and share > 0},
            "difficulty": {"mean": round(mean, 3), "sd": round(spread, 3), "unsolvable": round(hopeless, 4)},
            "candidates": [
                {**shown, "p_solve": round(p_solve, 4), "cost_usd": round(cost_usd, 6)}
                for shown, p_solve, cost_usd in zip(
                    self._explanation["candidates"], self.p_solve, self.cost_usd, strict=True
                )
            ],
        }
        return msgspec.Raw(msgspec.json.encode(found))

    def _make_plan(self, asked: _Asked) -> Plan:
        stakes, first, prices, max_steps = asked
        if first is not None:
            best = self._plans.get((stakes, None, prices, max_steps), self._make_plan)
            if best.steps[0].key == self.candidates[first].key:
                return best
        options = self._options if prices is None else self._options.priced(prices)
        path = best_path(self.posterior, options, stakes, first=first, max_steps=max_steps)
        taken = path.minutes or (None,) * len(path.order)
        steps = tuple(
            self._step(c, p, cost, minutes, 1.0 if prices is None else prices[c])
            for c, p, cost, minutes in zip(path.order, path.p_solve, path.list_cost_usd, taken, strict=True)
        )
        return Plan(
            steps=steps,
            p_solve=path.total_p_solve,
            p_wrong=path.total_p_wrong,
            cost_usd=path.total_cost_usd,
            minutes=path.total_minutes,
            worth_usd=path.worth_usd,
            worthwhile=path.worthwhile,
        )

    def _step(self, number: int, p_solve: float, list_cost_usd: float, minutes: float | None, price: float) -> Step:
        candidate = self.candidates[number]
        return Step(
            agent_type=candidate.agent_type,
            model=candidate.model,
            effort=candidate.effort,
            p_solve=p_solve,
            cost_usd=round(list_cost_usd * price, COST_DIGITS),
            list_cost_usd=round(list_cost_usd, COST_DIGITS),
            minutes=None if minutes is None else round(minutes, 3),
        )


@lru_cache(SWAYED_KEPT)
def _swayed(forecast: Forecast, logits: tuple[float, ...]) -> Forecast:
    return forecast.sway(logits)
