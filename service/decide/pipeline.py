"""The way of a request: eligibility, short cuts, classifiers under the deadline, forecast and plan."""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from service import __version__
from service.base.ids import uuid7
from service.base.stopwatch import Stopwatch
from service.base.text import one_line
from service.classifiers.classifier import Brief
from service.classifiers.ladder import RESERVE_SECONDS, Classification, Ladder, give_up_by
from service.classifiers.prompt import Prompts
from service.contract.catalog import Candidate, Catalog
from service.contract.decision import Decision, Excluded, Failure, LoggedDecision, Source, Step, Usage, Versions
from service.contract.errors import DeadlineExceededError, NoEligibleCandidateError, OverloadedError
from service.contract.settings import DecisionSettings
from service.contract.task import Task
from service.decide.budget import affordable, expected_cost, forecast_within
from service.decide.eligibility import Eligibility, refusal, screen
from service.decide.local_agent import without_local_agent
from service.decide.reason import reason_for
from service.decide.sharing import Recent, SharedCalls
from service.forecast.effort import Effort, estimate_minutes
from service.forecast.forecaster import Forecast, Forecaster

_ENCODER = msgspec.json.Encoder(order="deterministic")

Left = Callable[[], "asyncio.Future[None]"]
"""Gives the future that is done once the caller went away; asked for only when there is something to wait for."""

_DIGITS = 9
"""Of an answer's dollars: a cost that equals a limit shall not exceed it by the last bit of a sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What decisions are made from; replaced as a whole, so that no request sees half of an old and half of a new."""

    catalog: Catalog
    prompts: Prompts
    forecaster: Forecaster
    decision: DecisionSettings = field(default_factory=DecisionSettings)

    @property
    def versions(self) -> Versions:
        """Short hashes that change when a file does."""
        return Versions(catalog=self.catalog.version, prompt=self.prompts.version, service=__version__)


class Observer:
    """What is told of each decision; this one does nothing."""

    def decided(self, task: Task, decision: Decision, logged: LoggedDecision) -> None:
        """A decision was made."""

    def waiting(self, number: int) -> None:
        """So many decisions wait for a classifier now."""


