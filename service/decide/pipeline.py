"""The way of a request: eligibility, short cuts, classifiers under the deadline, forecast, plan, decision."""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from service.base.clock import utc_now
from service.base.stopwatch import Stopwatch
from service.classifiers.ladder import Classification
from service.contract.catalog import Candidate
from service.contract.decision import Decision, KindTold, Known, LoggedDecision, Source
from service.contract.task import Task
from service.decide.case import Case, open_case
from service.decide.choice import advice_of, forecast_alone, forecast_choice_of, lead_of
from service.decide.conclude import conclude, explanation
from service.decide.dispatch import Dispatch, Read, dispatch_of, plan_now
from service.decide.exploring import Drawn, Explorer
from service.decide.kind import kind_of, learned_kind
from service.decide.shared_classifiers import SharedClassifiers
from service.decide.sharing import Left
from service.forecast.forecaster import Forecaster
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
        told: Callable[[Task, KindTold], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
        explorer: Explorer | None = None,
    ) -> None:
        """Each of the `observers` is told of each decision, before the caller is; `told` of its task and its kind.
        Without an `explorer` no choice is drawn."""
        self.in_use = in_use
        self.classifiers = classifiers
        self.observers = tuple(observers)
        self._told = told
        self._clock = clock
        self._now = now
        self.explorer = explorer

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
        reading = knowledge.reader.read(task)
        found, cached = Classification(), False
        if source is None and ladder.stages:
            based_on = (knowledge.versions, knowledge.decision)
            ahead = reading.ahead if case.kind is None else None
            found, cached = await self.classifiers.classify(
                case.brief(), based_on, deadline=deadline, left=left, meanwhile=ahead
            )
            case.set_local_agent_aside(found.endpoint_problem)
            watch.seconds.update(found.seconds)
            watch.skip()
        verdict = found.classified.verdict if found.classified else None

        # 4. What are the chances, and what will it cost?
        kind = kind_of(case.kind, verdict, found.source, reading)
        minutes = verdict.minutes if verdict else None
        read = Read(reading=reading, kind=kind, minutes=minutes)

        # 5. In which order, and when? Now and then another first, to learn something.
        lead = lead_of(case, found, read, self.in_use.weights, source)
        source, dispatch = lead.source, dispatch_of(case, lead.read, lead.first)
        drawn = self._drawn(case, lead.read, dispatch) if knowledge.worlds else None
        if drawn is not None:
            dispatch = plan_now(case, lead.read, drawn.candidate)
        if drawn is not None or dispatch.not_before is not None:
            source = "forecast"
        alone = forecast_alone(case, lead, read, dispatch)
        forecast_choice = forecast_choice_of(case, alone, dispatch)
        watch.lap("forecast")

        # 6. The decision
        source = source or "forecast"
        timings = watch.milliseconds()
        decision = conclude(
            case, found, dispatch, forecast_choice, source=source, kind=kind, cached=cached, timings_ms=timings
        )
        effort = reading.size if minutes is None else None
        words = reading.weights() if kind and task.explain else None
        if drawn is not None:
            decision = msgspec.structs.replace(decision, explored=True, propensity=drawn.propensity)
        logged = LoggedDecision(
            decided_at=now,
            task_id=task.task_id,
            name=task.name,
            labels=task.labels,
            decision=decision,
            explanation=explanation(case, found, effort, words, dispatch.forecast.explained),
            request=task,
            minutes_of_text=effort.minutes if effort else None,
            known=Known(
                failed=[one.key for one in task.attempts if one.result == "failed"],
                minutes=minutes,
                kind=learned_kind(kind),
                advice=advice_of(found, alone, dispatch),
            ),
        )
        for observer in self.observers:
            observer(logged)
        if kind and self._told is not None:
            self._told(task, kind)
        if task.explain:
            shown = explanation(case, found, msgspec.to_builtins(effort), words, dispatch.forecast.explain())
            return msgspec.structs.replace(decision, explanation={**shown, "system_prompt": knowledge.prompts.system})
        return decision

    def _drawn(self, case: Case, read: Read, dispatch: Dispatch) -> Drawn | None:
        """A first choice that was drawn: never where the caller fixed it, wants no other, or limits what it costs, nor
        where something is waited for."""
        task, knowledge = case.task, case.knowledge
        if (
            case.short_cut() is not None
            or task.strict
            or task.require.max_cost_usd is not None
            or self.explorer is None
            or dispatch.not_before is not None
        ):
            return None
        best = plan_now(case, read, None).plan.worth_usd

        def first_in(world: Forecaster) -> Candidate:
            step = plan_now(case, read, None, world).plan.steps[0]
            return knowledge.catalog.by_key[step.key]

        return self.explorer.draw(
            knowledge.worlds,
            first_in,
            lambda candidate: best - plan_now(case, read, candidate).plan.worth_usd,
            self._now(),
        )

    def answering_with(self) -> Source:
        """The best source that can answer now; always the forecast where the settings leave the choice to it."""
        if self.knowledge.decision.first_choice != "forecast":
            for stage in self.classifiers.ladder.stages:
                if stage.breaker.admits and stage.classifier.available():
                    return stage.classifier.source
        return "forecast"
