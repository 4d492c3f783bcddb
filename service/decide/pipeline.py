"""The way of a request: eligibility, short cuts, classifiers under the deadline, forecast, plan, decision."""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from service.base.clock import utc_now
from service.base.stopwatch import Stopwatch
from service.classifiers.ladder import Classification
from service.contract.decision import Decision, LoggedDecision, Source
from service.contract.task import Task
from service.decide.budget import forecast_within
from service.decide.case import open_case
from service.decide.choice import choose
from service.decide.conclude import conclude, explanation
from service.decide.shared_classifiers import SharedClassifiers
from service.decide.sharing import Left
from service.forecast.effort import estimate_minutes
from service.knowledge.knowledge import InUse, Knowledge


class Decide(Protocol):
    """`Pipeline.decide`, or what is put around it."""

    def __call__(
        self, task: Task, *, arrived: float | None = None, left: Left | None = None
    ) -> Awaitable[Decision]: ...


class Pipeline:
    """Decides. It belongs to one event loop; the knowledge in use may be replaced at any moment."""

    def __init__(
        self,
        in_use: InUse,
        classifiers: SharedClassifiers,
        *,
        observers: Sequence[Callable[[LoggedDecision], object]] = (),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """Each of the `observers` is told of each decision, before the caller is."""
        self.in_use = in_use
        self.classifiers = classifiers
        self.observers = tuple(observers)
        self._clock = clock
        self._now = now

    @property
    def knowledge(self) -> Knowledge:
        """What decisions are made from now."""
        return self.in_use.knowledge

    async def decide(self, task: Task, *, arrived: float | None = None, left: Left | None = None) -> Decision:
        """Decides by `task.deadline_ms` after `arrived` (on the clock; now where None).

        Raises NoEligibleCandidateError, NoCandidateAvailableError or OverloadedError; with `strict` also
        ClassifierFailedError and DeadlineExceededError; and CallerLeftError where `left` tells so while a classifier
        is waited for. `left` is called only then.
        """
        watch = Stopwatch(self._clock, arrived)
        knowledge, now = self.in_use.knowledge, self._now()
        deadline = watch.started + (task.deadline_ms or knowledge.decision.deadline_ms) / 1000
        ladder = self.classifiers.ladder

        # 1. Who may take it?
        case = open_case(task, knowledge, now)
        case.set_local_agent_aside(ladder.endpoint_problem())
        watch.lap("eligibility")

        # 2. Is anything left to be chosen?
        source = case.short_cut()

        # 3. What do the classifiers say?
        found, cached = Classification(), False
        if source is None and ladder.stages:
            based_on = (knowledge.versions, knowledge.decision)
            found, cached = await self.classifiers.classify(case.brief(), based_on, deadline=deadline, left=left)
            case.set_local_agent_aside(found.endpoint_problem)
            watch.seconds.update(found.seconds)
            watch.skip()
        verdict = found.classified.verdict if found.classified else None

        # 4. What are the chances, and what will it cost?
        minutes = verdict.minutes if verdict else None
        effort = estimate_minutes(task.name, task.instructions) if minutes is None else None
        eligible = case.eligibility.eligible
        forecast = forecast_within(task, eligible, knowledge.forecaster, minutes=minutes, effort=effort)

        # 5. In which order?
        choice = choose(case, found, forecast, self.in_use.weights, source)
        watch.lap("forecast")

        # 6. The decision
        decision = conclude(case, found, choice, cached=cached, timings_ms=watch.milliseconds())
        logged = LoggedDecision(
            decided_at=now,
            task_id=task.task_id,
            name=task.name,
            labels=task.labels,
            decision=decision,
            explanation=explanation(found, effort, choice.forecast.explained),
            advice=choice.advice,
        )
        for observer in self.observers:
            observer(logged)
        if task.explain:
            shown = explanation(found, msgspec.to_builtins(effort), choice.forecast.explain())
            return msgspec.structs.replace(decision, explanation={**shown, "system_prompt": knowledge.prompts.system})
        return decision

    def answering_with(self) -> Source:
        """The best source that can answer now; always the forecast where the settings leave the choice to it."""
        if self.knowledge.decision.first_choice != "forecast":
            for stage in self.classifiers.ladder.stages:
                if stage.breaker.admits and stage.classifier.available():
                    return stage.classifier.source
        return "forecast"
