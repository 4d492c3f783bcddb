"""The classifiers in order, under one deadline: each gets its share, each rests behind its breaker when it fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from service.base.text import one_line
from service.classifiers.breaker import Breaker
from service.classifiers.classifier import Blame, Brief, Classified, Classifier, ClassifierError, total
from service.classifiers.pace import Pace
from service.contract.catalog import without_local
from service.contract.decision import Failure, Source, Usage
from service.contract.errors import ClassifierFailedError, DeadlineExceededError
from service.contract.task import Task
from service.logs.lines import log_defect

RESERVE_SECONDS = 0.012
"""Kept back for the forecast, the plan and the answer, which take 1 to 3 ms; the rest is for a busy event loop."""

SHARE = 0.6
"""Share of the remaining time that one classifier may use while another is left."""

GRACE_SECONDS = 0.003
"""What a classifier may need to notice that its time is over; then it is cancelled."""

AGAIN_SECONDS = 0.1
"""Do not wait for a Retry-After that leaves less than this."""

_ALL = 0.9
"""Of the time that is set for a classifier: as good as all of it, less what a wait in a queue of our own took."""

ANSWER_SECONDS = 0.002
"""Of one core, to give up waiting, forecast, plan and answer; a decision takes 1 to 2 ms by itself."""

SLACK_SHARE, SLACK_SECONDS = 0.05, 0.04
"""This share of the remaining time, and at most this much, is kept back where others want the processor too."""

DETAIL_LIMIT = 500

NOT_LOCAL = "not-local"
"""The problem of a classifier that may not be shown the task."""

_OUT_OF_TIME = frozenset({"timeout", "queue-timeout", "no-time"})


@dataclass(frozen=True, slots=True)
class Stage:
    """A configured classifier, its breaker, and how long it takes."""

    classifier: Classifier
    breaker: Breaker
    pace: Pace = field(default_factory=Pace)

    @property
    def needs_seconds(self) -> float:
        """What is kept back for it."""
        quickest = self.pace.quickest
        return self.classifier.least_seconds if quickest is None else quickest

    def may_be_shown(self, task: Task) -> bool:
        """Whether the task's text may reach it at all."""
        return self.classifier.local or not task.require.local_only

    def may_answer_within(self, seconds: float, now: float) -> bool:
        """Whether it would be asked now by who has so much time for it."""
        return self.breaker.admits_for(seconds) and self.pace.allows(seconds, now)

    def blame(self, given_seconds: float) -> Blame:
        """Whose fault a time-out is: its own where it was given all the time that is set for it, or enough."""
        if given_seconds <= 0:
            return Blame.REQUEST
        patience = self.pace.patience(self.classifier.patience_seconds)
        if given_seconds >= min(patience, self.classifier.timeout_seconds * _ALL):
            return Blame.CLASSIFIER
        probe = self.pace.quickest is not None and given_seconds < self.pace.quickest
        return Blame.REQUEST if probe else Blame.HASTE


@dataclass(slots=True)
class Classification:
    """What became of asking the classifiers; `classified` is None where the forecast must choose."""

    classified: Classified | None = None
    source: Source | None = None
    failures: list[Failure] = field(default_factory=list[Failure])
    usage: Usage = field(default_factory=Usage)
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    prompt: str = ""
    reply: str = ""
    endpoint_problem: str = ""
    """How the local model's endpoint failed, in a short word; empty where it did not, or was not asked."""

    @property
    def degraded(self) -> bool:
        """Whether one that may be asked failed. One that may not be shown the task has not failed."""
        return any(failure.problem != NOT_LOCAL for failure in self.failures)

    @property
    def out_of_time(self) -> bool:
        """Whether there is no verdict, and more time might have brought one."""
        return self.classified is None and any(failure.problem in _OUT_OF_TIME for failure in self.failures)


Answered = Callable[[Classified | ClassifierError | None], None]
"""Told how one call of a classifier ended; None where whoever asked went away before."""


class LadderObserver:
    """What is told of each classifier; this one does nothing."""

    def asking(self, classifier: Classifier) -> Answered:  # noqa: ARG002 - for those who listen
        """It is about to be asked, in the task that calls this; what this gives is called once, in the same task."""
        return lambda _answer: None

    def failed(self, classifier: Classifier, error: ClassifierError) -> None:
        """It gave no verdict, asked or (`resting`, `no-time`) not."""


