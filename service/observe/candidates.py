"""The catalog with its forecast numbers, as `GET /v1/catalog` and `pointsman catalog --json` give it."""

from typing import Any

from service.knowledge.knowledge import Knowledge


def catalog_document(knowledge: Knowledge) -> dict[str, Any]:
    """Every agent and model, in the order of the catalog."""
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
    return {"agents": list(agents.values()), "versions": knowledge.versions}
