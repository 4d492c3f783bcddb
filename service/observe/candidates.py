"""The catalog with its forecast numbers, as `GET /v1/catalog` and `pointsman catalog --json` give it."""

from math import sqrt
from typing import Any

import numpy as np

from service.base.shares import Z95
from service.contract.task import key_of
from service.forecast.difficulty import solve_rate
from service.forecast.forecaster import Forecaster
from service.knowledge.knowledge import Knowledge


def catalog_document(knowledge: Knowledge) -> dict[str, Any]:
    """Every agent and model, and the kinds of work, in the order of the catalog."""
    agents: dict[str, dict[str, Any]] = {}
    for candidate, forecast in zip(knowledge.catalog.candidates, knowledge.forecaster.abilities(), strict=True):
        agent = agents.setdefault(
            candidate.agent_type,
            {
                "agent_type": candidate.agent_type,
                "description": candidate.agent_description,
                "local": candidate.local,
                "quota_pool": candidate.quota_pool,
                "models": [],
            },
        )
        agent["models"].append(
            {
                "model": candidate.model,
                "effort": candidate.effort,
                "description": candidate.description,
                "context_tokens": candidate.context_tokens,
                "inputs": candidate.inputs,
                "forecast": forecast,
            }
        )
    return {"agents": list(agents.values()), "kinds": knowledge.catalog.kinds, "versions": knowledge.versions}


def intervals(forecaster: Forecaster) -> list[tuple[float, float]]:
    """Of each candidate of the catalog, in its order: between which shares of tasks its strength lies at 95 %, by the
    spread of its ability alone."""
    learned = forecaster.learned
    place = {key: number for number, key in enumerate(learned.abilities)}
    found: list[tuple[float, float]] = []
    for report in forecaster.abilities():
        number = place.get(key_of(report.agent_type, report.model, report.effort))
        known = number is not None and number < len(learned.covariance)
        spread = Z95 * sqrt(max(0.0, learned.covariance[number][number])) if known and number is not None else 3.0
        theta = np.array([report.theta - spread, report.theta + spread])
        low, high = solve_rate(theta, learned.tasks, learned.shape(None)).tolist()
        found.append((low, high))
    return found
