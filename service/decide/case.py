"""One task under decision: what was asked for, and who may take it."""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from service.base.text import one_line
from service.classifiers.classifier import Brief
from service.classifiers.reading import Reading
from service.classifiers.size_text import TINY
from service.contract.catalog import Candidate, without_local
from service.contract.decision import Excluded, Failure, KindTold, Source
from service.contract.errors import NoEligibleCandidateError
from service.contract.task import Task
from service.decide.budget import expected_cost, too_dear, unread
from service.decide.eligibility import Eligibility, Obstacle, refusal, screen
from service.decide.kind import told_kind
from service.forecast.forecaster import Forecast, Forecaster
from service.knowledge.knowledge import Knowledge


@dataclass(slots=True, kw_only=True)
class Case:
    """`noted` is what was wrong with the request and changed it; `kind` the kind that the caller told, and `requested`
    the pair that the caller fixed."""

    task: Task
    knowledge: Knowledge
    noted: list[Failure]
    kind: str | None
    requested: Candidate | None
    eligibility: Eligibility

    @property
    def value_usd(self) -> float:
        """What solving it is worth in US dollars."""
        own = self.task.value_usd
        return self.knowledge.decision.value_usd(self.task.objective) if own is None else own

    def short_cut(self) -> Source | None:
        """Why nothing is left to be chosen; None where something is."""
        if self.requested is not None:
            return "requested"
        return "only_candidate" if len(self.eligibility.eligible) == 1 else None

    def set_local_agent_aside(self, problem: str) -> None:
        """The agent that this service runs itself goes with its endpoint: while that one fails, so does the agent.

        `problem` is the short word for how the endpoint fails. Nothing changes where it is empty, where nothing else
        is eligible, and where the caller fixed that agent.
        """
        if not problem:
            return
        eligible = self.eligibility.eligible
        others = without_local(eligible)
        if len(others) == len(eligible) or (self.requested is not None and self.requested not in others):
            return
        obstacle = Obstacle(f"its endpoint does not serve now ({problem})", passing=True)
        down = tuple((candidate, (obstacle,)) for candidate in eligible if candidate not in others)
        self.eligibility = Eligibility(others, (*self.eligibility.obstacles, *down))

    def forecast(
        self, reading: Reading, kind: KindTold | None, minutes: float | None, world: Forecaster | None = None
    ) -> Forecast:
        """By a classifier's `minutes`, or by the text's where there are none; by what is known, or in another `world`.

        Where that would lift an eligible pair over the limit, it goes without the text: a hard limit is checked by what
        is known before that is read, and no guess from the text may break it or bend it.
        """
        task, forecaster, eligible = self.task, world or self.knowledge.forecaster, self.eligibility.eligible
        forecast = forecaster.forecast(
            eligible,
            labels=task.labels,
            minutes=reading.size.minutes if minutes is None else minutes,
            minutes_source="text" if minutes is None else "classifier",
            attempts=task.attempts,
            kinds=_shares(kind, reading, minutes) if kind else None,
            leaning=reading.leaning,
        )
        limit = task.require.max_cost_usd
        if limit is None or not any(too_dear(cost, limit) for cost in forecast.cost_usd):
            return forecast
        return unread(task, self.kind, eligible, forecaster)

    def brief(self) -> Brief:
        """What a classifier is given."""
        return Brief(
            task=self.task,
            eligible=self.eligibility.eligible,
            catalog=self.knowledge.catalog,
            prompts=self.knowledge.prompts,
            value_usd=self.value_usd,
        )


def _shares(kind: KindTold, reading: Reading, minutes: float | None) -> dict[str, float]:
    """How far each kind's figures count: what is published of a kind was measured on whole tasks of it, and says little
    of one that the text shows to be tiny. That share counts as work of no known kind."""
    if kind.source != "text" or minutes is not None:
        return kind.probabilities
    whole = 1.0 - reading.size.features.get(TINY, 0.0)
    return {one: whole * share for one, share in kind.probabilities.items()}


def open_case(task: Task, knowledge: Knowledge, now: datetime) -> Case:
    """Applies the rules. Raises NoEligibleCandidateError or NoCandidateAvailableError where nothing can take it.

    An agent type that nobody registered is noted, and every agent competes.
    """
    catalog = knowledge.catalog
    noted: list[Failure] = []
    if task.agent_type is not None and task.agent_type not in catalog.agent_types:
        known = ", ".join(catalog.agent_types)
        detail = f"agent type {task.agent_type!r} is not in the catalog ({known}); every agent competes"
        noted = [Failure(source="request", problem="unknown-agent-type", detail=one_line(detail, 500))]
        task = msgspec.structs.replace(task, agent_type=None, model=None)
    kind, unknown = told_kind(task, catalog.kind_ids)
    noted += unknown
    cost_usd = expected_cost(task, kind, catalog, knowledge.forecaster)
    eligibility = screen(catalog, task, now=now, cost_usd=cost_usd)
    requested = None
    if task.agent_type is not None and task.model is not None:
        requested = catalog.by_key.get((task.agent_type, task.model))
        if requested is None:
            raise _no_such_model(task.agent_type, task.model, knowledge, eligibility)
    if not eligibility.eligible or (requested is not None and requested not in eligibility.eligible):
        raise refusal(eligibility, now=now, requested=requested, failures=noted)
    return Case(task=task, knowledge=knowledge, noted=noted, kind=kind, requested=requested, eligibility=eligibility)


def _no_such_model(
    agent_type: str, model: str, knowledge: Knowledge, eligibility: Eligibility
) -> NoEligibleCandidateError:
    models = ", ".join(c.model for c in knowledge.catalog.candidates if c.agent_type == agent_type)
    asked = Excluded(agent_type=agent_type, model=model, why="that agent has no such model")
    return NoEligibleCandidateError(
        f"agent {agent_type!r} has no model {model!r}; it has {models}", excluded=[asked, *eligibility.excluded]
    )
