"""What is at stake in one task: what a solution is worth, and what time, wrong work and too dear an attempt cost."""

import msgspec

from service.contract.verifier import PERFECT, Verifier
from service.forecast.difficulty import Array


class Stakes(msgspec.Struct, frozen=True, kw_only=True):
    """Money in US dollars; `max_cost_usd` is the most that any one attempt may be expected to cost when it is made.

    A check that errs changes what an attempt is worth and what its rejection tells:

        worth = value × P(right and accepted) − harm × P(wrong and accepted) − cost − price of an hour × hours
        P(rejected) = (1 − p)(1 − false_accept) + p × false_reject
    """

    value_usd: float
    delay_usd_per_hour: float = 0.0
    verifier: Verifier = PERFECT
    max_cost_usd: float | None = None

    @property
    def gain_usd(self) -> float:
        """How much more an attempt is worth that solves the task than one that does not."""
        check = self.verifier
        return self.value_usd * (1 - check.false_reject) + check.harm_usd * check.false_accept

    def expense(self, cost: Array, minutes: Array | None) -> Array:
        """What an attempt takes whether it solves the task or not, of the same shape as `cost`."""
        expense = cost
        if minutes is not None and self.delay_usd_per_hour:
            expense = expense + self.delay_usd_per_hour / 60 * minutes
        harm = self.verifier.harm_usd * self.verifier.false_accept
        return expense + harm if harm else expense

    def rejection(self, chance: Array) -> Array:
        """The chance that an attempt is not accepted, by its chance of solving the task."""
        return (1 - self.verifier.false_accept) - self.verifier.tells * chance
