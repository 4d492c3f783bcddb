"""How many requests may be under way at once, and how a caller can leave one without cancelling it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from service.llm.errors import LLMRequestError, LLMTimeoutError
from service.llm.lease import LEASE, Lease

T = TypeVar("T")


class Slots:
    """At most `limit` requests at once, each in a task of its own that keeps its slot until it has really ended.

    Waiting for a slot may be cancelled. The request itself never is: a caller that leaves, or whose time runs out,
    gives the lease up, and the request ends by itself a moment later.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._semaphore = asyncio.Semaphore(limit)
        self._under_way: dict[asyncio.Task[Any], Lease] = {}
        self._closed = False
        self.waiting = 0

    @property
    def under_way(self) -> int:
        """How many requests hold a slot now, those that their callers left included."""
        return len(self._under_way)

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]], lease: Lease) -> T:
        """What `work()` returns or raises; LLMTimeoutError at the end of the lease, wherever `work` is by then."""
        await self._take(lease)
        lease.begin()
        task = asyncio.create_task(_leased(work, lease))
        self._under_way[task] = lease
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait({task}, timeout=lease.remaining())
        except asyncio.CancelledError:
            lease.give_up()
            raise
        if not task.done():
            error = lease.timed_out()
            lease.give_up()
            raise error
        return task.result()

    async def aclose(self, *, timeout_seconds: float) -> None:
        """Takes no more, waits at most `timeout_seconds` for what is under way, then gives the rest up."""
        self._closed = True
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=timeout_seconds)
        for lease in self._under_way.values():
            lease.give_up()
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=1.0)

    async def _take(self, lease: Lease) -> None:
        if self._closed:
            raise LLMRequestError("the client is closed", problem="closed")
        if lease.remaining() <= 0:
            raise LLMTimeoutError("no time was left to ask the model server")
        self.waiting += 1
        try:
            async with asyncio.timeout(lease.remaining()):
                await self._semaphore.acquire()
        except TimeoutError:
            raise LLMTimeoutError(
                f"all {self._limit} slots of the model server stayed busy for {lease.allowed_seconds:.1f} s",
                problem="queue-timeout",
            ) from None
        finally:
            self.waiting -= 1

    def _ended(self, task: asyncio.Task[Any]) -> None:
        del self._under_way[task]
        self._semaphore.release()
        if not task.cancelled():
            task.exception()  # looked at, because nobody else may be left to do so


async def _leased(work: Callable[[], Coroutine[Any, Any, T]], lease: Lease) -> T:
    LEASE.set(lease)
    return await work()
