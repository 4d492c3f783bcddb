"""What might be true as well: forecasters drawn from what is known, for trying what nobody tries (Thompson 1933)."""

import msgspec
import numpy as np

from service.contract.catalog import Catalog
from service.forecast.forecaster import Forecaster
from service.forecast.learned import Learned, LearnedAbility

DRAWS = 16
"""So many worlds stand for all: the chance of a choice is the share of them in which it comes first."""

FORECASTS_KEPT = 256
"""Of each world; there are many."""

_FURTHEST = 4.0
"""Logits: a candidate of which next to nothing is known is not taken to be better than that against all odds."""


def drawn_forecasters(catalog: Catalog, learned: Learned, number: int = DRAWS) -> tuple[Forecaster, ...]:
    """Forecasters whose abilities are drawn from the posterior (a normal around what was learned); the same ones for
    the same knowledge, in every replica."""
    rng = np.random.default_rng(int(learned.version, 16))
    covariance = np.array(learned.covariance)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    found: list[Forecaster] = []
    for _ in range(number):
        off = np.clip(root @ rng.standard_normal(len(root)), -_FURTHEST, _FURTHEST)
        abilities = {
            key: _moved(known, float(by)) for (key, known), by in zip(learned.abilities.items(), off[:-1], strict=True)
        }
        drawn = msgspec.structs.replace(learned, abilities=abilities, tasks=learned.tasks + float(off[-1]))
        found.append(Forecaster(catalog, drawn, kept=FORECASTS_KEPT))
    return tuple(found)


def _moved(known: LearnedAbility, by: float) -> LearnedAbility:
    """Better or worse in every kind alike."""
    kinds = {kind: msgspec.structs.replace(one, theta=one.theta + by) for kind, one in known.kinds.items()}
    return msgspec.structs.replace(known, theta=known.theta + by, kinds=kinds)
