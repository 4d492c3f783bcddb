"""What `GET /v1/status` answers: the state of the running parts."""

from dataclasses import dataclass
from typing import Any

from service.classifiers.classifier import Classifier
from service.classifiers.local_model import LocalModelClassifier
from service.decide.pipeline import Pipeline
from service.executions.executions import Executions
from service.knowledge.kind_learner import KindLearner
from service.knowledge.learner import Learner
from service.knowledge.reload import Reloader
from service.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The running parts that are looked at."""

    pipeline: Pipeline
    learner: Learner
    kinds: KindLearner
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
                "local": stage.classifier.local,
                "quickest_seconds": None if stage.pace.quickest is None else round(stage.pace.quickest, 3),
                **_protocol(stage.classifier),
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
        "learning": parts.learner.report,
        "kind_words": parts.kinds.report,
        "unknown_pairs": parts.learner.unknown_pairs(),
        "reload": parts.reloader.status,
        "versions": parts.pipeline.knowledge.versions,
    }


def _protocol(classifier: Classifier) -> dict[str, str]:
    """How the local model is asked now."""
    return {"protocol": classifier.protocol} if isinstance(classifier, LocalModelClassifier) else {}
