"""Identical classifications share one: those under way at the same moment, and those of moments ago."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Left = Callable[[], "asyncio.Future[None]"]
"""Gives the future that is done once the caller went away; asked for only when there is something to wait for."""

MAX_RECENT = 1024
"""Answers kept; each is a verdict, its prompt and the head of its reply: 10 KB as a rule, 100 KB at the worst."""


class Recent(Generic[T]):
    """Values of the last `seconds()` (on `clock`), at most `MAX_RECENT`; the oldest go first."""

    def __init__(self, seconds: Callable[[], float], clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """The value kept under `key`, or None where there is none, or none so young."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        kept_at, value = entry
        if self._clock() - kept_at >= self._seconds():
            del self._kept[key]
            return None
        return value

    def put(self, key: Hashable, value: T) -> None:
        """Keeps `value`; nothing, and nothing of before either, where `seconds` is 0."""
        seconds = self._seconds()
        if seconds <= 0:
            self._kept.clear()
            return
        self._kept.pop(key, None)
        self._kept[key] = (self._clock(), value)
        while self._kept and (
            len(self._kept) > MAX_RECENT or self._clock() - next(iter(self._kept.values()))[0] >= seconds
        ):
            self._kept.popitem(last=False)


class CallerLeftError(Exception):
    """Whoever asked is gone: nobody waits for an answer any more, and none was made."""


class _SharedCall(Generic[T]):
    def __init__(self, task: "asyncio.Task[T]", began: float) -> None:
        self.task = task
        self.began = began
        self.waiting = 0


class SharedCalls(Generic[T]):
    """One piece of work for each key at a time; it is cancelled when the last one who waits for it goes away."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: dict[Hashable, _SharedCall[T]] = {}

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._calls)

    def began(self, key: Hashable) -> float | None:
        """When (on the clock) the one began that `share` would join; None where it would begin one."""
        call = self._calls.get(key)
        return None if call is None else call.began

    async def share(
        self,
        key: Hashable,
        work: Callable[[], Coroutine[Any, Any, T]],
        *,
        timeout_seconds: float,
        left: "asyncio.Future[None] | None" = None,
    ) -> T | None:
        """The result of `work`, begun here or already under way. What it raises is raised to each who waits.

        None where it takes longer than the time given, or is cut short by `aclose`. CallerLeftError as soon as `left`
        is done, where it is given: the future that tells that this caller went away.
        """
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _SharedCall(asyncio.create_task(work()), self._clock())
            call.task.add_done_callback(lambda _: self._ended(key, call))
        call.waiting += 1
        watched: set[asyncio.Future[Any]] = {call.task} if left is None else {call.task, left}
        try:
            await asyncio.wait(watched, timeout=max(0.0, timeout_seconds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            call.waiting -= 1
            if call.waiting == 0 and not call.task.done():
                self._ended(key, call)
                call.task.cancel()
        if call.task.done():
            return None if call.task.cancelled() else call.task.result()
        if left is not None and left.done():
            raise CallerLeftError
        return None

    async def aclose(self) -> None:
        """Cancels what is under way and waits for its end."""
        tasks = [call.task for call in self._calls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: Hashable, call: "_SharedCall[T]") -> None:
        if self._calls.get(key) is call:
            del self._calls[key]
        if call.task.done() and not call.task.cancelled():
            call.task.exception()  # retrieved, so that a call which all have left does not warn
