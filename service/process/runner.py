"""Runs programs for coroutines: so many at once, so many waiting, each within its time."""

import asyncio
import time
from collections.abc import Callable

from service.process.errors import ProcessError, ProcessTimeoutError
from service.process.job import Job, Limits, ProcessResult
from service.process.run import Run

CLOSE_SECONDS = 10.0
"""How long `aclose` waits for what will not end."""


class ProcessRunner:
    """At most `max_concurrency` programs run at once and `max_waiting` wait; belongs to one event loop.

    A slot is free again only when its program, all that it started and its directory are gone.
    """

    def __init__(self, *, max_concurrency: int = 2, max_waiting: int = 16, limits: Limits | None = None) -> None:
        self._max_concurrency = max_concurrency
        self._max_waiting = max_waiting
        self._limits = limits or Limits()
        self._slots = asyncio.Semaphore(max_concurrency)
        self._active: dict[Run, asyncio.Event] = {}
        self._closed = False
        self.waiting = 0
        """Runs that wait for a slot now."""

    @property
    def running(self) -> int:
        """Programs that run now or are being ended."""
        return len(self._active)

    async def run(self, job: Job) -> ProcessResult:
        """Runs the job's program until it has ended.

        Whatever way it ends is a result; what hinders that is a ProcessError, raised at once: cleaning up goes on
        behind it, as it does when the caller is cancelled.
        """
        deadline = time.monotonic() + job.timeout_seconds
        await self._take_slot(job.timeout_seconds)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[ProcessResult | ProcessError] = loop.create_future()

        def deliver(outcome: ProcessResult | ProcessError) -> None:
            _call(loop, lambda: None if answer.done() else answer.set_result(outcome))

        def free() -> None:
            if not answer.done():  # a defect in the thread: whoever waits is told all the same
                answer.set_result(ProcessError("cannot-start", f"the run of {job.name} broke off"))
            self._slots.release()
            self._active.pop(run).set()

        run = Run(job, self._limits, deadline=deadline, deliver=deliver, gone=lambda: _call(loop, free))
        self._active[run] = asyncio.Event()
        try:
            run.start()
        except RuntimeError as error:
            free()
            raise ProcessError("cannot-start", f"{job.name} cannot be started: {error}") from None
        try:
            outcome = await answer
        finally:
            run.stop()  # nothing to stop where it has ended; where the caller left, this is what ends it
        if isinstance(outcome, ProcessError):
            raise outcome
        return outcome

    async def settle(self) -> None:
        """Waits until nothing runs any more, cleaning up included."""
        while self._active:
            await next(iter(self._active.values())).wait()

    async def aclose(self) -> None:
        """Ends what runs, refuses what waits, and returns when nothing is left (or after 10 s, if it will not end)."""
        self._closed = True
        for run in list(self._active):
            run.stop()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.settle()
        except TimeoutError:
            return

    async def _take_slot(self, timeout_seconds: float) -> None:
        self._refuse_when_closed()
        if self._slots.locked() and self.waiting >= self._max_waiting:
            runs = f"{self._max_concurrency} run already and {self.waiting} wait"
            raise ProcessError("queue-full", f"{runs}, which is as many as may")
        self.waiting += 1
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise ProcessTimeoutError(
                f"waited {timeout_seconds:.3g} s in vain for one of {self._max_concurrency} slots, all of them taken"
            ) from None
        finally:
            self.waiting -= 1
        if self._closed:
            self._slots.release()
            self._refuse_when_closed()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ProcessError("stopped", "the service is shutting down")


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return
