"""What executions need while they run, and after a crash: a sign of life, news from other replicas, an end."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog

from service.contract.errors import StoreUnavailableError
from service.contract.execution import Execution, ExecutionState
from service.contract.settings import ExecutionSettings
from service.executions.live import Live, LiveOnes
from service.executions.log_folder import LogFolder
from service.logs.lines import log_defect
from service.store import Store

TICK_SECONDS = 3.0
"""How often a replica says that it is alive, and looks whether another one cancelled what runs here."""

LOST_SECONDS = 60.0
"""A replica that was not seen for so long is dead, and what it left open is closed by another one."""

GRACE_SECONDS = 15.0
"""After the store was away nobody has been seen for a while: the others get so long to say that they are alive."""

ROTATE_SECONDS = 600.0
"""How often logs are looked at for their age, also where nothing runs."""

_DIED = "process-died"
_STATES: dict[str, ExecutionState] = {"cancelled": "cancelled", "shutdown": "interrupted", _DIED: "interrupted"}
"""What an execution has come to whose log ends with this reason; with any other it has failed."""


class Tender:
    """Looks after the executions of this process, and after those of processes that died."""

    def __init__(
        self,
        store: Store,
        live: LiveOnes,
        logs: LogFolder,
        settings: ExecutionSettings,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        tick_seconds: float,
        ended: Callable[[Execution], None],
    ) -> None:
        self._store = store
        self._live = live
        self._logs = logs
        self._settings = settings
        self._now = now
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._ended = ended
        self._ticker: asyncio.Task[None] | None = None
        self._well_since: float | None = None
        self._rotate_at = float("-inf")
        self._log = structlog.get_logger("pointsman.execution")

    async def start(self) -> None:
        """Closes what a crash of this process left open, then goes on in the background."""
        await self.tend()
        self._ticker = asyncio.create_task(self._tick())

    async def aclose(self) -> None:
        """Ends that; twice is once."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait({self._ticker})

    def rotate_soon(self) -> None:
        """There is one log more."""
        self._rotate_at = float("-inf")

    async def tend(self) -> None:
        """All of it once; what the store cannot take now has to wait for the next time."""
        if self._clock() >= self._rotate_at:
            self._rotate_at = self._clock() + ROTATE_SECONDS
            await asyncio.to_thread(self._logs.rotate, self._settings)
        try:
            await self._tend_own()
            await self._close_lost()
        except StoreUnavailableError:
            self._well_since = None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            try:
                await self.tend()
            except Exception as error:  # noqa: BLE001 - a defect here must not end all tending, and is logged
                log_defect(self._log, error)

    async def _tend_own(self) -> None:
        known = dict(self._live)
        await self._store.executions.mark_seen(self._logs.owner)
        open_ones = {e.execution_id: e for e in await self._store.executions.unfinished(owner=self._logs.owner)}
        for execution_id, live in known.items():
            if live.unsaved:
                await self._live.save(live, self._store)
            elif live.keeper is not None and execution_id not in open_ones:
                await self._adopt_end(live)
        for execution_id, execution in open_ones.items():
            if execution_id not in known and execution_id not in self._live:
                await self._close(execution)

    async def _adopt_end(self, live: Live) -> None:
        """Another replica has ended it in the store."""
        kept = await self._store.executions.get(live.execution.execution_id)
        if kept is not None and kept.ended_at is not None:
            live.end(kept.state, kept.exit_reason or kept.state)

    async def _close_lost(self) -> None:
        """What replicas left open that nobody has seen for a while, by a store that has been there for a while."""
        if self._well_since is None:
            self._well_since = self._clock()
        if self._clock() < self._well_since + GRACE_SECONDS:
            return
        for execution in await self._store.executions.unfinished(
            unseen_since=self._now() - timedelta(seconds=LOST_SECONDS)
        ):
            if execution.owner != self._logs.owner:
                await self._close(execution)

    async def _close(self, execution: Execution) -> None:
        """By what its log says, where that has its end: the process died before it could tell the store."""
        state: ExecutionState = "interrupted"
        reason, usage = _DIED, dict[str, Any]()
        if execution.owner == self._logs.owner or self._logs.path(execution.execution_id).exists():
            end = await self._logs.finished(execution.execution_id, execution.model, _DIED)
            if end is not None:
                state, reason = _state_of(end)
                usage = end.get("usage", usage)
        ended = msgspec.structs.replace(
            execution,
            state=state,
            ended_at=self._now(),
            exit_reason=reason,
            tokens_in=int(usage.get("input_tokens", 0)),
            tokens_out=int(usage.get("output_tokens", 0)),
        )
        if await self._store.executions.update(ended):
            self._ended(ended)
            self._log.warning(
                "execution was left open", execution_id=execution.execution_id, state=state, exit_reason=reason
            )


def _state_of(end: dict[str, Any]) -> tuple[ExecutionState, str]:
    """State and reason by a `result` line."""
    reason = str(end.get("exit_reason") or ("failed" if end.get("is_error") else "completed"))
    return ("succeeded" if not end.get("is_error") else _STATES.get(reason, "failed")), reason
