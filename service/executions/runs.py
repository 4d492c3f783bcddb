"""The executions that are queued or running in this process now."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from service.contract.errors import StoreUnavailableError
from service.contract.execution import Execution, ExecutionState
from service.executions.local_runner import RunResult
from service.store.executions import ExecutionTable


@dataclass(slots=True)
class Run:
    """One that is queued or running here, or whose end is not in the store yet. `stored` is what the store has of it;
    `stop` is its state and reason should `work` be cancelled; `ending` waits for the end of `work` and writes it down.
    """

    execution: Execution
    stored: Execution | None = None
    work: "asyncio.Task[RunResult] | None" = None
    ending: "asyncio.Task[None] | None" = None
    stop: tuple[ExecutionState, str] = ("interrupted", "shutdown")
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Wakes those who follow its log."""
        self.news.set()
        self.news = asyncio.Event()

    def end(self, state: ExecutionState, reason: str) -> None:
        """Cancels its work, where that has not ended."""
        if self.work is not None and not self.work.done():
            self.stop = (state, reason)
            self.work.cancel()

    @property
    def unsaved(self) -> bool:
        """Whether the store has yet to hear of its state."""
        return self.ending is not None and self.execution is not self.stored


class Runs(dict[str, Run]):
    """All of them, by execution_id."""

    def count(self, state: ExecutionState) -> int:
        return sum(run.execution.state == state for run in self.values())

    async def save(self, run: Run, table: ExecutionTable) -> None:
        """Into the store now or, where that is away, by the upkeep. What has ended then leaves."""
        execution = run.execution
        with contextlib.suppress(StoreUnavailableError):
            await table.update(execution)
            run.stored = execution
            if execution.ended_at is not None:
                self.pop(execution.execution_id, None)
