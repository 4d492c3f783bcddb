"""Small real parts for tests: candidates, catalogs, tasks, knowledge, a clock that is set by hand."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from service.classifiers.breaker import Breaker
from service.classifiers.classifier import Brief, Classifier
from service.classifiers.ladder import Ladder, Stage
from service.classifiers.prompt import Prompts
from service.classifiers.reading import Reader
from service.contract.catalog import Candidate, Catalog
from service.contract.decision import Decision, LoggedDecision
from service.contract.settings import DecisionSettings
from service.contract.task import Task
from service.decide.pipeline import Pipeline
from service.decide.shared_classifiers import SharedClassifiers
from service.forecast.forecaster import Forecaster
from service.knowledge.knowledge import InUse, Knowledge

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class HandClock:
    """A monotonic clock that stands still until a test moves it."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        """The time in seconds."""
        return self.seconds

    def move(self, seconds: float) -> None:
        """Moves it on."""
        self.seconds += seconds


def candidate(agent_type: str, model: str, **more: Any) -> Candidate:  # noqa: ANN401 - the fields of Candidate
    """A candidate with a middling solve rate and cost, unless `more` says otherwise."""
    fields: dict[str, Any] = {"solve_rate": 0.5, "cost_usd": 0.2, **more}
    return Candidate(agent_type=agent_type, model=model, **fields)


def small_catalog() -> Catalog:
    """Three agents, five models; `alpha` and `beta` share a quota pool, `home` is local."""
    return Catalog(
        [
            candidate("alpha", "big", solve_rate=0.75, cost_usd=0.8, context_tokens=200_000, quota_pool="shared"),
            candidate("alpha", "small", solve_rate=0.4, cost_usd=0.05, context_tokens=200_000, quota_pool="shared"),
            candidate(
                "beta",
                "wide",
                solve_rate=0.6,
                cost_usd=0.3,
                context_tokens=1_000_000,
                inputs=("text", "image", "pdf"),
                quota_pool="shared",
            ),
            candidate("gamma", "mid", solve_rate=0.6, cost_usd=0.25, context_tokens=100_000),
            candidate("home", "tiny", solve_rate=0.1, cost_usd=0.0, local=True),
        ]
    )


def task(**fields: Any) -> Task:  # noqa: ANN401 - the fields of a request
    """A task from the fields of its JSON, decoded as the service decodes it."""
    return msgspec.json.decode(msgspec.json.encode({"instructions": "Fix the failing test.", **fields}), type=Task)


def failed(agent_type: str, model: str, result: str = "failed") -> dict[str, str]:
    """One earlier attempt."""
    return {"agent_type": agent_type, "model": model, "result": result}


def knowledge(catalog: Catalog | None = None) -> Knowledge:
    """What decisions are made from, with the prompts that ship."""
    catalog = catalog or small_catalog()
    return Knowledge(
        catalog=catalog, prompts=Prompts(None, catalog), forecaster=Forecaster(catalog), reader=Reader.of(catalog)
    )


def brief(request: Task | None = None, catalog: Catalog | None = None, eligible: Sequence[Candidate] = ()) -> Brief:
    """A task to be classified, everything eligible unless said."""
    known = knowledge(catalog)
    return Brief(
        task=request or task(),
        eligible=tuple(eligible) or known.catalog.candidates,
        catalog=known.catalog,
        prompts=known.prompts,
        value_usd=2.0,
    )


def pipeline(
    *classifiers: Classifier,
    known: Knowledge | None = None,
    settings: DecisionSettings | None = None,
    max_in_flight: int = 16,
    clock: Callable[[], float] | None = None,
    observer: Callable[[LoggedDecision], object] | None = None,
) -> Pipeline:
    """A pipeline over these classifiers, with the event loop's clock unless one is given."""
    ticks = clock or asyncio.get_running_loop().time
    given = known or knowledge()
    used = given if settings is None else replace(given, decision=settings)
    return Pipeline(
        InUse(used),
        SharedClassifiers(
            Ladder([Stage(classifier, Breaker(ticks)) for classifier in classifiers], clock=ticks),
            max_in_flight=max_in_flight,
            cache_seconds=lambda: used.decision.cache_seconds,
            clock=ticks,
        ),
        observers=[observer] if observer else [],
        clock=ticks,
        now=lambda: NOW,
    )


def chosen(decision: Decision) -> str:
    """As agent/model."""
    return f"{decision.agent_type}/{decision.model}"
