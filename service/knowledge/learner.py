"""Keeps the forecast up to date with recorded outcomes, off the way of any request."""

import asyncio
import contextlib
import time
from dataclasses import replace
from functools import partial

import msgspec
import structlog

from service.base.background import Background
from service.contract.errors import StoreUnavailableError
from service.contract.outcome import RecordedOutcome
from service.forecast.ability import Learned, learn
from service.forecast.forecaster import Forecaster
from service.forecast.history import History, OutcomeRow
from service.knowledge.knowledge import InUse, Knowledge
from service.logs.lines import log_defect
from service.store.outcomes import OutcomeTable

REST = 2.0
"""After learning for t seconds it rests for REST × t: never more than a third of one core, whatever is recorded."""

POLL_SECONDS = 2.0
"""How often other replicas' outcomes are looked for; the promise is that all learn within 5 s."""

PAGE = 2000
"""Outcomes read at once, so that a first start over a long history does not hold the event loop."""


class LearningReport(msgspec.Struct, frozen=True, kw_only=True):
    """How much was learned from; `ignored` are outcomes of pairs that no catalog has."""

    outcomes: int = 0
    ignored: int = 0
    version: str | None = None


class Learner:
    """Follows the record of outcomes and replaces the forecaster in use; a database that is away is asked again."""

    def __init__(self, outcomes: OutcomeTable, in_use: InUse) -> None:
        self.report = LearningReport()
        self._outcomes = outcomes
        self._in_use = in_use
        self._history = History()
        self._positions: dict[str, int] = {}
        self._cursor = 0
        self._learned: Learned | None = None
        self._stale = False
        self._log = structlog.get_logger("pointsman.learning")
        self.background = Background(self._follow, every_seconds=POLL_SECONDS, defect=partial(log_defect, self._log))

    async def start(self, *, wait: bool = False) -> None:
        """Begins to follow in the background; with `wait`, what is recorded now is learned before this returns."""
        if wait:
            with contextlib.suppress(StoreUnavailableError):
                await self.catch_up()
        self.background.start()

    def nudge(self) -> None:
        """An outcome was just recorded or withdrawn here: learn from it now rather than at the next look."""
        self.background.wake()

    async def catch_up(self) -> None:
        """Reads what changed, and learns anew where something did. Raises StoreUnavailableError."""
        if await self._read() or self._stale:
            self._stale = False
            await self.relearn()

    async def relearn(self) -> None:
        """Estimates all anew for the catalog in use, in a thread; requests go on with the old forecaster meanwhile."""
        while True:
            catalog = self._in_use.knowledge.catalog
            learned = await asyncio.to_thread(learn, catalog, self._history)
            current = self._in_use.knowledge
            if current.catalog is catalog:
                break
        self._learned = learned
        self._in_use.knowledge = replace(current, forecaster=Forecaster(catalog, learned))
        self.report = LearningReport(outcomes=learned.used, ignored=learned.ignored, version=learned.version)
        self._log.info("learned", **msgspec.structs.asdict(self.report))

    def adopt(self, knowledge: Knowledge) -> None:
        """Takes a new catalog and new prompts into use; what was learned for the same pairs follows in a moment."""
        self._in_use.knowledge = replace(knowledge, forecaster=Forecaster(knowledge.catalog, self._learned))
        self._stale = True
        self.nudge()

    async def _read(self) -> bool:
        changed = False
        while True:
            changes = await self._outcomes.since(self._cursor, PAGE)
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
        started = time.monotonic()
        try:
            await self.catch_up()
        except StoreUnavailableError as error:
            self._log.warning("outcomes cannot be read", problem=str(error))
        await asyncio.sleep(REST * (time.monotonic() - started))
