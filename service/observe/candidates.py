"""The catalog with its forecast numbers, as `GET /v1/catalog` and `pointsman catalog --json` give it."""

from typing import Any

import msgspec

from service.base.shares import Z95
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


class Interval(msgspec.Struct, frozen=True):
    """Between which shares of tasks a strength lies at 95 %."""

    low: float
    high: float


def intervals(forecaster: Forecaster) -> list[dict[str | None, Interval]]:
    """Of each candidate of the catalog, in its order: in each kind, and under None over all tasks. Left out where an
    older release learned it.

    By how well abilities, and how hard this service's tasks are, are known; how difficulty is spread is taken as it is.
    """
    found: list[dict[str | None, Interval]] = []
    for candidate in forecaster.catalog.candidates:
        own: dict[str | None, Interval] = {}
        for kind in (None, *forecaster.catalog.kind_ids):
            low = forecaster.strength(candidate, kind, off=-Z95)
            high = forecaster.strength(candidate, kind, off=Z95)
            if low is not None and high is not None:
                own[kind] = Interval(low, high)
        found.append(own)
    return found
