"""How one request ends without being cancelled.

Cancelling a request of httpx from outside can leave its pool full for good (encode/httpcore#1093), and its timeouts
start anew with each read, so that a server which sends a byte a second holds a request for ever. So every read, write
and connect of a request runs under its `Lease`: they end by its deadline, or at once when it is given up. To httpcore
that is an ordinary timeout of the network, after which it closes the connection and keeps its books.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

from service.llm.errors import LLMTimeoutError

T = TypeVar("T")


class Lease:
    """When one request must end, the means to end it earlier, and what is known of how far it got.

    `deadline` is a time of `clock`, in seconds. To be used in one event loop.
    """

    def __init__(self, deadline: float, clock: Callable[[], float]) -> None:
        self.deadline = deadline
        self.allowed_seconds = max(0.0, deadline - clock())
        self.server_seconds = 0.0
        self.phase = "waiting for the answer"
        self.connected = False
        self.bytes_sent = 0
        self.bytes_received = 0
        self.given_up = False
        self._clock = clock
        self._read_until = deadline
        self._read_seconds = 0.0
        self._scope: asyncio.Timeout | None = None

    def remaining(self) -> float:
        """Seconds to the deadline; 0 where it has passed."""
        return max(0.0, self.deadline - self._clock())

    def begin(self) -> None:
        """The wait for a slot is over: what is left now is the server's."""
        self.server_seconds = self.remaining()

    def read_within(self, seconds: float) -> None:
        """From now on, what is read must come within `seconds`; the deadline stays."""
        self._read_until = min(self.deadline, self._clock() + seconds)
        self._read_seconds = seconds

    @property
    def over(self) -> bool:
        """True where the request has to end now."""
        return self.given_up or self._clock() >= self._read_until

    @property
    def stale(self) -> bool:
        """True where the request went out on a kept-alive connection and not one byte came back."""
        return self.bytes_sent > 0 and not self.connected and self.bytes_received == 0

    def timed_out(self) -> LLMTimeoutError:
        """The error for the end of this lease: what the request was doing when its time ran out."""
        if self.given_up:
            return LLMTimeoutError("the request was given up before its answer was complete", problem="given-up")
        if self._read_until < self.deadline:
            return LLMTimeoutError(f"nothing came for {self._read_seconds:g} s", problem="idle-timeout")
        return LLMTimeoutError(
            f"no answer within {self.allowed_seconds:.1f} s; the time ran out while {self.phase}",
            server_seconds=self.server_seconds,
        )

    def give_up(self) -> None:
        """Ends what the request waits for now and whatever it would wait for next. Never blocks, never raises."""
        self.given_up = True
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def bounded(self, wait: Callable[[], Awaitable[T]], *, limit: float | None, error: type[Exception]) -> T:
        """Awaits `wait()` until the lease ends or `limit` seconds are over, and then raises `error`."""
        if self.over:
            raise error
        seconds = self._read_until - self._clock()
        if limit is not None:
            seconds = min(seconds, limit)
        try:
            async with asyncio.timeout(seconds) as self._scope:
                return await wait()
        except TimeoutError:
            raise error from None
        finally:
            self._scope = None


LEASE: ContextVar[Lease] = ContextVar("pointsman_llm_lease")
"""The lease of the request that runs in this task; each request has a task, and so a context, of its own."""
