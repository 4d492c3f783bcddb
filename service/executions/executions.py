"""Executions: tasks that callers have this service run, from `queued` to their end, kept in the store."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta

import msgspec
import structlog

from service.base.ids import uuid7
from service.contract.errors import NotFoundError, OverloadedError, StoreUnavailableError
from service.contract.execution import Execution, ExecutionRequest
from service.contract.settings import ExecutionSettings
from service.executions.live import Live, LiveOnes
from service.executions.local_runner import Job, LocalRunner, RunResult
from service.executions.log_file import LogError
from service.executions.log_folder import CHUNK, LogFolder
from service.executions.summary import Summary, read_summary
from service.executions.tending import TICK_SECONDS, Tender
from service.logs.lines import log_defect
from service.store import Store

RETRY_AFTER_SECONDS = 30
_CANCEL_SECONDS = 5.0
_POLL_SECONDS = 0.025
"""How often the log of another process is looked at for those who follow it here."""


class Executions:
    """At most `max_concurrency` run and `max_queued` wait; belongs to one event loop.

    `logs.owner` names this process; what the store has open under that name and is not live here was left by a crash.
    """

    def __init__(
        self,
        store: Store,
        runner: LocalRunner,
        logs: LogFolder,
        settings: ExecutionSettings,
        *,
        default_model: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = uuid7,
        tick_seconds: float = TICK_SECONDS,
        ended: Callable[[Execution], None] = lambda _: None,
    ) -> None:
        """`ended` is told of each that ran here and came to its end, or was found dead."""
        self._store = store
        self._runner = runner
        self.logs = logs
        self._settings = settings
        self._default_model = default_model
        self._now = now
        self._clock = clock
        self._new_id = new_id
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._live = LiveOnes()
        self._closing = False
        self._ended = ended
        self._tender = Tender(
            store, self._live, logs, settings, now=now, clock=clock, tick_seconds=tick_seconds, ended=ended
        )
        self._log = structlog.get_logger("pointsman.execution")

    @property
    def running(self) -> int:
        """How many run now."""
        return self._live.count("running")

    @property
    def queued(self) -> int:
        """How many wait for a slot."""
        return self._live.count("queued")

    async def start(self) -> None:
        """Closes what a crash left open, then tends in the background; a store that is away is tried again."""
        self.logs.claim()
        await self._tender.start()

    async def aclose(self) -> None:
        """Takes no more and ends what runs here as `interrupted`; those who follow see that. Twice is once."""
        self._closing = True
        await self._tender.aclose()
        for live in self._live.values():
            live.end("interrupted", "shutdown")
        keepers = {live.keeper for live in self._live.values() if live.keeper is not None}
        if keepers:
            _, late = await asyncio.wait(keepers, timeout=_CANCEL_SECONDS)
            for keeper in late:
                keeper.cancel()
        self.logs.release()

    async def create(self, request: ExecutionRequest) -> Execution:
        """Queues it, kept in the store before this returns; of the same `task_id` within the window, the earlier one.

        Raises OverloadedError where the queue is full, StoreUnavailableError where it cannot be kept.
        """
        now = self._now()
        window = timedelta(seconds=self._settings.idempotency_seconds) or None
        if self.running + self.queued >= self._settings.max_concurrency + self._settings.max_queued or self._closing:
            if window is not None and request.task_id is not None:
                earlier = await self._store.executions.of_task(request.task_id, since=now - window)
                if earlier is not None:
                    return earlier
            why = "the service is shutting down" if self._closing else "the queue of executions is full"
            raise OverloadedError(why, retry_after_seconds=RETRY_AFTER_SECONDS)
        execution = Execution(
            execution_id=self._new_id(),
            task_id=request.task_id,
            name=request.name,
            model=request.model or self._default_model,
            state="queued",
            created_at=now,
            owner=self.logs.owner,
            seen_at=now,
        )
        live = self._live[execution.execution_id] = Live(execution)  # takes its place in the queue at once
        try:
            kept = await self._store.executions.create(execution, window=window)
        except BaseException:
            # It may be in the store all the same, or get there: then the next tick closes it.
            del self._live[execution.execution_id]
            raise
        if kept.execution_id != execution.execution_id:
            del self._live[execution.execution_id]
            return self._live[kept.execution_id].execution if kept.execution_id in self._live else kept
        live.stored = execution
        job = Job(
            execution_id=execution.execution_id,
            name=request.name,
            instructions=request.instructions,
            labels=request.labels,
            model=execution.model,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
        )
        live.run = asyncio.create_task(self._run(live, job))
        live.keeper = asyncio.create_task(self._keep(live, live.run))
        if self._closing:
            live.end("interrupted", "shutdown")
        return execution

    def is_live(self, execution_id: str) -> bool:
        """Whether it is queued or running in this process."""
        live = self._live.get(execution_id)
        return live is not None and live.execution.ended_at is None

    async def get(self, execution_id: str) -> Execution:
        """Its state now. Raises NotFoundError, or StoreUnavailableError for one that is not live here."""
        live = self._live.get(execution_id)
        if live is not None:
            return live.execution
        found = await self._store.executions.get(execution_id)
        if found is None:
            raise NotFoundError(f"there is no execution {execution_id[:80]!r}")
        return found

    async def summary(self, execution_id: str) -> Summary | None:
        """What it came to, by its log; None where that is not here (any more)."""
        try:
            return await asyncio.to_thread(read_summary, self.logs.path(execution_id))
        except OSError:
            return None

    async def cancel(self, execution_id: str) -> Execution:
        """Cancels it where it has not ended; one of another replica is cancelled there within a few seconds."""
        execution = await self.get(execution_id)
        if execution.ended_at is not None:
            return execution
        live = self._live.get(execution_id)
        if live is None or live.keeper is None:
            ended = msgspec.structs.replace(execution, state="cancelled", ended_at=self._now(), exit_reason="cancelled")
            await self._store.executions.update(ended)
            return await self.get(execution_id)
        live.end("cancelled", "cancelled")
        await asyncio.wait({live.keeper}, timeout=_CANCEL_SECONDS)
        return live.execution

    async def follow(self, execution_id: str) -> AsyncGenerator[bytes]:
        """The log as it is and as it grows, until the execution has ended. Raises NotFoundError."""
        live, execution, looked = self._live.get(execution_id), await self.get(execution_id), self._clock()
        file = None
        try:
            while True:
                news = live.news if live else None
                ended = (live.execution if live else execution).ended_at is not None
                file = file or self.logs.reader(execution_id)
                while file is not None:
                    # What was written here a moment ago is in memory; the rest may have to come from a disk.
                    chunk = file.read(CHUNK) if live else await asyncio.to_thread(file.read, CHUNK)
                    if not chunk:
                        break
                    yield chunk
                    await asyncio.sleep(0)
                if ended:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if news else _POLL_SECONDS):
                        await (news or asyncio.Event()).wait()
                if live is None and self._clock() >= looked + 1:
                    looked = self._clock()
                    with contextlib.suppress(StoreUnavailableError):
                        execution = await self.get(execution_id)
        finally:
            if file is not None:
                file.close()

    async def _run(self, live: Live, job: Job) -> RunResult:
        """Waits for its turn and runs; may be cancelled at any moment. Raises LogError."""
        async with self._slots:
            live.execution = msgspec.structs.replace(live.execution, state="running", started_at=self._now())
            live.tell()
            await self._live.save(live, self._store)
            log = self.logs.open(job.execution_id)
            try:
                return await self._runner.run(
                    job, log, on_line=lambda _: live.tell(), why_cancelled=lambda: live.stop[1]
                )
            finally:
                log.close()

    async def _keep(self, live: Live, run: "asyncio.Task[RunResult]") -> None:
        """Waits for its end, however it ends, and writes that down."""
        await asyncio.wait({run})
        execution, result = live.execution, None
        if run.cancelled():
            state, reason = live.stop
            await self.logs.finished(execution.execution_id, execution.model, reason)
        elif (error := run.exception()) is not None:
            state, reason = "failed", "log-not-writable" if isinstance(error, LogError) else "internal"
            if isinstance(error, LogError):
                self._log.error("log not writable", execution_id=execution.execution_id, why=str(error))
            else:
                log_defect(self._log, error)
                await self.logs.finished(execution.execution_id, execution.model, reason)
        else:
            result = run.result()
            state, reason = "succeeded" if result.succeeded else "failed", result.exit_reason
        figures = (
            {"tokens_in": result.tokens_in or 0, "tokens_out": result.tokens_out or 0, "model": result.model}
            if result
            else {}
        )
        live.execution = execution = msgspec.structs.replace(
            execution, state=state, ended_at=self._now(), exit_reason=reason, **figures
        )
        live.tell()
        self._ended(execution)
        self._tender.rotate_soon()
        self._log.info(
            "execution ended",
            execution_id=execution.execution_id,
            task_id=execution.task_id,
            state=state,
            exit_reason=reason,
            tokens_in=execution.tokens_in,
            tokens_out=execution.tokens_out,
        )
        try:
            await self._live.save(live, self._store)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises: the next tick tries again
            log_defect(self._log, error)
