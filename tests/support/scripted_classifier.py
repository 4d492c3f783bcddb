"""A classifier that does what a test tells it, through the seam that every classifier has."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from service.classifiers.classifier import Blame, Brief, Classified, ClassifierError
from service.classifiers.verdict import Verdict
from service.contract.catalog import Candidate
from service.contract.decision import Source, Usage

Act = Callable[[Brief, float], Awaitable[Classified]]

SPENT = Usage(tokens_in=10, tokens_out=5, cost_usd=0.01)


class ScriptedClassifier:
    """Does the next of its acts, and the last one from then on. `briefs` and `given` say what it was asked with."""

    def __init__(
        self,
        *acts: Act,
        source: Source = "local_model",
        timeout_seconds: float = 10.0,
        least_seconds: float = 0.0,
        patience_seconds: float = 0.0,
        local: bool = True,
    ) -> None:
        self.source: Source = source
        self.name = f"scripted {source}"
        self.local = local
        self.timeout_seconds = timeout_seconds
        self.least_seconds = least_seconds
        self.patience_seconds = patience_seconds
        self.briefs: list[Brief] = []
        self.given: list[float] = []
        self.closed = False
        self.is_there = True
        self._acts = deque(acts)

    def available(self) -> bool:
        """As the test says."""
        return self.is_there

    async def classify(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        """The next act."""
        self.briefs.append(brief)
        self.given.append(timeout_seconds)
        act = self._acts.popleft() if len(self._acts) > 1 else self._acts[0]
        return await act(brief, timeout_seconds)

    async def aclose(self) -> None:
        """Notes it."""
        self.closed = True


def verdict(
    chosen: Candidate, *, minutes: float | None = 30.0, reason: str = "It fits.", confidence: float | None = 0.8
) -> Classified:
    """What a classifier gives that names `chosen`."""
    return Classified(
        verdict=Verdict(candidate=chosen, minutes=minutes, confidence=confidence, reason=reason),
        usage=SPENT,
        prompt="the prompt",
        reply="the reply",
    )


def chooses(index: int = 0, *, minutes: float | None = 30.0, reason: str = "It fits.") -> Act:
    """Names the eligible candidate of that number."""

    async def act(brief: Brief, _seconds: float) -> Classified:
        return verdict(brief.eligible[index], minutes=minutes, reason=reason)

    return act


def fails(problem: str = "broken", blame: Blame = Blame.CLASSIFIER, retry_after: float | None = None) -> Act:
    """Raises a ClassifierError that has spent tokens."""

    async def act(_brief: Brief, _seconds: float) -> Classified:
        raise ClassifierError(problem, f"it is {problem}", blame=blame, retry_after=retry_after, usage=SPENT)

    return act


class Gate:
    """An act that waits until it is opened, and counts who came."""

    def __init__(self, index: int = 0) -> None:
        self.open = asyncio.Event()
        self.came = 0
        self.cancelled = 0
        self._index = index

    async def __call__(self, brief: Brief, _seconds: float) -> Classified:
        """Waits, then chooses."""
        self.came += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return verdict(brief.eligible[self._index])


async def settle() -> None:
    """Lets everything that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)