def give_up_by(deadline: float, *, now: float, waiting: int) -> float:
    """When a decision stops waiting for classifiers, with so many others `waiting` already: before `deadline`, and
    earlier by the time that the others need to be answered.

    Else all that came together, a batch for one, would run out of time in the same moment and be late together.
    """
    left = max(0.0, deadline - now)
    return deadline - min(left * SLACK_SHARE, SLACK_SECONDS) - min(waiting * ANSWER_SECONDS, left * 0.45)


class Ladder:
    """Asks each classifier in turn until one names a candidate."""

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        observers: Sequence[LadderObserver] = (),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.stages = tuple(stages)
        self._observers = tuple(observers)
        self._clock = clock
        self._sleep = sleep
        self._log = structlog.get_logger("pointsman.classifiers")

    def answering(self, task: Task, *, deadline: float) -> bool:
        """Whether any classifier would be asked about the task before `deadline` (on the clock)."""
        now = self._clock()
        return any(stage.may_answer_within(deadline - now - RESERVE_SECONDS, now) for stage in self.stages_for(task))

    def endpoint_problem(self) -> str:
        """Why the local model's endpoint is left alone now; empty where it is not."""
        for stage in self.stages:
            if stage.classifier.source == "local_model" and not stage.breaker.admits and stage.breaker.down:
                return "resting"
        return ""

    async def classify(self, brief: Brief, *, deadline: float) -> Classification:
        """Asks until a verdict comes or `deadline` (on the clock) is near.

        With `strict` only the first one that may be shown the task is asked, and its failure is a ClassifierFailedError
        or DeadlineExceededError; so is it where none may be shown it.
        """
        found = Classification()
        asked = self.stages_for(brief.task)
        for stage in self.stages:
            if stage in asked:
                seconds = self._share(deadline - self._clock() - RESERVE_SECONDS, asked[asked.index(stage) :])
                error = await self._ask_stage(stage, brief, seconds, found)
            else:
                error = _not_local(stage.classifier)
            if error is None:
                return found
            for observer in self._observers:
                observer.failed(stage.classifier, error)
            found.failures.append(_failure(stage.classifier.source, error, brief))
            if brief.task.strict and (stage in asked or not asked):
                raise _refusal(stage.classifier, error, found.failures)
            if stage.classifier.source == "local_model" and error.blame is Blame.CLASSIFIER:
                found.endpoint_problem = error.problem
                brief = msgspec.structs.replace(brief, eligible=without_local(brief.eligible))
        return found

    def stages_for(self, task: Task) -> tuple[Stage, ...]:
        """Those that may be asked about the task, in order; with `strict` only the first one of them."""
        stages = tuple(stage for stage in self.stages if stage.may_be_shown(task))
        return stages[:1] if task.strict else stages

    async def aclose(self) -> None:
        for stage in self.stages:
            await stage.classifier.aclose()

    def _share(self, left: float, stages: Sequence[Stage]) -> float:
        """Seconds for the first of `stages`: a part, where what is left for one behind it would be enough to start."""
        first = stages[0].classifier
        rest = left * (1 - SHARE)
        behind = any(s.breaker.admits_for(rest) and rest >= s.needs_seconds for s in stages[1:])
        return min(first.timeout_seconds, left * SHARE if behind else left)

    async def _ask_stage(
        self, stage: Stage, brief: Brief, seconds: float, found: Classification
    ) -> ClassifierError | None:
        """One classifier asked, and once more after its Retry-After by whoever was first told of it, where that leaves
        time. All others find the breaker open meanwhile, and the next classifier is asked."""
        began = self._clock()
        error = await self._ask_once(stage, brief, seconds, found)
        if error is None or not error.retry_after:
            return error
        left = seconds - (self._clock() - began) - error.retry_after
        if left <= max(AGAIN_SECONDS, stage.needs_seconds):
            return error
        await self._sleep(stage.breaker.rests_for() + GRACE_SECONDS)
        again = await self._ask_once(stage, brief, seconds - (self._clock() - began), found)
        found.seconds[stage.classifier.source] = self._clock() - began
        return error if again is not None and again.problem == "resting" else again

    async def _ask_once(
        self, stage: Stage, brief: Brief, seconds: float, found: Classification
    ) -> ClassifierError | None:
        """One classifier asked; its error is returned, for the next one to be asked."""
        classifier, breaker, pace = stage.classifier, stage.breaker, stage.pace
        if not pace.allows(seconds, self._clock()):
            slow = pace.quickest and seconds > 0
            known = f", and it has not answered in less than {pace.quickest:.3g} s" if slow else ""
            says = f"{max(0.0, seconds) * 1000:.0f} ms were left{known}"
            return ClassifierError("no-time", says, blame=Blame.REQUEST)
        call = breaker.enter(seconds)
        if call is None:
            why = f" after: {breaker.why}" if breaker.why else ""
            blame = Blame.CLASSIFIER if breaker.down else Blame.REPLY
            return ClassifierError("resting", f"next probe in {breaker.rests_for():.1f} s{why}", blame=blame)
        answered = [observer.asking(classifier) for observer in self._observers]
        started = self._clock()
        pace.asked(seconds, started)
        try:
            answer = await self._answer(classifier, brief, seconds)
        except asyncio.CancelledError:
            breaker.abandoned(call)  # the caller went away: the probe must not stay out for ever
            for tell in answered:
                tell(None)
            raise
        for tell in answered:
            tell(answer)
        found.seconds[classifier.source] = self._clock() - started
        found.usage = total(found.usage, answer.usage)
        found.prompt, found.reply = answer.prompt or found.prompt, answer.reply or found.reply
        if isinstance(answer, ClassifierError):
            # only the word: the detail may quote a server that quotes a task, and others read the breaker's state
            if answer.given_seconds is not None:
                answer.blame = stage.blame(answer.given_seconds)
            told_before = breaker.state == "open"
            breaker.failed(
                call,
                answer.blame,
                retry_after=answer.retry_after,
                given_seconds=answer.given_seconds or 0.0,
                why=answer.problem,
            )
            if told_before:
                answer.retry_after = None  # somebody else waits for it already
            return answer
        breaker.succeeded(call)
        pace.answered(found.seconds[classifier.source], self._clock())
        found.classified, found.source = answer, classifier.source
        return None

    async def _answer(self, classifier: Classifier, brief: Brief, seconds: float) -> Classified | ClassifierError:
        """What the classifier says. It is made to keep to its time; a defect of its own is a failure like others."""
        try:
            async with asyncio.timeout(seconds + GRACE_SECONDS):
                return await classifier.classify(brief, timeout_seconds=seconds)
        except ClassifierError as error:
            return error
        except TimeoutError:
            late = ClassifierError("timeout", f"no verdict within {seconds:.3g} s")
            late.given_seconds = seconds
            return late
        except Exception as error:  # noqa: BLE001 - the promise is an answer whatever a classifier does; logged whole
            log_defect(self._log, error, classifier=classifier.source)
            return ClassifierError("internal", "a defect of the service; the log has the cause", blame=Blame.REQUEST)


def _not_local(classifier: Classifier) -> ClassifierError:
    says = f"require.local_only keeps the task inside, and {classifier.source}.local is false"
    return ClassifierError(NOT_LOCAL, says, blame=Blame.REQUEST)


def _failure(source: str, error: ClassifierError, brief: Brief) -> Failure:
    detail = one_line(str(error), DETAIL_LIMIT)
    if brief.prompts.leaks(detail):  # a server may send back what it was asked, a model name it as its choice
        detail = "what was answered quotes the prompt, and is not repeated here"
    return Failure(source=source, problem=error.problem, detail=detail)


def _refusal(
    classifier: Classifier, error: ClassifierError, failures: list[Failure]
) -> ClassifierFailedError | DeadlineExceededError:
    what = f"{classifier.source} ({classifier.name})"
    if error.problem in _OUT_OF_TIME:
        return DeadlineExceededError(f"{what} did not answer in time", failures=failures)
    return ClassifierFailedError(f"{what} failed: {error.problem}", failures=failures)
