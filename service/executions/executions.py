"""Executions: tasks that callers have this service run, from `queued` to their end, kept in the store."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any

import msgspec
import structlog

from service.base.background import Background
from service.base.clock import Clocks
from service.base.ids import uuid7
from service.contract.errors import NotFoundError, OverloadedError, StoreUnavailableError
from service.contract.execution import Execution, ExecutionRequest
from service.contract.settings import ExecutionSettings
from service.executions.local_runner import LocalRunner, RunResult
from service.executions.log_file import LogError
from service.executions.log_folder import CHUNK, LogFolder
from service.executions.runs import Run, Runs
from service.executions.summary import Summary, read_summary
from service.executions.upkeep import UPKEEP_SECONDS, Upkeep
from service.logs.lines import log_defect
from service.store.executions import ExecutionTable

RETRY_AFTER_SECONDS = 30
_CANCEL_SECONDS = 5.0
_POLL_SECONDS = 0.025
"""How often the log of another process is looked at for those who follow it here."""
_REREAD_SECONDS = 1.0
"""How often they are told by the store whether it has ended there."""
_SYSTEM_CLOCKS = Clocks()


class Executions:
    """At most `max_concurrency` run and `max_queued` wait; belongs to one event loop.

    `logs.owner` names this process; what the store has open under that name and does not run here was left by a crash.
    """

    def __init__(
        self,
        table: ExecutionTable,
        runner: LocalRunner,
        logs: LogFolder,
        settings: ExecutionSettings,
        *,
        clocks: Clocks = _SYSTEM_CLOCKS,
        upkeep_seconds: float = UPKEEP_SECONDS,
        ended: Callable[[Execution], None] = lambda _: None,
    ) -> None:
        """`ended` is told of each that ran here and came to its end, or was found dead."""
        self.logs = logs
        self._table = table
        self._runner = runner
        self._settings = settings
        self._clocks = clocks
        self._ended = ended
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._runs = Runs()
        self._closing = False
        self._closed: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()
        self._upkeep = Upkeep(self._runs, table, logs, settings, clocks=clocks, ended=ended)
        self._background = Background(
            self._upkeep.once, every_seconds=upkeep_seconds, defect=lambda error: log_defect(self._log, error)
        )
        self._log = structlog.get_logger("pointsman.execution")

    @property
    def running(self) -> int:
        return self._runs.count("running")

    @property
    def queued(self) -> int:
        return self._runs.count("queued")

    async def start(self) -> None:
        """Closes what a crash left open, then goes on in the background; a store that is away is tried again."""
        self.logs.claim()
        await self._upkeep.once()
        self._background.start()

    async def aclose(self, *, grace_seconds: float = 0.0) -> None:
        """Takes no more, ends what waits as `interrupted`, and after `grace_seconds` what still runs; those who follow
        see that. Twice is once: whoever comes later waits for the end of the first.
        """
        self._closing = True
        if self._closed is None:
            self._closed = asyncio.create_task(self._close(grace_seconds))
        await asyncio.wait({self._closed})
        self._closed.result()

    def hurry(self) -> None:
        """What still runs in the grace of `aclose` is interrupted now."""
        self._hurried.set()

    async def _close(self, grace_seconds: float) -> None:
        for run in self._runs.values():
            if run.execution.state == "queued":
                run.end("interrupted", "shutdown")
        endings = {run.ending for run in self._runs.values() if run.ending is not None}
        if endings and grace_seconds > 0:
            all_ended = asyncio.create_task(asyncio.wait(endings))
            hurried = asyncio.create_task(self._hurried.wait())
            both = {all_ended, hurried}
            await asyncio.wait(both, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in both:
                task.cancel()
        await self._background.aclose()
        for run in self._runs.values():
            run.end("interrupted", "shutdown")
        endings = {run.ending for run in self._runs.values() if run.ending is not None}
        if endings:
            _, late = await asyncio.wait(endings, timeout=_CANCEL_SECONDS)
            for ending in late:
                ending.cancel()
        self.logs.release()

    async def create(self, request: ExecutionRequest) -> Execution:
        """Queues it, kept in the store before this returns. The same request under the same `task_id` is the earlier
        one, while that is under way or has succeeded within the window.

        Raises OverloadedError where the queue is full, StoreUnavailableError where it cannot be kept.
        """
        now = self._clocks.now()
        window = timedelta(seconds=self._settings.idempotency_seconds) or None
        execution = Execution(
            execution_id=uuid7(),
            task_id=request.task_id,
            name=request.name,
            model=request.model or self._runner.model,
            state="queued",
            created_at=now,
            owner=self.logs.owner,
            seen_at=now,
            request_digest=request.digest,
        )
        if self.running + self.queued >= self._settings.max_concurrency + self._settings.max_queued or self._closing:
            if window is not None and request.task_id is not None:
                earlier = await self._table.same(execution, window=window)
                if earlier is not None:
                    return earlier
            why = "the service is shutting down" if self._closing else "the queue of executions is full"
            raise OverloadedError(why, retry_after_seconds=RETRY_AFTER_SECONDS)
        run = self._runs[execution.execution_id] = Run(execution)  # takes its place in the queue at once
        try:
            kept = await self._table.create(execution, window=window)
            known = self._runs.get(kept.execution_id)
            if known is not None and known.execution.ended_at is not None:
                await self._runs.save(known, self._table)  # the store has not heard of its end, and it may have failed
                kept = await self._table.create(execution, window=window)
        except BaseException:
            # It may be in the store all the same, or get there: then the upkeep closes it.
            del self._runs[execution.execution_id]
            raise
        if kept.execution_id != execution.execution_id:
            del self._runs[execution.execution_id]
            return self._runs[kept.execution_id].execution if kept.execution_id in self._runs else kept
        run.stored = execution
        run.work = asyncio.create_task(self._work(run, request))
        run.ending = asyncio.create_task(self._end(run, run.work))
        if self._closing:
            run.end("interrupted", "shutdown")
        return execution

    def runs_here(self, execution_id: str) -> bool:
        """Whether it is queued or running in this process."""
        run = self._runs.get(execution_id)
        return run is not None and run.execution.ended_at is None

    async def get(self, execution_id: str) -> Execution:
        """Its state now. Raises NotFoundError, or StoreUnavailableError for one that does not run here."""
        run = self._runs.get(execution_id)
        if run is not None:
            return run.execution
        found = await self._table.get(execution_id)
        if found is None:
            raise NotFoundError(f"there is no execution {execution_id[:80]!r}")
        return found

    async def newest(self, *, limit: int, before: str | None, task_id: str | None) -> list[Execution]:
        """Newest first, those of all replicas; `before` is an execution_id, exclusive."""
        found = await self._table.newest(limit=limit, before=before, task_id=task_id)
        return [self._runs[one.execution_id].execution if one.execution_id in self._runs else one for one in found]

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
        run = self._runs.get(execution_id)
        if run is None or run.ending is None:
            ended_at = self._clocks.now()
            ended = msgspec.structs.replace(execution, state="cancelled", ended_at=ended_at, exit_reason="cancelled")
            await self._table.update(ended)
            return await self.get(execution_id)
        run.end("cancelled", "cancelled")
        await asyncio.wait({run.ending}, timeout=_CANCEL_SECONDS)
        return run.execution

    async def log(self, execution_id: str, *, follow: bool) -> AsyncGenerator[bytes]:
        """The log as it is and, with `follow`, as it grows until the execution has ended. Raises NotFoundError."""
        run, execution, read_at = self._runs.get(execution_id), await self.get(execution_id), self._clocks.monotonic()
        file = None
        try:
            while True:
                news = run.news if run else None
                ended = (run.execution if run else execution).ended_at is not None
                file = file or self.logs.reader(execution_id)
                while file is not None:
                    # What was written here a moment ago is in memory; the rest may have to come from a disk.
                    chunk = file.read(CHUNK) if run else await asyncio.to_thread(file.read, CHUNK)
                    if not chunk:
                        break
                    yield chunk
                    await asyncio.sleep(0)
                if ended or not follow:
                    return
                if news is not None:
                    await news.wait()
                    continue
                await asyncio.sleep(_POLL_SECONDS)
                if self._clocks.monotonic() >= read_at + _REREAD_SECONDS:
                    read_at = self._clocks.monotonic()
                    with contextlib.suppress(StoreUnavailableError):
                        execution = await self.get(execution_id)
        finally:
            if file is not None:
                file.close()

    async def _work(self, run: Run, request: ExecutionRequest) -> RunResult:
        """Waits for its turn and runs; may be cancelled at any moment. Raises LogError."""
        async with self._slots:
            run.execution = msgspec.structs.replace(run.execution, state="running", started_at=self._clocks.now())
            run.tell()
            await self._runs.save(run, self._table)
            execution_id = run.execution.execution_id
            with contextlib.closing(self.logs.open(execution_id)) as log:
                return await self._runner.run(
                    execution_id, request, log, on_line=lambda _: run.tell(), why_cancelled=lambda: run.stop[1]
                )

    async def _end(self, run: Run, work: "asyncio.Task[RunResult]") -> None:
        """Waits for its end, however it ends, and writes that down."""
        await asyncio.wait({work})
        execution, figures = run.execution, dict[str, Any]()
        if work.cancelled():
            state, reason = run.stop
            await self.logs.finish(execution.execution_id, execution.model, reason)
        elif isinstance(error := work.exception(), LogError):
            state, reason = "failed", "log-not-writable"
            self._log.error("log not writable", execution_id=execution.execution_id, why=str(error))
        elif error is not None:
            state, reason = "failed", "internal"
            log_defect(self._log, error)
            await self.logs.finish(execution.execution_id, execution.model, reason)
        else:
            result = work.result()
            state, reason = "succeeded" if result.succeeded else "failed", result.exit_reason
            figures = {"tokens_in": result.tokens_in or 0, "tokens_out": result.tokens_out or 0, "model": result.model}
        run.execution = execution = msgspec.structs.replace(
            execution, state=state, ended_at=self._clocks.now(), exit_reason=reason, **figures
        )
        run.tell()
        self._ended(execution)
        self._upkeep.rotate_soon()
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
            await self._runs.save(run, self._table)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises: the upkeep tries again
            log_defect(self._log, error)
