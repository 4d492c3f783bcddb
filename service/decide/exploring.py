"""Trying what nobody tries: for a share of decisions, as far as an allowance goes, the choice is drawn."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from service.contract.catalog import Candidate
from service.forecast.forecaster import Forecaster


class Allowance:
    """So many dollars a day (UTC). What is not spent is not kept, and a restart begins anew."""

    def __init__(self, usd_per_day: float) -> None:
        self.usd_per_day = usd_per_day
        self._day: date | None = None
        self._spent = 0.0

    def left(self, now: datetime) -> float:
        """What may still be spent today."""
        if now.date() != self._day:
            self._day, self._spent = now.date(), 0.0
        return max(0.0, self.usd_per_day - self._spent)

    def spend(self, usd: float, now: datetime) -> bool:
        """Takes so much, or nothing where less is left."""
        if usd > self.left(now):
            return False
        self._spent += usd
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A choice that was drawn, and the chance that it had."""

    candidate: Candidate
    propensity: float


class Explorer:
    """Draws choices from what might be true as well, where their expected loss is within the allowance."""

    def __init__(self, usd_per_day: float, *, chance: random.Random | None = None) -> None:
        self.allowance = Allowance(usd_per_day)
        self._chance = chance or random.Random()  # noqa: S311 - a draw among candidates, no secret

    def draw(
        self,
        worlds: Sequence[Forecaster],
        first_in: Callable[[Forecaster], Candidate],
        loss_usd: Callable[[Candidate], float],
        now: datetime,
    ) -> Drawn | None:
        """One of the first choices in these worlds, each as likely as it is first in them; None where all agree, or
        where the loss that is expected of this is more than what is left.

        `loss_usd` is by how much a candidate is worse than the best as first choice, by what is known.
        """
        if not worlds or self.allowance.left(now) <= 0:
            return None
        firsts = Counter(first_in(world) for world in worlds)
        if len(firsts) == 1:
            return None
        number = len(worlds)
        loss = sum(times / number * max(0.0, loss_usd(one)) for one, times in firsts.items())
        if not self.allowance.spend(loss, now):
            return None
        chosen = self._chance.choices(list(firsts), weights=list(firsts.values()))[0]
        return Drawn(candidate=chosen, propensity=firsts[chosen] / number)
