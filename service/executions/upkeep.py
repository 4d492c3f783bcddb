"""What executions need while they run, and after a crash: a sign of life, news from other replicas, an end."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import structlog

from service.base.clock import Clocks
from service.contract.errors import StoreUnavailableError
from service.contract.execution import Execution, ExecutionState
from service.contract.settings import ExecutionSettings
from service.executions.log_folder import LogFolder
from service.executions.runs import Run, Runs
from service.store.executions import ExecutionTable

UPKEEP_SECONDS = 3.0
"""How often a replica says that it is alive, and looks whether another one cancelled what runs here."""

LOST_SECONDS = 60.0
"""A replica that was not seen for so long is dead, and what it left unfinished is closed by another one."""

GRACE_SECONDS = 15.0
"""After the store was away nobody has been seen for a while: the others get so long to say that they are alive."""

ROTATE_SECONDS = 600.0
"""How often logs are looked at for their age, also where nothing runs."""

_DIED = "process-died"
_STATES: dict[str, ExecutionState] = {"cancelled": "cancelled", "shutdown": "interrupted", _DIED: "interrupted"}
"""What an execution has come to whose log ends with this reason; with any other it has failed."""


class Upkeep:
    """Looks after the executions of this process, and after those of processes that died."""

    def __init__(
        self,
        runs: Runs,
        table: ExecutionTable,
        logs: LogFolder,
        settings: ExecutionSettings,
        *,
        clocks: Clocks,
        ended: Callable[[Execution], None],
    ) -> None:
        """`ended` is told of each that was found unfinished and is closed."""
        self._runs = runs
        self._table = table
        self._logs = logs
        self._settings = settings
        self._clocks = clocks
        self._ended = ended
        self._store_back_at: float | None = None
        self._rotate_at = float("-inf")
        self._log = structlog.get_logger("pointsman.execution")

    def rotate_soon(self) -> None:
        """There is one log more."""
        self._rotate_at = float("-inf")

    async def once(self) -> None:
        """All of it; what the store cannot take now has to wait for the next time."""
        now = self._clocks.monotonic()
        if now >= self._rotate_at:
            self._rotate_at = now + ROTATE_SECONDS
            await asyncio.to_thread(self._logs.rotate, self._settings)
        try:
            await self._look_after_own()
            await self._close_lost()
        except StoreUnavailableError:
            self._store_back_at = None

    async def _look_after_own(self) -> None:
        known = dict(self._runs)
        await self._table.mark_seen(self._logs.owner)
        unfinished = {e.execution_id: e for e in await self._table.unfinished(owner=self._logs.owner)}
        for execution_id, run in known.items():
            if run.unsaved:
                await self._runs.save(run, self._table)
            elif run.ending is not None and execution_id not in unfinished:
                await self._end_as_stored(run)
        for execution_id, execution in unfinished.items():
            if execution_id not in known and execution_id not in self._runs:
                await self._close(execution)

    async def _end_as_stored(self, run: Run) -> None:
        """Another replica has ended it in the store."""
        kept = await self._table.get(run.execution.execution_id)
        if kept is not None and kept.ended_at is not None:
            run.end(kept.state, kept.exit_reason or kept.state)

    async def _close_lost(self) -> None:
        """What replicas left unfinished that nobody has seen for a while, by a store that was there for a while."""
        if self._store_back_at is None:
            self._store_back_at = self._clocks.monotonic()
        if self._clocks.monotonic() < self._store_back_at + GRACE_SECONDS:
            return
        unseen_since = self._clocks.now() - timedelta(seconds=LOST_SECONDS)
        for execution in await self._table.unfinished(unseen_since=unseen_since):
            if execution.owner != self._logs.owner:
                await self._close(execution)

    async def _close(self, execution: Execution) -> None:
        """By what its log says, where that has its end: the process died before it could tell the store."""
        state: ExecutionState = "interrupted"
        reason, usage = _DIED, dict[str, Any]()
        if execution.owner == self._logs.owner or self._logs.path(execution.execution_id).exists():
            end = await self._logs.finish(execution.execution_id, execution.model, _DIED)
            if end is not None:
                state, reason = _state_of(end)
                usage = end.get("usage", usage)
        ended = msgspec.structs.replace(
            execution,
            state=state,
            ended_at=self._clocks.now(),
            exit_reason=reason,
            tokens_in=int(usage.get("input_tokens", 0)),
            tokens_out=int(usage.get("output_tokens", 0)),
        )
        if await self._table.update(ended):
            self._ended(ended)
            self._log.warning(
                "execution was left open", execution_id=execution.execution_id, state=state, exit_reason=reason
            )


def _state_of(end: dict[str, Any]) -> tuple[ExecutionState, str]:
    """State and reason by a `result` line."""
    reason = str(end.get("exit_reason") or ("failed" if end.get("is_error") else "completed"))
    return ("succeeded" if not end.get("is_error") else _STATES.get(reason, "failed")), reason