class Pipeline:
    """Decides. It belongs to one event loop; `knowledge` may be replaced at any moment."""

    def __init__(
        self,
        knowledge: Knowledge,
        ladder: Ladder,
        *,
        max_in_flight: int,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        random_bytes: Callable[[int], bytes] = os.urandom,
        new_id: Callable[[], str] = uuid7,
    ) -> None:
        self.knowledge = knowledge
        self.ladder = ladder
        self._max_in_flight = max_in_flight
        self._observer = observer or Observer()
        self._clock = clock
        self._now = now
        self._random_bytes = random_bytes
        self._new_id = new_id
        self._recent: Recent[Classification] = Recent(knowledge.decision.cache_seconds, clock)
        self._calls: SharedCalls[Classification] = SharedCalls(clock)
        self.waiting = 0
        """Decisions that wait for a classifier now."""

    async def decide(self, task: Task, *, arrived: float | None = None, left: Left | None = None) -> Decision:
        """Decides by `task.deadline_ms` after `arrived` (on the clock; now where None).

        Raises NoEligibleCandidateError, NoCandidateAvailableError or OverloadedError; with `strict` also
        ClassifierFailedError and DeadlineExceededError; and CallerLeftError where `left` tells so while a classifier
        is waited for. `left` is called only then.
        """
        watch = Stopwatch(self._clock, arrived)
        knowledge = self.knowledge
        deadline = watch.started + (task.deadline_ms or knowledge.decision.deadline_ms) / 1000
        now = self._now()
        noted, task = _without_unknown_agent(task, knowledge.catalog)
        cost_usd = expected_cost(task, knowledge.catalog, knowledge.forecaster)
        eligibility = screen(knowledge.catalog, task, now=now, cost_usd=cost_usd)
        requested = _requested(task, eligibility, knowledge.catalog, noted)
        if not eligibility.eligible or (requested is not None and requested not in eligibility.eligible):
            raise refusal(eligibility, now=now, requested=requested, failures=noted)
        eligibility = without_local_agent(eligibility, self.ladder.endpoint_problem(), requested=requested)
        watch.lap("eligibility")
        found, source, cached = Classification(), _short_cut(requested, eligibility), False
        if source is None and self.ladder.stages:
            found, cached = await self._classify(task, eligibility, knowledge, deadline, left)
            eligibility = without_local_agent(eligibility, found.endpoint_problem)
            watch.seconds.update(found.seconds)
            watch.skip()
        decision, forecast, effort = self._conclude(
            task, eligibility, knowledge, found, source=source, first=requested, cached=cached, noted=noted, watch=watch
        )
        self._observer.decided(
            task,
            decision,
            LoggedDecision(
                decided_at=now,
                task_id=task.task_id,
                name=task.name,
                labels=task.labels,
                decision=decision,
                explanation=_explanation(found, effort, forecast.explained),
            ),
        )
        if task.explain:
            shown = _explanation(found, msgspec.to_builtins(effort), forecast.explain())
            return msgspec.structs.replace(decision, explanation={**shown, "system_prompt": knowledge.prompts.system})
        return decision

    async def aclose(self) -> None:
        """Cancels the classifications under way and closes the classifiers."""
        await self._calls.aclose()
        await self.ladder.aclose()

    async def hurry(self) -> None:
        """Ends the classifications under way: who waits for one is answered by the forecast now."""
        await self._calls.aclose()

    def answering_with(self) -> Source:
        """The best source that can answer now; always the forecast where the settings leave the choice to it."""
        if self.knowledge.decision.first_choice == "classifier":
            for stage in self.ladder.stages:
                if stage.breaker.admits and stage.classifier.available():
                    return stage.classifier.source
        return "forecast"

    def forget(self) -> None:
        """Drops the answers kept for identical requests."""
        self._recent.clear()

    async def _classify(
        self, task: Task, eligibility: Eligibility, knowledge: Knowledge, deadline: float, left: Left | None
    ) -> tuple[Classification, bool]:
        """A verdict, or the failures that say why there is none; and whether it was made for another request."""
        key = (_digest(task), knowledge.versions)
        recent = self._recent.get(key)
        if recent is not None and _still_fits(recent, eligibility):
            return _passed_on(recent), True
        brief = Brief(
            task=task,
            eligible=eligibility.eligible,
            catalog=knowledge.catalog,
            prompts=knowledge.prompts,
            value_usd=_value(task, knowledge),
        )
        if not self.ladder.answering(deadline=deadline, strict=task.strict):
            return await self.ladder.classify(brief, deadline=deadline), False  # nothing is waited for
        if self.waiting >= self._max_in_flight:
            raise OverloadedError(f"{self.waiting} decisions wait for a classifier already")
        same_call = (key, task.deadline_ms, task.strict, tuple(c.key for c in eligibility.eligible))
        deadline = give_up_by(deadline, now=self._clock(), waiting=self.waiting)
        self._observer.waiting(self._count(+1))
        try:
            found, joined = await self._share(same_call, brief, deadline, left() if left else None)
        finally:
            self._observer.waiting(self._count(-1))
        if found is None:
            return self._out_of_time(task), False
        if found.classified is not None and not found.failures:
            self._recent.put(key, found)
        return (_passed_on(found), found.classified is not None) if joined else (found, False)

    async def _share(
        self,
        key: Hashable,
        brief: Brief,
        deadline: float,
        left: "asyncio.Future[None] | None",
        *,
        again: bool = True,
    ) -> tuple[Classification | None, bool]:
        """What comes of the call for `key`, begun here or joined, and whether it was joined.

        Whoever joins it in the second half of its time and sees it run out of time asks once `again`: that time was
        another caller's, and most of its own is left.
        """
        began, joined = self._calls.began(key), self._clock()
        found: Classification | None = None
        refused: DeadlineExceededError | None = None
        try:
            found = await self._calls.share(
                key,
                lambda: self.ladder.classify(brief, deadline=deadline),
                timeout_seconds=deadline - joined - RESERVE_SECONDS / 2,
                left=left,
            )
        except DeadlineExceededError as error:
            refused = error
        ran_out = refused is not None or (found is not None and found.out_of_time)
        if again and ran_out and began is not None and joined - began > self._clock() - joined:
            return await self._share(key, brief, deadline, left, again=False)
        if refused is not None:
            raise refused
        return found, began is not None

    def _count(self, change: int) -> int:
        self.waiting += change
        return self.waiting

    def _out_of_time(self, task: Task) -> Classification:
        """The last guard, where a classifier did not keep to its time."""
        source = self.ladder.stages[0].classifier.source
        failure = Failure(source=source, problem="timeout", detail="no verdict before the deadline")
        if task.strict:
            raise DeadlineExceededError(f"{source} did not answer in time", failures=[failure])
        return Classification(failures=[failure])

    def _conclude(
        self,
        task: Task,
        eligibility: Eligibility,
        knowledge: Knowledge,
        found: Classification,
        *,
        source: Source | None,
        first: Candidate | None,
        cached: bool,
        noted: list[Failure],
        watch: Stopwatch,
    ) -> tuple[Decision, Forecast, Effort | None]:
        verdict = found.classified.verdict if found.classified else None
        minutes = verdict.minutes if verdict else None
        effort = estimate_minutes(task.name, task.instructions) if minutes is None else None
        forecast = forecast_within(task, eligibility.eligible, knowledge.forecaster, minutes=minutes, effort=effort)
        if verdict and knowledge.decision.first_choice == "classifier":
            first, source = verdict.candidate, found.source
        plan = affordable(forecast.plan(_value(task, knowledge), first=first), task.require.max_cost_usd)
        chosen = plan.steps[0]
        watch.lap("forecast")
        source = source or "forecast"
        decision = Decision(
            decision_id=self._new_id(),
            agent_type=chosen.candidate.agent_type,
            model=chosen.candidate.model,
            reason=reason_for(source, found, knowledge.prompts, plan, len(eligibility.eligible)),
            source=source,
            degraded=bool(found.failures),
            failures=[*noted, *found.failures],
            confidence=verdict.confidence if verdict and source == found.source else None,
            p_solve=chosen.p_solve,
            cost_usd=round(chosen.cost_usd, _DIGITS),
            plan=[
                Step(
                    agent_type=step.candidate.agent_type,
                    model=step.candidate.model,
                    p_solve=step.p_solve,
                    cost_usd=round(step.cost_usd, _DIGITS),
                )
                for step in plan.steps
            ],
            plan_p_solve=plan.p_solve,
            plan_cost_usd=round(plan.cost_usd, _DIGITS),
            worthwhile=plan.worthwhile,
            excluded=eligibility.excluded,
            usage=found.usage,
            timings_ms=watch.milliseconds(),
            versions=knowledge.versions,
            cached=cached,
        )
        return decision, forecast, effort


