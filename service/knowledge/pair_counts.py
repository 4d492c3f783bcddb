"""How many outcomes are on record of each pair: by it one sees those that no catalog has, a misspelt name for one."""

from collections import Counter
from collections.abc import Container, Iterable

import msgspec

from service.contract.task import Key

MOST = 1000
"""Pairs that are counted one by one; names are the callers', and there is no end of them."""

LISTED = 100


class PairCount(msgspec.Struct, frozen=True, kw_only=True):
    """The `model` of a pair with an effort is `model@effort`."""

    agent_type: str
    model: str
    outcomes: int


class UnknownPairs(msgspec.Struct, frozen=True, kw_only=True):
    """How many outcomes are of pairs that the catalog does not have, and of which, the most frequent first."""

    outcomes: int
    pairs: list[PairCount]


class PairCounts:
    """Of those that are not withdrawn. Where more than `MOST` pairs come the rarest are counted together."""

    def __init__(self, rows: Iterable[PairCount] = (), *, others: int = 0) -> None:
        self._counts = Counter({(row.agent_type, row.model): row.outcomes for row in rows})
        self.others = others
        """Outcomes of pairs that are not counted one by one."""

    def take(self, pair: Key, known: Container[Key], *, back: bool = False) -> None:
        """One more of this pair or, taken `back`, one less. Those `known` are always counted one by one."""
        if back and pair not in self._counts:
            self.others = max(0, self.others - 1)
            return
        self._counts[pair] += -1 if back else 1
        if self._counts[pair] <= 0:
            del self._counts[pair]
        if len(self._counts) > 2 * MOST:
            self._forget(known)

    def unknown(self, known: Container[Key]) -> UnknownPairs:
        """Those that are not among the `known`."""
        rows = [row for row in self.rows() if (row.agent_type, row.model) not in known]
        total = sum(row.outcomes for row in rows) + self.others
        return UnknownPairs(outcomes=total, pairs=rows[:LISTED])

    def rows(self) -> list[PairCount]:
        """The most frequent first."""
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [PairCount(agent_type=agent, model=model, outcomes=n) for (agent, model), n in ordered]

    def _forget(self, known: Container[Key]) -> None:
        strange = [pair for pair, _ in self._counts.most_common() if pair not in known]
        for pair in strange[MOST:]:
            self.others += self._counts.pop(pair)
