"""The classifiers in order, under one deadline: each gets its share, each rests behind its breaker when it fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from service.base.text import one_line
from service.classifiers.breaker import Breaker
from service.classifiers.classifier import Blame, Brief, Classified, Classifier, ClassifierError
from service.contract.catalog import without_local
from service.contract.decision import Failure, Source, Usage
from service.contract.errors import ClassifierFailedError, DeadlineExceededError

RESERVE_SECONDS = 0.012
"""Kept back for the forecast, the plan and the answer, which take 1 to 3 ms; the rest is for a busy event loop."""

SHARE = 0.6
"""Of the time left, what a classifier may take while another stands behind it."""

GRACE_SECONDS = 0.003
"""What a classifier may need to notice that its time is over; then it is cancelled."""

AGAIN_SECONDS = 0.1
"""With less than this after a Retry-After there is no use in waiting for it."""

ANSWER_SECONDS = 0.002
"""Of one core, to give up waiting, forecast, plan and answer; a decision takes 1 to 2 ms by itself."""

SLACK_SHARE, SLACK_SECONDS = 0.05, 0.04
"""So much of the time there is, and at the most so much, is kept back where others want the processor too."""

DETAIL_LIMIT = 500

_OUT_OF_TIME = frozenset({"timeout", "queue-timeout", "no-time"})


@dataclass(frozen=True, slots=True)
class Stage:
    """A configured classifier and its breaker."""

    classifier: Classifier
    breaker: Breaker


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
    def out_of_time(self) -> bool:
        """Whether there is no verdict, and more time might have brought one."""
        return self.classified is None and any(failure.problem in _OUT_OF_TIME for failure in self.failures)


Answered = Callable[[Classified | ClassifierError | None], None]
"""Told how one call of a classifier ended; None where whoever asked went away before."""


class LadderObserver:
    """What is told of each classifier; this one does nothing."""

    def asking(self, classifier: Classifier) -> Answered:  # noqa: ARG002 - for those who listen
        """It is about to be asked, in the task that calls this; what this gives is called once, in the same task."""
        return _nothing

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
        self._sleep = sleep
        self._observers = tuple(observers)
        self._clock = clock
        self._log = structlog.get_logger("pointsman.classifiers")

    def answering(self, *, deadline: float, strict: bool = False) -> bool:
        """Whether any classifier would be asked before `deadline` (on the clock); with `strict`, the first one."""
        left = deadline - self._clock() - RESERVE_SECONDS
        stages = self.stages[:1] if strict else self.stages
        return any(stage.breaker.admits and left > max(0.0, stage.classifier.least_seconds) for stage in stages)

    def endpoint_problem(self) -> str:
        """Why the local model's endpoint is left alone now; empty where it is not."""
        for stage in self.stages:
            if stage.classifier.source == "local_model" and not stage.breaker.admits and stage.breaker.down:
                return "resting"
        return ""

    async def classify(self, brief: Brief, *, deadline: float) -> Classification:
        """Asks until a verdict comes or `deadline` (on the clock) is near.

        With `strict` only the first one is asked, and its failure is a ClassifierFailedError or DeadlineExceededError.
        """
        found = Classification()
        stages = self.stages[:1] if brief.task.strict else self.stages
        for index, stage in enumerate(stages):
            left = deadline - self._clock() - RESERVE_SECONDS
            seconds = self._share(left, stages[index:])
            error = await self._ask_stage(stage, brief, seconds, found)
            if error is None:
                return found
            for observer in self._observers:
                observer.failed(stage.classifier, error)
            found.failures.append(_failure(stage.classifier.source, error, brief))
            if stage.classifier.source == "local_model" and error.blame is Blame.CLASSIFIER:
                found.endpoint_problem = error.problem
                brief = replace(brief, eligible=without_local(brief.eligible))
            if brief.task.strict:
                self._refuse(stage, error, found, out_of_time=error.problem in _OUT_OF_TIME)
        return found

    async def aclose(self) -> None:
        """Closes each classifier."""
        for stage in self.stages:
            await stage.classifier.aclose()

    def _share(self, left: float, stages: Sequence[Stage]) -> float:
        """Seconds for the first of `stages`: a part, where what is left for one behind it would be enough to start."""
        first = stages[0].classifier
        behind = [s for s in stages[1:] if s.breaker.admits and left * (1 - SHARE) >= s.classifier.least_seconds]
        return min(first.timeout_seconds, left * SHARE if behind else left)

    async def _ask_stage(
        self, stage: Stage, brief: Brief, seconds: float, found: Classification
    ) -> ClassifierError | None:
        """One classifier asked, and once more after its Retry-After by whoever was first told of it, where that leaves
        time. All others find the breaker open meanwhile, and the next classifier is asked."""
        began = self._clock()
        error = await self._ask_once(stage, brief, seconds, found)
        wait = error.retry_after if error is not None else None
        left = seconds - (self._clock() - began) - (wait or 0.0)
        if error is None or not wait or left <= max(AGAIN_SECONDS, stage.classifier.least_seconds):
            return error
        await self._sleep(stage.breaker.rests_for() + GRACE_SECONDS)
        again = await self._ask_once(stage, brief, seconds - (self._clock() - began), found)
        found.seconds[stage.classifier.source] = self._clock() - began
        return error if again is not None and again.problem == "resting" else again

    async def _ask_once(
        self, stage: Stage, brief: Brief, seconds: float, found: Classification
    ) -> ClassifierError | None:
        """One classifier asked; its error is returned, for the next one to be asked."""
        if seconds <= max(0.0, stage.classifier.least_seconds):
            return ClassifierError("no-time", f"{max(0.0, seconds) * 1000:.0f} ms were left", blame=Blame.REQUEST)
        call = stage.breaker.enter()
        if call is None:
            rest = stage.breaker.rests_for()
            why = f" after: {stage.breaker.why}" if stage.breaker.why else ""
            blame = Blame.CLASSIFIER if stage.breaker.down else Blame.REPLY
            return ClassifierError("resting", f"next probe in {rest:.1f} s{why}", blame=blame)
        answered = [observer.asking(stage.classifier) for observer in self._observers]
        started = self._clock()
        try:
            answer = await self._ask(stage.classifier, brief, seconds)
        except asyncio.CancelledError:
            stage.breaker.abandoned(call)  # the caller went away: the probe must not stay out for ever
            for tell in answered:
                tell(None)
            raise
        for tell in answered:
            tell(answer)
        found.seconds[stage.classifier.source] = self._clock() - started
        found.usage = _sum(found.usage, answer.usage)
        found.prompt, found.reply = answer.prompt or found.prompt, answer.reply or found.reply
        if isinstance(answer, ClassifierError):
            # only the word: the detail may quote a server that quotes a task, and others read the breaker's state
            told_before = stage.breaker.state == "open"
            stage.breaker.failed(call, answer.blame, retry_after=answer.retry_after, why=answer.problem)
            if told_before:
                answer.retry_after = None  # somebody else waits for it already
            return answer
        stage.breaker.succeeded(call)
        found.classified, found.source = answer, stage.classifier.source
        return None

    async def _ask(self, classifier: Classifier, brief: Brief, seconds: float) -> Classified | ClassifierError:
        """What the classifier says. It is made to keep to its time; a defect of its own is a failure like others."""
        try:
            async with asyncio.timeout(seconds + GRACE_SECONDS):
                return await classifier.classify(brief, timeout_seconds=seconds)
        except ClassifierError as error:
            return error
        except TimeoutError:
            hasty = seconds < classifier.patience_seconds
            blame = Blame.REQUEST if hasty else Blame.CLASSIFIER
            return ClassifierError("timeout", f"no verdict within {seconds:.3g} s", blame=blame)
        except Exception as error:  # noqa: BLE001 - the promise is an answer whatever a classifier does; logged whole
            self._log.error("defect", exc_info=error, classifier=classifier.source)
            return ClassifierError("internal", "a defect of the service; the log has the cause", blame=Blame.REQUEST)

    def _refuse(self, stage: Stage, error: ClassifierError, found: Classification, *, out_of_time: bool) -> None:
        what = f"{stage.classifier.source} ({stage.classifier.name})"
        if out_of_time:
            raise DeadlineExceededError(f"{what} did not answer in time", failures=found.failures)
        raise ClassifierFailedError(f"{what} failed: {error.problem}", failures=found.failures)


def _nothing(_answer: Classified | ClassifierError | None) -> None:
    """Nobody listens."""


def _failure(source: str, error: ClassifierError, brief: Brief) -> Failure:
    detail = one_line(str(error), DETAIL_LIMIT)
    if brief.prompts.leaks(detail):  # a server may send back what it was asked, a model name it as its choice
        detail = "what was answered quotes the prompt, and is not repeated here"
    return Failure(source=source, problem=error.problem, detail=detail)


def _sum(a: Usage, b: Usage) -> Usage:
    return Usage(
        tokens_in=a.tokens_in + b.tokens_in, tokens_out=a.tokens_out + b.tokens_out, cost_usd=a.cost_usd + b.cost_usd
    )
