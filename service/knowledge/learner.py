"""Keeps the forecast up to date with recorded outcomes, off the way of any request."""

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any

import structlog

from service.contract.errors import StoreUnavailableError
from service.contract.outcome import RecordedOutcome
from service.decide.pipeline import Knowledge, Pipeline
from service.forecast.ability import Learned, learn
from service.forecast.forecaster import Forecaster
from service.forecast.history import History, OutcomeRow
from service.logs.lines import log_defect
from service.store import Store

REST = 2.0
"""After learning for t seconds it rests for REST × t: never more than a third of one core, whatever is recorded."""

POLL_SECONDS = 2.0
"""How often other replicas' outcomes are looked for; the promise is that all learn within 5 s."""

PAGE = 2000
"""Outcomes read at once, so that a first start over a long history does not hold the event loop."""


class Learner:
    """Follows the store's changes and replaces the pipeline's forecaster; a database that is away is asked again."""

    def __init__(self, store: Store, pipeline: Pipeline, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._store = store
        self._pipeline = pipeline
        self._poll_seconds = poll_seconds
        self._history = History()
        self._positions: dict[str, int] = {}
        self._cursor = 0
        self._learned: Learned | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stale = False
        self._log = structlog.get_logger("pointsman.learning")

    async def start(self, *, wait: bool = False) -> None:
        """Begins to follow in the background; with `wait`, what is recorded now is learned before this returns."""
        if wait:
            with contextlib.suppress(StoreUnavailableError):
                await self.catch_up()
        self._task = asyncio.create_task(self._follow())

    async def aclose(self) -> None:
        """Stops following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def nudge(self) -> None:
        """An outcome was just recorded or withdrawn here: learn from it now rather than at the next look."""
        self._wake.set()

    async def catch_up(self) -> None:
        """Reads what changed, and learns anew where something did. Raises StoreUnavailableError."""
        if await self._read() or self._stale:
            self._stale = False
            await self.relearn()

    async def relearn(self) -> None:
        """Estimates all anew for the catalog in use, in a thread; requests go on with the old forecaster meanwhile."""
        while True:
            catalog = self._pipeline.knowledge.catalog
            learned = await asyncio.to_thread(learn, catalog, self._history)
            current = self._pipeline.knowledge
            if current.catalog is catalog:
                break
        self._learned = learned
        self._pipeline.knowledge = replace(current, forecaster=Forecaster(catalog, learned))
        self._log.info("learned", outcomes=learned.used, ignored=learned.ignored, version=learned.version)

    def adopt(self, knowledge: Knowledge) -> None:
        """Takes a new catalog and new prompts into use; what was learned for the same pairs follows in a moment."""
        self._pipeline.knowledge = replace(knowledge, forecaster=Forecaster(knowledge.catalog, self._learned))
        self._pipeline.forget()
        self._stale = True
        self.nudge()

    def report(self) -> dict[str, Any]:
        """How much was learned from, for `GET /v1/status`: `ignored` are outcomes of pairs that no catalog has."""
        learned = self._learned
        return {
            "outcomes": learned.used if learned else 0,
            "ignored": learned.ignored if learned else 0,
            "version": learned.version if learned else None,
        }

    async def _read(self) -> bool:
        changed = False
        while True:
            changes = await self._store.outcomes.since(self._cursor, PAGE)
            for recorded in changes.outcomes:
                self._take(recorded)
            changed = changed or bool(changes.outcomes)
            self._cursor = changes.cursor
            if not changes.outcomes:
                return changed

    def _take(self, recorded: RecordedOutcome) -> None:
        position = self._positions.get(recorded.outcome_id)
        if recorded.withdrawn_at is not None:
            if position is not None:
                self._history.withdraw(position)
        elif position is None:
            outcome = recorded.outcome
            self._positions[recorded.outcome_id] = self._history.add(
                OutcomeRow(
                    agent_type=outcome.agent_type,
                    model=outcome.model,
                    solved=outcome.solved,
                    cost_usd=outcome.cost_usd,
                    labels=outcome.labels,
                    task=outcome.task_id or outcome.decision_id,
                )
            )

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._wake.wait()
            self._wake.clear()
            started = time.monotonic()
            try:
                await self.catch_up()
            except StoreUnavailableError as error:
                self._log.warning("outcomes cannot be read", problem=str(error))
            except Exception as error:  # noqa: BLE001 - a defect here must not end all learning, and is logged whole
                log_defect(self._log, error)
            await asyncio.sleep(REST * (time.monotonic() - started))
