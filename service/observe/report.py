"""What an operator reads: the state of the running parts, and the catalog with its forecast numbers."""

from dataclasses import dataclass
from typing import Any

from service.decide.pipeline import Pipeline
from service.executions.executions import Executions
from service.knowledge.knowledge import Knowledge
from service.knowledge.learner import Learner
from service.knowledge.reload import Reloader
from service.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The running parts that are looked at."""

    pipeline: Pipeline
    learner: Learner
    reloader: Reloader
    store: Store
    executions: Executions | None


def status_document(parts: Parts, *, ready: bool) -> dict[str, Any]:
    """What `GET /v1/status` answers."""
    classifiers, executions = parts.pipeline.classifiers, parts.executions
    return {
        "ready": ready,
        "answering_with": parts.pipeline.answering_with(),
        "classifiers": [
            {
                "source": stage.classifier.source,
                "name": stage.classifier.name,
                "healthy": stage.breaker.state == "closed",
                "breaker": {
                    "state": stage.breaker.state,
                    "rests_for_seconds": round(stage.breaker.rests_for(), 3),
                    "why": stage.breaker.why or None,
                },
            }
            for stage in classifiers.ladder.stages
        ],
        "queue_depth": classifiers.waiting,
        "max_in_flight": classifiers.max_in_flight,
        "executions": None if executions is None else {"running": executions.running, "queued": executions.queued},
        "store": parts.store.status,
        "learning": parts.learner.report(),
        "reload": parts.reloader.status,
        "versions": parts.pipeline.knowledge.versions,
    }


def catalog_document(knowledge: Knowledge) -> dict[str, Any]:
    """Every agent and model with its forecast numbers now: what `GET /v1/catalog` answers."""
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
                "description": candidate.description,
                "context_tokens": candidate.context_tokens,
                "inputs": candidate.inputs,
                "forecast": forecast,
            }
        )
    return {"agents": list(agents.values()), "versions": knowledge.versions}
