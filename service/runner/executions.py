"""Executions: tasks that callers have this service run, from `queued` to their end, kept in the store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta

from service.errors import NotFoundError, OverloadedError, StoreUnavailableError
from service.ids import uuid7
from service.runner.local import Job, LocalRunner, RunResult
from service.runner.logs import LogFolder
from service.runner.stream_json import LogFile, StreamJson
from service.settings import ExecutionSettings
from service.store import Execution, ExecutionState, Store
from service.task import Labels, Name

TICK_SECONDS = 3.0
"""How often a replica says that it is alive, and looks whether another one cancelled what runs here."""

LOST_SECONDS = 60.0
"""A replica that was not seen for so long is dead, and what it left open is closed by another one."""

RETRY_AFTER_SECONDS = 30
_CANCEL_SECONDS = 5.0


class ExecutionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/executions`."""

    instructions: Annotated[str, Meta(min_length=1, max_length=200_000)]
    name: Annotated[str, Meta(max_length=300)] = ""
    task_id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    labels: Labels = {}
    model: Name | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None


@dataclass(slots=True)
class _Live:
    """One that is queued or running here, or whose end is not in the store yet."""

    execution: Execution
    task: "asyncio.Task[None] | None" = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False

    def tell(self) -> None:
        """Wakes those who follow."""
        self.news.set()
        self.news = asyncio.Event()