def _value(task: Task, knowledge: Knowledge) -> float:
    return task.value_usd if task.value_usd is not None else knowledge.decision.value_usd(task.objective)


def _without_unknown_agent(task: Task, catalog: Catalog) -> tuple[list[Failure], Task]:
    """An agent type that nobody registered is noted, and every agent competes."""
    if task.agent_type is None or task.agent_type in catalog.agent_types:
        return [], task
    known = ", ".join(catalog.agent_types)
    detail = one_line(f"agent type {task.agent_type!r} is not in the catalog ({known}); every agent competes", 500)
    noted = [Failure(source="request", problem="unknown-agent-type", detail=detail)]
    return noted, msgspec.structs.replace(task, agent_type=None, model=None)


def _passed_on(found: Classification) -> Classification:
    """The same for another request, which spent neither tokens nor time of a classifier on it."""
    return replace(found, usage=Usage(), seconds={})


def _requested(task: Task, eligibility: Eligibility, catalog: Catalog, noted: list[Failure]) -> Candidate | None:
    """The pair that the caller fixed. Raises NoEligibleCandidateError where the agent has no such model."""
    if task.agent_type is None or task.model is None:
        return None
    requested = catalog.by_key.get((task.agent_type, task.model))
    if requested is None:
        models = ", ".join(c.model for c in catalog.candidates if c.agent_type == task.agent_type)
        asked = Excluded(agent_type=task.agent_type, model=task.model, why="that agent has no such model")
        raise NoEligibleCandidateError(
            f"agent {task.agent_type!r} has no model {task.model!r}; it has {models}",
            excluded=[asked, *eligibility.excluded],
            failures=noted,
        )
    return requested


def _short_cut(requested: Candidate | None, eligibility: Eligibility) -> Source | None:
    if requested is not None:
        return "requested"
    return "only_candidate" if len(eligibility.eligible) == 1 else None


def _digest(task: Task) -> bytes:
    """What makes two requests identical: all but the scheduler's own id, the time allowed, and what is shown."""
    same = msgspec.structs.replace(task, task_id=None, deadline_ms=None, explain=False, strict=False)
    return hashlib.blake2b(_ENCODER.encode(same), digest_size=16).digest()


def _still_fits(found: Classification, eligibility: Eligibility) -> bool:
    return found.classified is not None and found.classified.verdict.candidate in eligibility.eligible


def _explanation(found: Classification, effort: object, forecast: object) -> dict[str, Any]:
    """Why: the rendered prompt, the raw reply, the minutes from the text, the abilities and the difficulty used."""
    return {"prompt": found.prompt, "reply": found.reply, "effort": effort, "forecast": forecast}
