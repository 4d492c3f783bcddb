"""One task under decision: what was asked for, and who may take it."""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from service.base.text import one_line
from service.classifiers.classifier import Brief
from service.classifiers.protocols.questions import MAX_OPTIONS
from service.contract.catalog import Candidate, Catalog, without_local
from service.contract.decision import Excluded, Failure, Source
from service.contract.errors import NoEligibleCandidateError
from service.contract.task import Task, key_of
from service.decide.budget import expected_cost
from service.decide.eligibility import Eligibility, Obstacle, leaves_open, refusal, screen
from service.decide.kind import told_kind
from service.decide.names import first_of, unknown_names
from service.decide.quota import Quota, quota_of
from service.forecast.stakes import Stakes
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
    quota: Quota
    stakes: Stakes
    now: datetime

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
        self.eligibility = Eligibility(others, (*self.eligibility.obstacles, *down), self.eligibility.again)

    def brief(self) -> Brief:
        """What a classifier is given."""
        return Brief(
            task=self.task,
            eligible=self.eligibility.eligible,
            catalog=self.knowledge.catalog,
            prompts=self.knowledge.prompts,
            value_usd=self.stakes.value_usd,
            shortlist=self._shortlist(),
        )

    def _shortlist(self) -> tuple[Candidate, ...]:
        """The forecast's best, where more are eligible than a classifier can tell apart in one look."""
        eligible = self.eligibility.eligible
        if len(eligible) <= MAX_OPTIONS:
            return ()
        forecast = self.knowledge.forecaster.forecast(
            eligible,
            labels=self.task.labels,
            minutes=None,
            minutes_source="text",
            attempts=self.task.attempts,
            verifier=self.stakes.verifier,
        )
        worth = [self.stakes.value_usd * p - cost for p, cost in zip(forecast.p_solve, forecast.cost_usd, strict=True)]
        best = sorted(range(len(eligible)), key=lambda place: -worth[place])[:MAX_OPTIONS]
        return tuple([eligible[place] for place in best])


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
        task = msgspec.structs.replace(task, agent_type=None, model=None, effort=None)
    kind, unknown = told_kind(task, catalog.kind_ids)
    quota = quota_of(task.pools, catalog, now)
    noted += [*unknown, *unknown_names(task, catalog), *first_of(quota.noted, "$.pools")]
    cost_usd = None if task.require.max_cost_usd is None else expected_cost(task, kind, knowledge, quota)
    eligibility = screen(catalog, task, now=now, cost_usd=cost_usd, quota=quota)
    requested = None
    if task.agent_type is not None and task.model is not None and not leaves_open(task, catalog):
        requested = catalog.by_key.get(key_of(task.agent_type, task.model, task.effort))
        if requested is None:
            raise _no_such_model(task, catalog, eligibility, noted)
    if not eligibility.eligible or (requested is not None and requested not in eligibility.eligible):
        raise refusal(eligibility, now=now, requested=requested, failures=noted)
    return Case(
        task=task,
        knowledge=knowledge,
        noted=noted,
        kind=kind,
        requested=requested,
        eligibility=eligibility,
        quota=quota,
        stakes=_stakes(task, knowledge),
        now=now,
    )


def _stakes(task: Task, knowledge: Knowledge) -> Stakes:
    """What the request says is at stake, and the settings where it does not."""
    decision, delay = knowledge.decision, task.delay_usd_per_hour
    return Stakes(
        value_usd=decision.value_usd(task.objective) if task.value_usd is None else task.value_usd,
        delay_usd_per_hour=decision.delay_usd_per_hour if delay is None else delay,
        verifier=task.verifier or knowledge.verifier,
        max_cost_usd=task.require.max_cost_usd,
    )


def _no_such_model(
    task: Task, catalog: Catalog, eligibility: Eligibility, noted: list[Failure]
) -> NoEligibleCandidateError:
    agent_type, model = str(task.agent_type), str(task.model)
    models = ", ".join(c.key[1] for c in catalog.candidates if c.agent_type == agent_type)
    asked = Excluded(agent_type=agent_type, model=model, effort=task.effort, why="that agent has no such model")
    return NoEligibleCandidateError(
        f"agent {agent_type!r} has no model {key_of(agent_type, model, task.effort)[1]!r}; it has {models}",
        excluded=[asked, *eligibility.excluded],
        failures=noted,
    )
