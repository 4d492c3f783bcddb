"""The store: what the rest of the service sees of the database."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

from service.base.ids import uuid7
from service.contract.decision import LoggedDecision
from service.contract.errors import StoreUnavailableError
from service.contract.execution import Execution
from service.contract.outcome import Outcome, RecordedOutcome
from service.store import executions
from service.store.address import parse_address
from service.store.database import Database
from service.store.decisions import decisions_of, list_decisions, listing, prune_decisions, read_decision
from service.store.migrations import migrate
from service.store.outcomes import OutcomeBook
from service.store.records import OutcomeChanges, Recording, StoredDecision, StoreStatus
from service.store.writer import DecisionWriter

PRUNE_SECONDS = 300.0

_log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The wall clock, with its zone."""
    return datetime.now(UTC)


class Store:
    """Decisions, outcomes and executions over one database, SQLite or PostgreSQL.

    `url`: see `address.parse_address`; a wrong one is a ConfigurationError here, as is a missing driver. Everything
    else that can go wrong with a database is a StoreUnavailableError of the call that met it, and shows in `status`;
    no call takes longer than twice `patience_seconds` (a batch that waits behind another one, four times).

    `keep_days` and `keep_decisions` limit the decision log; outcomes and executions are kept for good.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], str] = uuid7,
        patience_seconds: float = 2.5,
        flush_seconds: float = 0.25,
        retry_seconds: tuple[float, float] = (0.25, 5.0),
        probe_seconds: float = 5.0,
        max_buffered: int = 10_000,
        max_buffered_bytes: int = 32 << 20,
        keep_days: float | None = None,
        keep_decisions: int | None = None,
    ) -> None:
        self._database = Database(parse_address(url), patience_seconds=patience_seconds)
        self._writer = DecisionWriter(self._database, max_rows=max_buffered, max_bytes=max_buffered_bytes)
        self._outcomes = OutcomeBook(self._database, clock=clock, new_id=new_id)
        self._clock = clock
        self._patience = patience_seconds
        self._flush_seconds = flush_seconds
        self._retry_seconds = retry_seconds
        self._probe_seconds = probe_seconds
        self._keep_days = keep_days
        self._keep_decisions = keep_decisions
        self._keeper: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._connected = asyncio.Event()
        self._prune_at = 0.0

    async def start(self) -> None:
        """Connects and migrates. Where that fails, `status` says why, and it is tried again in the background.

        Waits for the first try, and a moment longer where that failed at once: another replica may be migrating.
        """
        self._keeper = asyncio.create_task(self._keep())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._patience):
                await self._tried.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._retry_seconds[0]):
                await self._connected.wait()

    async def aclose(self) -> None:
        """Writes the decisions that wait, then closes; takes at most some four times `patience_seconds`."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        await self._writer.aclose(2 * self._patience)
        await self._database.aclose(self._patience)

    @property
    def status(self) -> StoreStatus:
        """As of the last contact with the database, which is at most `probe_seconds` ago."""
        problem = self._database.problem
        return StoreStatus(
            recording=problem is None,
            problem=None if problem is None else f"{problem} ({self._database.address.place})",
            buffered=len(self._writer),
            dropped=self._writer.dropped,
            backend=self._database.backend,
        )

    def log_decision(self, logged: LoggedDecision) -> None:
        """Takes a decision to be written within a second. Never waits and never raises.

        While the database is away decisions are kept, up to `max_buffered` and `max_buffered_bytes`; then the oldest
        go, and `status.dropped` counts them.
        """
        self._writer.add(logged)

    async def decisions(
        self, *, limit: int = 100, before: str | None = None, task_id: str | None = None, agent_type: str | None = None
    ) -> list[StoredDecision]:
        """The log, newest first, without explanations; `before` is a decision_id, exclusive."""
        await self._flush()
        statement = listing(limit=limit, before=before, task_id=task_id, agent_type=agent_type)
        return await list_decisions(self._database, statement)

    async def decision(self, decision_id: str) -> StoredDecision | None:
        """One decision with its explanation; None where there is none."""
        await self._flush()
        return await read_decision(self._database, decision_id)

    async def decisions_of(self, decision_ids: Sequence[str]) -> list[StoredDecision]:
        """Those of them that are on record, in any order, without explanations; ask for a few hundred at a time."""
        await self._flush()
        return await decisions_of(self._database, decision_ids)

    async def record_outcomes(self, outcomes: Sequence[Outcome]) -> list[Recording]:
        """Keeps outcomes, all or none; on the disk when this returns. One answer for each, in order.

        Of one attempt (`decision_id`, `attempt`) one outcome stands, whichever replica it came to; the same again is
        `same`, another one `conflict`, within a batch too. One without `decision_id` is always `new`. Once an outcome
        is withdrawn, another for that attempt may be recorded; both stay in the record.
        """
        return await self._outcomes.record(outcomes)

    async def withdraw_outcome(self, outcome_id: str) -> bool:
        """Marks it as withdrawn, once and for all; False where there never was one."""
        return await self._outcomes.withdraw(outcome_id)

    async def outcomes_since(self, cursor: int, limit: int = 500) -> OutcomeChanges:
        """What was recorded or withdrawn, by any replica, after `cursor` (0: from the beginning).

        Changes become visible in the order of their numbers, so that none is ever missed. A page of 500 holds the
        event loop for some 4 ms; one that is shorter than `limit` is the last for now.
        """
        return await self._outcomes.since(cursor, limit)

    async def outcomes_of(self, decision_id: str) -> list[RecordedOutcome]:
        """All of one decision, withdrawn ones too, in the order they came."""
        return await self._outcomes.of_decision(decision_id)

    def export_outcomes(self, *, withdrawn: bool = False) -> AsyncIterator[RecordedOutcome]:
        """Every outcome in the order they came; withdrawn ones only when asked for."""
        return self._outcomes.export(withdrawn=withdrawn)

    async def create_execution(self, execution: Execution, *, window: timedelta | None = None) -> Execution:
        """Keeps it, or gives back the execution of the same `task_id` created within `window` before it, if any."""
        return await executions.create_execution(self._database, execution, window)

    async def update_execution(self, execution: Execution) -> bool:
        """Keeps its model, state, figures, times and reason. False, and nothing is kept, where it had ended before."""
        return await executions.update_execution(self._database, execution)

    async def execution(self, execution_id: str) -> Execution | None:
        """One execution; None where there never was one."""
        return await executions.read_execution(self._database, execution_id)

    async def execution_of_task(self, task_id: str, *, since: datetime) -> Execution | None:
        """The newest execution of a task that was created at `since` or later, in whatever state."""
        return await executions.execution_of_task(self._database, task_id, since)

    async def open_executions(
        self, *, owner: str | None = None, unseen_since: datetime | None = None
    ) -> list[Execution]:
        """Those that are queued or running, oldest first: all, or those of `owner`, or (also) those of any replica
        that has not been seen since `unseen_since`.
        """
        return await executions.open_executions(self._database, owner, unseen_since)

    async def mark_seen(self, owner: str) -> int:
        """Says that `owner` is alive; gives how many open executions it has."""
        return await executions.mark_seen(self._database, owner, self._clock())

    async def _flush(self) -> None:
        """So that a decision just made can be read."""
        if len(self._writer):
            await self._writer.flush()

    async def _keep(self) -> None:
        """Connects, migrates, flushes, probes and prunes, for as long as the store is open."""
        shortest, longest = self._retry_seconds
        delay = shortest
        while True:
            try:
                await self._tend()
            except StoreUnavailableError:
                pause, delay = delay, min(2 * delay, longest)
                self._tried.set()
                await asyncio.sleep(pause)
            except Exception:  # noqa: BLE001 - a defect here must not end the recording of decisions for good
                _log.exception("the store's upkeep failed")
                self._tried.set()
                await asyncio.sleep(longest)
            else:
                delay = shortest
                self._tried.set()
                await self._rest()

    async def _tend(self) -> None:
        database = self._database
        if not database.ready:
            await migrate(database, self._clock)
            database.ready = True
            self._connected.set()
            _log.info("the store is ready (%s)", database.address.place)
        elif not len(self._writer):
            await database.probe()
        await self._writer.flush()
        now = asyncio.get_running_loop().time()
        if (self._keep_days is not None or self._keep_decisions is not None) and now >= self._prune_at:
            await prune_decisions(
                database, now=self._clock(), keep_days=self._keep_days, keep_rows=self._keep_decisions
            )
            self._prune_at = now + PRUNE_SECONDS

    async def _rest(self) -> None:
        """Until a decision arrives and a few more with it, or it is time to probe."""
        arrived = self._writer.arrived
        arrived.clear()
        if not len(self._writer):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._probe_seconds):
                    await arrived.wait()
        if len(self._writer):
            await asyncio.sleep(self._flush_seconds)
