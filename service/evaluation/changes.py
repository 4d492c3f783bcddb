"""What a replay of the log comes to."""

import msgspec

from service.contract.decision import Decision
from service.evaluation.logged import Again


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate."""

    agent_type: str
    model: str
    effort: str | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """`n` requests that would go to another candidate first; `to` is null where nothing could take them any more.

    `gain_usd` is the sum of what the change is expected to be worth, by the new reckoning, over `compared` of them: the
    others' old choice is not on offer any more.
    """

    before: Named = msgspec.field(name="from")
    to: Named | None
    n: int
    compared: int
    gain_usd: float


class Plans(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the requests that were decided both times."""

    p_solve: float
    cost_usd: float


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """`not_kept` decisions are of a version that did not log the whole request."""

    replayed: int
    not_kept: int
    changed: int
    refused: int
    gain_usd: float
    plans_before: Plans | None
    plans_after: Plans | None
    changes: list[Change]


class Changes:
    """Adds one replayed request after the other; memory grows with the pairs of candidates and not with the log."""

    def __init__(self) -> None:
        self._not_kept = self._replayed = self._refused = 0
        self._pairs: dict[tuple[Named, Named | None], list[float]] = {}
        self._sums = [0.0, 0.0, 0.0, 0.0]

    def add(self, again: Again | None) -> None:
        """None: what was asked is not in the log."""
        if again is None:
            self._not_kept += 1
            return
        self._replayed += 1
        before, after = again.before, again.after
        if after is None:
            self._refused += 1
        else:
            told = (before.plan_p_solve, before.plan_cost_usd, after.plan_p_solve, after.plan_cost_usd)
            self._sums = [sum_ + value for sum_, value in zip(self._sums, told, strict=True)]
        if again.changed:
            pair = (_named(before), None if after is None else _named(after))
            n, compared, gain = self._pairs.get(pair, (0, 0, 0.0))
            known = again.gain_usd is not None
            self._pairs[pair] = [n + 1, compared + known, gain + (again.gain_usd or 0.0)]

    def document(self) -> Replay:
        """The commonest change first."""
        changes = [
            Change(before=before, to=to, n=int(n), compared=int(compared), gain_usd=round(gain, 6))
            for (before, to), (n, compared, gain) in self._pairs.items()
        ]
        both = self._replayed - self._refused
        p_before, cost_before, p_after, cost_after = (value / both if both else 0.0 for value in self._sums)
        return Replay(
            replayed=self._replayed,
            not_kept=self._not_kept,
            changed=sum(one.n for one in changes),
            refused=self._refused,
            gain_usd=round(sum(one.gain_usd for one in changes), 6),
            plans_before=Plans(p_solve=p_before, cost_usd=cost_before) if both else None,
            plans_after=Plans(p_solve=p_after, cost_usd=cost_after) if both else None,
            changes=sorted(changes, key=lambda one: (-one.n, one.before.model)),
        )


def _named(decision: Decision) -> Named:
    return Named(agent_type=decision.agent_type, model=decision.model, effort=decision.effort)