class Executions:
    """At most `max_concurrency` run and `max_queued` wait; belongs to one event loop.

    `owner` names this replica's log folder; what the store has open under it when this starts was left by a crash.
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
        new_id: Callable[[], str] = uuid7,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        self._store = store
        self._runner = runner
        self.logs = logs
        self._settings = settings
        self._default_model = default_model
        self._now = now
        self._new_id = new_id
        self._tick_seconds = tick_seconds
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._live: dict[str, _Live] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._closing = False
        self._recovered = False
        self._log = structlog.get_logger("pointsman.execution")

    @property
    def running(self) -> int:
        """How many run now."""
        return sum(live.execution.state == "running" for live in self._live.values())

    @property
    def queued(self) -> int:
        """How many wait for a slot."""
        return sum(live.execution.state == "queued" for live in self._live.values())

    async def start(self) -> None:
        """Closes what a crash left open, then tends in the background; a store that is away is tried again."""
        self.logs.claim()
        await self._tend()
        self._ticker = asyncio.create_task(self._tick())

    async def aclose(self) -> None:
        """Ends what runs here as `interrupted`."""
        self._closing = True
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait({self._ticker})
        tasks = {live.task for live in self._live.values() if live.task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
        self.logs.release()

    async def create(self, request: ExecutionRequest) -> Execution:
        """Queues it, kept in the store before this returns; of the same `task_id` within the window, the earlier one.

        Raises OverloadedError where the queue is full, StoreUnavailableError where it cannot be kept.
        """
        if self.running + self.queued >= self._settings.max_concurrency + self._settings.max_queued:
            raise OverloadedError("the queue of executions is full", retry_after_seconds=RETRY_AFTER_SECONDS)
        now = self._now()
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
        live = self._live[execution.execution_id] = _Live(execution)  # takes its place in the queue at once
        try:
            window = timedelta(seconds=self._settings.idempotency_seconds)
            kept = await self._store.create_execution(execution, window=window)
        except BaseException:
            del self._live[execution.execution_id]
            raise
        if kept.execution_id != execution.execution_id:
            del self._live[execution.execution_id]
            return kept
        job = Job(
            execution_id=execution.execution_id,
            name=request.name,
            instructions=request.instructions,
            labels=request.labels,
            model=execution.model,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
        )
        live.task = asyncio.create_task(self._work(live, job))
        return execution

    async def get(self, execution_id: str) -> Execution:
        """Its state now. Raises NotFoundError, or StoreUnavailableError for one that is not live here."""
        live = self._live.get(execution_id)
        if live is not None:
            return live.execution
        found = await self._store.execution(execution_id)
        if found is None:
            raise NotFoundError(f"there is no execution {execution_id[:80]!r}")
        return found

    async def cancel(self, execution_id: str) -> Execution:
        """Cancels it where it has not ended; one of another replica is cancelled there within a few seconds."""
        execution = await self.get(execution_id)
        if execution.ended_at is not None:
            return execution
        live = self._live.get(execution_id)
        if live is None or live.task is None:
            ended = msgspec.structs.replace(execution, state="cancelled", ended_at=self._now(), exit_reason="cancelled")
            await self._store.update_execution(ended)
            return await self.get(execution_id)
        live.cancelled = True
        live.task.cancel()
        await asyncio.wait({live.task}, timeout=_CANCEL_SECONDS)
        return live.execution

    async def follow(self, execution_id: str) -> AsyncIterator[bytes]:
        """The log as it is and as it grows, until the execution has ended. Raises NotFoundError."""
        execution = await self.get(execution_id)
        position = 0
        while True:
            live = self._live.get(execution_id)
            news = live.news if live else None
            ended = execution.ended_at is not None
            while chunk := self.logs.read(execution_id, position):
                position += len(chunk)
                yield chunk
            if ended:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0 if news else 0.25):
                    await (news.wait() if news else asyncio.Event().wait())
            with contextlib.suppress(StoreUnavailableError):
                execution = live.execution if live else await self.get(execution_id)

    async def _work(self, live: _Live, job: Job) -> None:
        """One execution from the queue to its end; never raises but CancelledError."""
        result: RunResult | None = None
        log: LogFile | None = None
        try:
            async with self._slots:
                await self._update(live, state="running", started_at=self._now())
                try:
                    log = self.logs.open(job.execution_id)
                except OSError as error:
                    await self._end(live, "failed", "log-not-writable")
                    self._log.error("log not writable", execution_id=job.execution_id, why=error.strerror)
                    return
                result = await self._runner.run(
                    job, log, on_line=lambda _: live.tell(), why_cancelled=lambda: self._why(live)
                )
                await self._end(live, "succeeded" if result.succeeded else "failed", result.exit_reason, result)
        except asyncio.CancelledError:
            if log is None:
                self._close_log(job, self._why(live))
            state: ExecutionState = "cancelled" if live.cancelled else "interrupted"
            await asyncio.shield(self._end(live, state, self._why(live)))
            raise
        finally:
            if log is not None:
                log.close()
            await asyncio.shield(asyncio.to_thread(self.logs.rotate, self._settings, frozenset(self._live)))

    def _why(self, live: _Live) -> str:
        return "cancelled" if live.cancelled else "shutdown"

    def _close_log(self, job: Job, why: str) -> None:
        """A run that never began ends in a `result` line too."""
        with contextlib.suppress(OSError):
            self.logs.close_with_result(StreamJson(job.execution_id, job.model), job.execution_id, why)

    async def _end(self, live: _Live, state: ExecutionState, reason: str, result: RunResult | None = None) -> None:
        figures = (
            {"tokens_in": result.tokens_in, "tokens_out": result.tokens_out, "model": result.model} if result else {}
        )
        await self._update(live, state=state, ended_at=self._now(), exit_reason=reason, **figures)
        execution = live.execution
        self._log.info(
            "execution ended",
            execution_id=execution.execution_id,
            task_id=execution.task_id,
            state=state,
            exit_reason=reason,
            tokens_in=execution.tokens_in,
            tokens_out=execution.tokens_out,
        )

    async def _update(self, live: _Live, **changes: object) -> None:
        """In memory at once, in the store now or, where it is away, at a later tick."""
        live.execution = msgspec.structs.replace(live.execution, **changes)
        live.tell()
        with contextlib.suppress(StoreUnavailableError):
            await self._store.update_execution(live.execution)
            if live.execution.ended_at is not None:
                self._live.pop(live.execution.execution_id, None)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            try:
                await self._tend()
            except Exception as error:  # noqa: BLE001 - a defect here must not end all tending, and is logged
                self._log.error("defect", exc_info=error)

    async def _tend(self) -> None:
        with contextlib.suppress(StoreUnavailableError):
            await self._recover()
            await self._store.mark_seen(self.logs.owner)
            for live in list(self._live.values()):
                if live.execution.ended_at is not None:
                    await self._update(live)
                elif live.task is not None:
                    kept = await self._store.execution(live.execution.execution_id)
                    if kept is not None and kept.ended_at is not None:
                        live.cancelled = True
                        live.task.cancel()

    async def _recover(self) -> None:
        """Closes as `interrupted` what a crash of this replica left open, or what a lost replica did."""
        lost = await self._store.open_executions(unseen_since=self._now() - timedelta(seconds=LOST_SECONDS))
        if not self._recovered and self.logs.alone:
            lost += await self._store.open_executions(owner=self.logs.owner)
        for execution in {e.execution_id: e for e in lost if e.execution_id not in self._live}.values():
            with contextlib.suppress(OSError):
                lines = StreamJson(execution.execution_id, execution.model)
                self.logs.close_with_result(lines, execution.execution_id, "interrupted")
            ended = msgspec.structs.replace(
                execution, state="interrupted", ended_at=self._now(), exit_reason="process-died"
            )
            await self._store.update_execution(ended)
        self._recovered = True
