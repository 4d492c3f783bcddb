"""The classifiers as the pipeline asks them: identical requests share one classification, and few may wait at once."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Hashable
from dataclasses import replace

import msgspec

from service.classifiers.classifier import Brief
from service.classifiers.ladder import RESERVE_SECONDS, Classification, Ladder, give_up_by
from service.contract.decision import Failure, Usage
from service.contract.errors import DeadlineExceededError, OverloadedError
from service.contract.task import Task
from service.decide.sharing import Left, Recent, SharedCalls

ASKED_SECONDS = 0.002
"""By then a classifier has been asked, and one that answers at once has answered."""

_ENCODER = msgspec.json.Encoder(order="deterministic")


class SharedClassifiers:
    """Asks the ladder once for all who ask the same; belongs to one event loop."""

    def __init__(
        self,
        ladder: Ladder,
        *,
        max_in_flight: int,
        cache_seconds: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At most `max_in_flight` decisions wait at once; a verdict serves identical requests for `cache_seconds`,
        which is asked each time, because it may change."""
        self.ladder = ladder
        self.max_in_flight = max_in_flight
        self.waiting = 0
        """Decisions that wait for a classifier now."""
        self._clock = clock
        self._recent: Recent[Classification] = Recent(cache_seconds, clock)
        self._calls: SharedCalls[Classification] = SharedCalls(clock)

    async def classify(
        self,
        brief: Brief,
        based_on: Hashable,
        *,
        deadline: float,
        left: Left | None,
        meanwhile: Callable[[], object] | None = None,
    ) -> tuple[Classification, bool]:
        """A verdict, or the failures that say why there is none; and whether it was made for another request.

        Requests are identical where all is the same but the scheduler's own id, the time allowed and what is shown,
        and where they are `based_on` the same. `meanwhile` is called soon after a classifier was asked, unless it has
        answered by then: what is done in that time need not be done after it. Raises OverloadedError, CallerLeftError
        where `left` tells so, and with `strict` ClassifierFailedError and DeadlineExceededError.
        """
        task, eligible = brief.task, brief.eligible
        key = (_digest(task), based_on)
        recent = self._recent.get(key)
        if recent is not None and recent.classified is not None and recent.classified.verdict.candidate in eligible:
            return _passed_on(recent), True
        if not self.ladder.answering(task, deadline=deadline):
            return await self.ladder.classify(brief, deadline=deadline), False  # nothing is waited for
        if self.waiting >= self.max_in_flight:
            raise OverloadedError(f"{self.waiting} decisions wait for a classifier already")
        same_call = (key, task.deadline_ms, task.strict, tuple(c.key for c in eligible))
        deadline = give_up_by(deadline, now=self._clock(), waiting=self.waiting)
        self.waiting += 1
        timer = asyncio.get_running_loop().call_later(ASKED_SECONDS, meanwhile) if meanwhile else None
        try:
            found, joined = await self._share(same_call, brief, deadline, left() if left else None)
        finally:
            self.waiting -= 1
            if timer:
                timer.cancel()
        if found is None:
            return self._out_of_time(task), False
        if found.classified is not None and not found.degraded:
            self._recent.put(key, found)
        return (_passed_on(found), found.classified is not None) if joined else (found, False)

    def wake(self) -> None:
        """Those that rest are asked again, also where a Retry-After had them rest for an hour."""
        for stage in self.ladder.stages:
            stage.breaker.wake()

    async def hurry(self) -> None:
        """Ends the classifications under way: who waits for one is answered by the forecast now."""
        await self._calls.aclose()

    async def aclose(self) -> None:
        await self.hurry()
        await self.ladder.aclose()

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

    def _out_of_time(self, task: Task) -> Classification:
        """The last guard, where a classifier did not keep to its time."""
        source = self.ladder.stages_for(task)[0].classifier.source
        failure = Failure(source=source, problem="timeout", detail="no verdict before the deadline")
        if task.strict:
            raise DeadlineExceededError(f"{source} did not answer in time", failures=[failure])
        return Classification(failures=[failure])


def _passed_on(found: Classification) -> Classification:
    """The same for another request, which spent neither tokens nor time of a classifier on it."""
    return replace(found, usage=Usage(), seconds={})


def _digest(task: Task) -> bytes:
    same = msgspec.structs.replace(task, task_id=None, deadline_ms=None, explain=False, strict=False)
    return hashlib.blake2b(_ENCODER.encode(same), digest_size=16).digest()
