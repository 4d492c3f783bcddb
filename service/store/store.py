"""The store: one database and its tables, connected, kept up to date and closed."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import datetime

import msgspec
import structlog

from service.base.background import Background
from service.base.clock import utc_now
from service.contract.errors import StoreUnavailableError
from service.logs.lines import log_defect
from service.store.address import Backend, parse_address
from service.store.database import Database
from service.store.decisions import DecisionTable
from service.store.executions import ExecutionTable
from service.store.migrations import prepare
from service.store.outcomes import OutcomeTable
from service.store.pruning import Pruner
from service.store.room import Room
from service.store.snapshots import SnapshotTable
from service.store.summing import Summing
from service.store.tallies import Tallies

PRUNE_SECONDS = 300.0

_log = logging.getLogger(__name__)


class StoreLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long is waited for the database, and how many decisions wait and are kept."""

    patience_seconds: float = 2.5
    """For a connection, and for a lock. No call takes longer than twice that; a batch behind another, four times."""
    flush_seconds: float = 0.25
    """For how long decisions gather before they are written together."""
    retry_seconds: tuple[float, float] = (0.25, 5.0)
    """The first and the longest pause before a database that failed is tried again."""
    probe_seconds: float = 5.0
    """How often a database with nothing to write is asked whether it works."""
    max_buffered: int = 10_000
    """Decisions that wait to be written while the database is away."""
    max_buffered_bytes: int = 32 << 20
    keep_days: float | None = None
    """Older decisions are deleted; outcomes and executions are kept for good."""
    keep_decisions: int | None = None
    """Of more decisions the oldest are deleted."""
    keep_instructions: bool = False
    """Whether task texts stay in the log."""
    max_bytes: int | None = None
    """Where all that is kept takes more, the oldest decisions are deleted."""


DEFAULT_LIMITS = StoreLimits()


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether anything is being recorded now, and if not, why, in words that hold no password. What is on record may be
    read all the same: a database that may only be read is.

    `buffered` decisions wait to be written; `dropped` were lost since the start because the buffer was full, the
    decision could not be encoded, or the database was away at shutdown.
    """

    recording: bool
    problem: str | None
    buffered: int
    dropped: int
    backend: Backend


class Store:
    """Decisions, outcomes and executions over one database, SQLite or PostgreSQL.

    `url`: see `address.parse_address`; a wrong one is a ConfigurationError here, as is a missing driver. Everything
    else that can go wrong with a database is a StoreUnavailableError of the call that met it, and shows in `status`.
    """

    def __init__(
        self, url: str, limits: StoreLimits = DEFAULT_LIMITS, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._database = Database(parse_address(url), patience_seconds=limits.patience_seconds)
        self._upkeep = Background(self._keep_up, every_seconds=limits.probe_seconds, defect=self._upkeep_failed)
        self.decisions = DecisionTable(
            self._database,
            self._upkeep.wake,
            max_rows=limits.max_buffered,
            max_bytes=limits.max_buffered_bytes,
            keep_instructions=limits.keep_instructions,
        )
        self.outcomes = OutcomeTable(self._database, clock=clock)
        self.tallies = Tallies(self._database)
        self.summing = Summing(self._database, clock=clock)
        self.snapshots = SnapshotTable(self._database, clock=clock)
        self.executions = ExecutionTable(self._database, clock=clock)
        self._pause = 0.0
        self._tried = asyncio.Event()
        self._connected = asyncio.Event()
        self._room = Room(self._database.address.path)
        self.pruner = Pruner(self._database, self._room)
        self._prune_at = self._measure_at = 0.0

    async def start(self) -> None:
        """Connects and migrates. Where that fails, `status` says why, and it is tried again in the background.

        Waits for the first try, and a moment longer where that failed at once: another replica may be migrating.
        """
        self._upkeep.wake()
        self._upkeep.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._limits.patience_seconds):
                await self._tried.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._limits.retry_seconds[0]):
                await self._connected.wait()

    async def aclose(self) -> None:
        """Writes the decisions that wait, then closes; takes at most some four times `patience_seconds`."""
        await self.summing.background.aclose()
        await self._upkeep.aclose()
        await self.decisions.buffer.aclose(2 * self._limits.patience_seconds)
        await self._database.aclose(self._limits.patience_seconds)

    @property
    def status(self) -> StoreStatus:
        """As of the last contact with the database, which is at most `probe_seconds` ago."""
        problem = self._database.problem
        return StoreStatus(
            recording=problem is None,
            problem=None if problem is None else f"{problem} ({self._database.address.place})",
            buffered=len(self.decisions.buffer),
            dropped=self.decisions.buffer.dropped,
            backend=self._database.backend,
        )

    async def _keep_up(self) -> None:
        """One round of upkeep. After a failure it first rests, else it lets a few more decisions arrive."""
        waiting = self._database.ready and len(self.decisions.buffer)
        await asyncio.sleep(self._pause or (self._limits.flush_seconds if waiting else 0))
        first, longest = self._limits.retry_seconds
        try:
            await self._bring_up_to_date()
        except StoreUnavailableError:
            self._pause = min(max(first, 2 * self._pause), longest)
            self._upkeep.wake()
            if self._database.full:
                await self.pruner.make_room()
        else:
            self._pause = 0.0
            if len(self.decisions.buffer):
                self._upkeep.wake()
        finally:
            self._tried.set()

    async def _bring_up_to_date(self) -> None:
        """Connects and migrates, or probes; then writes the decisions that wait, and prunes."""
        database = self._database
        if not database.ready or database.only_read:
            known = database.ready
            whole = await prepare(database, self._clock)
            self._connected.set()
            # Nothing is set aside for a command, which is over before this.
            self._measure_at = asyncio.get_running_loop().time() + self._limits.probe_seconds
            if whole or not known:
                _log.info("the store is %s (%s)", "ready" if whole else "only read", database.address.place)
            if not whole:
                raise StoreUnavailableError(f"the store is not available: {database.problem}")
        elif not len(self.decisions.buffer):
            await database.probe()
        await self.decisions.buffer.flush()
        await self._prune(asyncio.get_running_loop().time())

    async def _prune(self, now: float) -> None:
        """By size as often as a busy service could fill a disk by; counting takes longer than measuring a file."""
        limits, due = self._limits, now >= self._prune_at
        if due:
            self._prune_at = now + PRUNE_SECONDS
            if limits.keep_days is not None:
                await self.pruner.by_age(now=self._clock(), keep_days=limits.keep_days)
            if limits.keep_decisions is not None:
                await self.pruner.by_number(limits.keep_decisions)
        measured = due if self._database.backend == "postgresql" else now >= self._measure_at
        if limits.max_bytes is not None and measured:
            self._measure_at = now + limits.probe_seconds
            self._room.set_aside()
            await self.pruner.by_size(limits.max_bytes)

    def _upkeep_failed(self, error: Exception) -> None:
        """A defect here must not end the recording of decisions for good."""
        self._pause = self._limits.retry_seconds[1]
        self._upkeep.wake()
        log_defect(structlog.get_logger("pointsman.store"), error, problem="the store's upkeep failed")
