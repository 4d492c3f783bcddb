"""Efforts of one model: what is not known of one is taken from the others."""

from collections.abc import Sequence

import numpy as np

from service.contract.catalog import Candidate
from service.forecast.columns import Places
from service.forecast.difficulty import Array


def models(candidates: Sequence[Candidate]) -> Places:
    """Numbers the model of each candidate, of which several may be efforts."""
    number: dict[tuple[str, str], int] = {}
    return np.array([number.setdefault((one.agent_type, one.model), len(number)) for one in candidates], dtype=np.intp)


def of_siblings(values: Array, model: Places, otherwise: Array | float) -> Array:
    """For each candidate the mean of what is told (not NaN) of the others of its model, column by column; `otherwise`
    where that is nothing."""
    same: Array = (model[:, None] == model).astype(np.float64)
    np.fill_diagonal(same, 0.0)
    told: Array = (~np.isnan(values)).astype(np.float64)
    number: Array = same @ told
    total: Array = same @ np.where(told > 0, values, 0.0)
    return np.where(number > 0, total / np.maximum(number, 1.0), otherwise)
