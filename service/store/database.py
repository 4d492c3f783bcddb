"""One database: its connections, its transactions, and whether it works."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, Literal, NoReturn, TypeVar

from sqlalchemy import Executable, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.contract.errors import StoreUnavailableError
from service.store.address import Address, Backend
from service.store.connections import create_engine
from service.store.failures import CANNOT_OPEN, FULL, NO_WRITING, UNEXPECTED, lacks_tables, reason, unwritable
from service.store.ownership import Ownership
from service.store.reader import Reader
from service.store.schema import AnyRow, schema_version

Mode = Literal["read", "look", "write", "ordered", "migration"]
"""`look`: reads before it is known whether there is anything to read; `ordered`: a writer whose changes are numbered,
one at a time; `migration`: likewise, with another lock."""

READING: tuple[Mode, ...] = ("read", "look")

STILL = update(schema_version).where(schema_version.c.version == 1).values(version=1)
"""Writes, and changes nothing."""

T = TypeVar("T")

_LOCKS = {"ordered": 0x706F696E74_01, "migration": 0x706F696E74_02}
"""PostgreSQL's advisory locks are plain numbers: "point" in ASCII, and which one."""

_log = logging.getLogger(__name__)


class Database:
    """Every failure of a call is a StoreUnavailableError, and every call ends within a bounded time.

    `patience_seconds` is how long to wait for a connection and for a lock; a call gets twice that.
    """

    def __init__(self, address: Address, *, patience_seconds: float = 2.5) -> None:
        self.address = address
        self.ready = False
        """The schema is up to date, so that calls may be made."""
        self.problem: str | None = "not connected yet"
        self.write_failed = False
        """The problem came up in writing: reading does not prove it gone (a full disk can be read)."""
        self.unwritable = False
        """The last failure was that writing is refused, so that what is there may still be read."""
        self.only_read = False
        """It is ready for reading, but may not be written as far as is known; the migrations have not run."""
        self.generation = 0
        """Goes up whenever another file stands in the place of the one that was open."""
        self._patience = patience_seconds
        self._engine = create_engine(address, patience_seconds)
        self._running: set[asyncio.Task[Any]] = set()
        # SQLite has one writer at a time and polls for its turn; within one process a queue is faster and fair.
        self._turn = asyncio.Lock()
        self._file: tuple[int, int] | None = None
        self._reader = Reader(address, patience_seconds, self._retire)
        self._ownership = Ownership(address.path) if address.path is not None else None

    @property
    def backend(self) -> Backend:
        return self.address.backend

    @property
    def full(self) -> bool:
        """Whether it cannot write for want of room."""
        return self.write_failed and self.problem in FULL

    async def run(
        self,
        work: Callable[[AsyncConnection], Awaitable[T]],
        *,
        mode: Mode,
        limit_seconds: float | None = None,
    ) -> T:
        """Runs `work` in one transaction, committed when this returns; raises StoreUnavailableError.

        A caller that is cancelled leaves at once, and the transaction runs to its end without it: cancelling a
        driver in the middle of a statement costs the connection, and in memory that would be the whole database.
        """
        if mode not in ("migration", "look"):
            self._check_ready()
        task = self._start(self._transaction(work, mode))
        done, _ = await asyncio.wait({task}, timeout=limit_seconds or 2 * self._patience)
        if not done and self.backend == "postgresql":
            task.cancel()
        try:
            result = task.result() if done else _too_late()
        except Exception as error:
            # The drivers' and SQLAlchemy's trees have no root in common; what `reason` does not know is raised again.
            said = reason(error)
            if said is None:
                raise
            self.ready = self.ready and not lacks_tables(error)
            self.unwritable = unwritable(error)
            said = NO_WRITING if self.only_read and said == CANNOT_OPEN and mode not in READING else said
            self._failed(said, writing=mode not in READING, error=error)
            raise StoreUnavailableError(f"the store is not available: {said}") from None
        opened = self.ready or mode in ("migration", "look")  # else another call has just found the tables gone
        if opened and (mode not in READING or not self.write_failed):
            self.problem, self.write_failed = None, False
        if mode == "migration":
            self.only_read = False
        return result

    async def rows(self, statement: Executable) -> list[AnyRow]:
        """What `statement` selects, in a transaction of its own."""

        async def read(connection: AsyncConnection) -> list[AnyRow]:
            return list(await connection.execute(statement))

        return await self.run(read, mode="read")

    async def change(self, statement: Executable) -> int:
        """How many rows `statement` changed, in a transaction of its own."""

        async def write(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self.run(write, mode="write")

    def opened_for_reading(self, refused: str | None) -> None:
        """What is there can be read, after writing was `refused` for this reason."""
        self.ready = self.only_read = True
        self.problem, self.write_failed = NO_WRITING if refused == CANNOT_OPEN else refused, True

    def refuse(self, said: str) -> NoReturn:
        """Raises the StoreUnavailableError that says so, and remembers it."""
        self._failed(said, writing=True)
        raise StoreUnavailableError(f"the store is not available: {said}")

    async def probe(self) -> None:
        """Finds out whether the database works, and writes where writing failed last."""
        if self.write_failed:
            await self.change(STILL)
        else:
            await self.rows(select(schema_version.c.version).limit(1))

    async def aclose(self, timeout_seconds: float = 2.0) -> None:
        """Waits a moment for transactions that run, then closes every connection."""
        if self._running:
            _, late = await asyncio.wait(set(self._running), timeout=timeout_seconds)
            for task in late:
                task.cancel()
        self.ready, self.problem = False, "closed"
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._engine.dispose()
                await self._reader.aclose()
        self._disown()

    def _check_ready(self) -> None:
        """A file that was deleted or replaced under us would swallow what is acknowledged; so look before each call."""
        if self.ready and self._file is not None and self._file != self._identity():
            self.ready = False
            self._file = None
            self.generation += 1
            self._failed("the file was deleted or replaced", writing=True)
            self._reconnect()
            self._disown()  # the lock may have gone with it; the next migration takes it anew
        if not self.ready:
            raise StoreUnavailableError(f"the store is not available: {self.problem}")

    def _reconnect(self) -> None:
        """Fresh connections; the old ones are closed in the background when their transactions end."""
        self._retire(self._engine)
        self._engine = create_engine(self.address, self._patience)

    def _retire(self, engine: AsyncEngine) -> None:
        self._start(engine.dispose())

    def _disown(self) -> None:
        if self._ownership is not None:
            self._ownership.release()

    def _identity(self) -> tuple[int, int] | None:
        if self.address.path is None:
            return None
        try:
            found = os.stat(self.address.path)  # noqa: PTH116 - a microsecond less before each call
        except OSError:
            return None
        return found.st_dev, found.st_ino

    async def _transaction(self, work: Callable[[AsyncConnection], Awaitable[T]], mode: Mode) -> T:
        if mode != "read" and self._ownership is not None:
            await self._ownership.take()
        async with self._queue(mode), self._engine_for(mode).connect() as connection:
            if self.backend != "postgresql":
                await connection.execution_options(begin="BEGIN" if mode in READING else "BEGIN IMMEDIATE")
            async with connection.begin():
                if self.backend == "postgresql" and mode in _LOCKS:
                    await self._lock(connection, mode)
                result = await work(connection)
            if mode in ("migration", "look"):
                self._file = self._identity()
            return result

    def _engine_for(self, mode: Mode) -> AsyncEngine:
        """A SQLite file that may not be written cannot even be read by a connection that would write."""
        reading = mode == "look" or (mode == "read" and self.only_read)
        return self._reader.engine() if reading and self.address.path is not None else self._engine

    def _queue(self, mode: Mode) -> AbstractAsyncContextManager[None]:
        """In memory there is one connection for all."""
        alone = self.backend == "memory" or (self.backend == "sqlite" and mode not in READING)
        return self._turn if alone else nullcontext()

    async def _lock(self, connection: AsyncConnection, mode: Mode) -> None:
        """Until the end of the transaction; a holder that falls silent is thrown out by the server.

        Settings go with the transaction and not with the connection, so that a pooler in between does no harm.
        """
        wait = self._patience if mode == "ordered" else 0  # a migration of another replica may take its time
        idle = 4 * self._patience if mode == "ordered" else 60
        await connection.execute(
            text(
                "SELECT set_config('lock_timeout', :wait, true),"
                " set_config('idle_in_transaction_session_timeout', :idle, true)"
            ),
            {"wait": f"{wait * 1000:.0f}", "idle": f"{idle * 1000:.0f}"},
        )
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCKS[mode]})

    def _failed(self, said: str, *, writing: bool, error: Exception | None = None) -> None:
        if self.problem != said:
            details = error if said.startswith(UNEXPECTED) else None
            _log.warning("the store is not available: %s (%s)", said, self.address.place, exc_info=details)
        self.problem, self.write_failed = said, self.write_failed or writing

    def _start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # asked for, so that asyncio does not report it a second time


def _too_late() -> NoReturn:
    raise TimeoutError
