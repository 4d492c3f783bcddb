"""The catalog with its forecast numbers, as `GET /v1/catalog` and `pointsman catalog --json` give it."""

from typing import Any

from service.decide.pipeline import Knowledge


def catalog_document(knowledge: Knowledge) -> dict[str, Any]:
    """Every agent and model with its forecast numbers now."""
    learned = {(report.agent_type, report.model): report for report in knowledge.forecaster.abilities()}
    agents: list[dict[str, Any]] = []
    for agent_type in knowledge.catalog.agent_types:
        members = [c for c in knowledge.catalog.candidates if c.agent_type == agent_type]
        first = members[0]
        agents.append(
            {
                "agent_type": agent_type,
                "description": first.agent_description,
                "local": first.local,
                "quota_pool": first.quota_pool,
                "models": [
                    {
                        "model": c.model,
                        "description": c.description,
                        "context_tokens": c.context_tokens,
                        "inputs": c.inputs,
                        "forecast": learned[c.key],
                    }
                    for c in members
                ],
            }
        )
    return {"agents": agents, "versions": knowledge.versions}
