"""What is queued or running in this process now."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from service.contract.errors import StoreUnavailableError
from service.contract.execution import Execution, ExecutionState
from service.executions.local_runner import RunResult
from service.store import Store


@dataclass(slots=True)
class Live:
    """One that is queued or running here, or whose end is not in the store yet. `stored` is what the store has of it;
    `stop` is its state and reason should its run be cancelled.
    """

    execution: Execution
    stored: Execution | None = None
    run: "asyncio.Task[RunResult] | None" = None
    keeper: "asyncio.Task[None] | None" = None
    stop: tuple[ExecutionState, str] = ("interrupted", "shutdown")
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Wakes those who follow."""
        self.news.set()
        self.news = asyncio.Event()

    def end(self, state: ExecutionState, reason: str) -> None:
        """Cancels its run, where that has not ended."""
        if self.run is not None and not self.run.done():
            self.stop = (state, reason)
            self.run.cancel()

    @property
    def unsaved(self) -> bool:
        """Whether the store has yet to hear of its state."""
        return self.keeper is not None and self.execution is not self.stored


class LiveOnes(dict[str, Live]):
    """All of them, by id."""

    def count(self, state: ExecutionState) -> int:
        """How many are in this state."""
        return sum(live.execution.state == state for live in self.values())

    async def save(self, live: Live, store: Store) -> None:
        """Into the store now or, where that is away, at a later tick. What has ended is then no longer live."""
        execution = live.execution
        with contextlib.suppress(StoreUnavailableError):
            await store.executions.update(execution)
            live.stored = execution
            if execution.ended_at is not None:
                self.pop(execution.execution_id, None)
