"""What one half of the recorded tasks says of the other, to be told as catalog figures or to be learned."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from service.contract.catalog import Candidate, Catalog
from service.contract.kind import Figures, Kind
from service.forecast.history import OutcomeRow

LEARNED_TASKS = (10, 20, 40)
"""Tasks of each kind that are learned from."""

Row = dict[str, Any]


def halved(rows: Sequence[Row], kinds: Sequence[str], seed: int) -> tuple[list[Row], list[Row]]:
    """Two halves of each kind."""
    draw = np.random.default_rng(seed)
    parts: tuple[list[Row], list[Row]] = ([], [])
    for kind in kinds:
        own = [row for row in rows if row["labels"]["kind"] == kind]
        order: list[int] = draw.permutation(len(own)).tolist()
        for place, i in enumerate(order):
            parts[place % 2].append(own[i])
    return parts


def catalog(rows: Sequence[Row], pairs: Sequence[str], kinds: Sequence[str], *, each: bool) -> Catalog:
    """What these tasks say of the pairs: over all of them, and for each kind where asked."""
    candidates: list[Candidate] = []
    for pair in pairs:
        by_kind = {
            kind: Figures(solve_rate=_rate(own), cost_usd=float(np.mean([o["cost_usd"] for o in own])))
            for kind in kinds
            if (
                own := [
                    row["outcomes"][pair] for row in rows if row["labels"]["kind"] == kind and pair in row["outcomes"]
                ]
            )
        }
        everything = [row["outcomes"][pair] for row in rows if pair in row["outcomes"]]
        agent, _, model = pair.partition("/")
        candidates.append(
            Candidate(
                agent_type=agent,
                model=model,
                solve_rate=_rate(everything),
                cost_usd=float(np.mean([one["cost_usd"] for one in everything])),
                kinds=by_kind if each else {},
            )
        )
    return Catalog(candidates, kinds=[Kind(id=kind) for kind in kinds])


def _rate(own: Sequence[Row]) -> float:
    """Shrunk as if one more had been solved in half: eight tasks of a kind are few."""
    return float((sum(one["solved"] for one in own) + 0.5) / (len(own) + 1))


def sample(rows: Sequence[Row], kinds: Sequence[str], number: int, seed: int) -> list[Row]:
    """At most so many tasks of each kind."""
    draw = np.random.default_rng(seed)
    found: list[Row] = []
    for kind in kinds:
        own = [row for row in rows if row["labels"]["kind"] == kind]
        found += [own[i] for i in draw.permutation(len(own))[:number].tolist()]
    return found


def outcomes(rows: Iterable[Row], pairs: Sequence[str]) -> list[OutcomeRow]:
    """Every pair's outcome on these tasks."""
    return [
        OutcomeRow(
            agent_type=pair.partition("/")[0],
            model=pair.partition("/")[2],
            solved=row["outcomes"][pair]["solved"],
            cost_usd=row["outcomes"][pair]["cost_usd"],
            kind=row["labels"]["kind"],
            task=row["id"],
        )
        for row in rows
        for pair in pairs
        if pair in row["outcomes"]
    ]
