"""Sums of stretches of time that have ended, made in the background and kept, so that reports need not read every row.

A report adds up what is kept and reads the rows of the rest, and is exact whatever is kept. A stretch of which a row
comes late, changes or goes loses its sums (dropping.py), and they are made anew.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

import structlog
from sqlalchemy import ColumnElement, FromClause, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.base.background import Background
from service.base.ids import first_id, uuid7
from service.contract.errors import StoreUnavailableError
from service.logs.lines import log_defect
from service.store.database import Database
from service.store.dialect import insert_new
from service.store.schema import stretches
from service.store.stretches import DIGITS, FINEST, PARTS, before, parts_of
from service.store.sums import SUMMED, Summed

EVERY_SECONDS = 30.0
PAUSE_SECONDS = 0.5
"""Between two rounds while there is more to do."""

AT_ONCE = 16
"""Stretches of one round."""

SETTLED = timedelta(minutes=10)
"""After its end nearly all of a stretch is on record; sums made sooner would be made twice."""

FORGOTTEN = timedelta(minutes=5)
"""What was begun before then was left unfinished: by a process that was killed, for instance."""

OLDEST = timedelta(days=3700)
"""Older rows are in no report."""

MOST_GROUPS = 5000
"""Sums of one stretch. With more there is nothing to be gained: they are as many as the rows."""

SUM_SECONDS = 60.0
"""Patience with one stretch."""

WAIT_SECONDS = 0.25
WAITS = 40
"""For transactions of others; a copy of the whole database may take longer than that, and is waited for again later."""

_NEXT = text("SELECT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)")
_ALL_BEFORE_ENDED = text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT) >= :transaction")


class Summing:
    """Belongs to a store. Several processes may do it over one database: each stretch is summed by one of them."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._crowded: set[tuple[str, str]] = set()
        log = structlog.get_logger("pointsman.store")
        self.background = Background(self._go_on, every_seconds=EVERY_SECONDS, defect=partial(log_defect, log))

    async def round(self) -> int:
        """Sums some stretches, the newest first; how many were to be summed. Raises StoreUnavailableError."""
        found = 0
        for summed in SUMMED:
            for digits in DIGITS:
                names = await (self._fresh(summed) if digits == FINEST else self._complete(summed, digits))
                found += len(names)
                if names:
                    await self._sum(summed, names)
        return found

    async def _go_on(self) -> None:
        if not self._database.ready or self._database.write_failed:
            return
        try:
            if await self.round():
                await asyncio.sleep(PAUSE_SECONDS)
                self.background.wake()
        except StoreUnavailableError:
            return  # the store says so itself, and goes on trying

    async def _fresh(self, summed: Summed) -> list[str]:
        """Of the finest stretches those that have ended and were not summed."""
        now = self._clock()
        identifier, newest = summed.identifier, first_id(now - SETTLED)[:FINEST]
        rows = await self._database.rows(
            select(func.min(identifier).label("oldest")).where(identifier >= first_id(now - OLDEST))
        )
        oldest = (rows[0].oldest or newest)[:FINEST]
        table = stretches.c
        own = _taken(summed, now) & (func.length(table.stretch) == FINEST)
        within = own & (table.stretch >= oldest) & (table.stretch < newest)
        (row,) = await self._database.rows(select(func.count().label("n")).where(within))
        if row.n == _distance(oldest, newest):
            return []
        taken = {row.stretch for row in await self._database.rows(select(table.stretch).where(within))}
        taken |= {stretch for name, stretch in self._crowded if name == summed.name}
        ended = (name for name in before(newest) if name >= oldest)
        return list(islice((name for name in ended if name not in taken), AT_ONCE))

    async def _complete(self, summed: Summed, digits: int) -> list[str]:
        """Of the longer stretches those whose sixteen parts are all kept, and that were not summed."""
        table, others = stretches.c, stretches.alias()
        whole = func.substr(table.stretch, 1, digits)
        taken = select(others.c.stretch).where(_taken(summed, self._clock(), others))
        parts = (table.of_table == summed.name) & (func.length(table.stretch) == digits + 1)
        statement = (
            select(whole.label("name"))
            .where(parts, table.kept_at.is_not(None), whole.not_in(taken))
            .group_by(whole)
            .having(func.count() == PARTS)
            .order_by(whole.desc())
            .limit(AT_ONCE)
        )
        return [row.name for row in await self._database.rows(statement)]

    async def _sum(self, summed: Summed, names: list[str]) -> None:
        summed_by = uuid7()
        mine = await self._begin(summed, names, summed_by)
        if not mine or not await self._all_before_ended():
            return
        for name in sorted(mine, reverse=True):
            sums = await self._database.run(partial(_read, summed, name), mode="read", limit_seconds=SUM_SECONDS)
            if sums is None:
                continue
            if len(sums) > MOST_GROUPS:
                self._crowded.add((summed.name, name))
                continue
            keep = partial(self._keep, summed, name, summed_by, sums)
            await self._database.run(keep, mode="write")

    async def _begin(self, summed: Summed, names: list[str], summed_by: str) -> set[str]:
        """Names the stretches as being summed; which of them nobody else does."""
        now = self._clock()
        left = (stretches.c.of_table == summed.name) & stretches.c.stretch.in_(names) & stretches.c.kept_at.is_(None)
        new = insert_new(self._database.backend, stretches, ["of_table", "stretch"]).returning(stretches.c.stretch)
        same = {"of_table": summed.name, "summed_by": summed_by, "begun_at": now}

        async def write(connection: AsyncConnection) -> set[str]:
            await connection.execute(delete(stretches).where(left, stretches.c.begun_at < now - FORGOTTEN))
            # In one order everywhere, so that no two wait for each other.
            rows = [{**same, "stretch": name} for name in sorted(names)]
            return set((await connection.execute(new, rows)).scalars())

        return await self._database.run(write, mode="write")

    async def _all_before_ended(self) -> bool:
        """Waits until every transaction has ended that may have written before the names could be seen. SQLite has one
        writer at a time."""
        if self._database.backend != "postgresql":
            return True

        async def next_number(connection: AsyncConnection) -> int:
            return int((await connection.execute(_NEXT)).scalar_one())

        transaction = await self._database.run(next_number, mode="write")
        for _ in range(WAITS):
            (row,) = await self._database.rows(_ALL_BEFORE_ENDED.bindparams(transaction=transaction))
            if row[0]:
                return True
            await asyncio.sleep(WAIT_SECONDS)
        return False

    async def _keep(
        self, summed: Summed, name: str, summed_by: str, sums: list[dict[str, Any]], connection: AsyncConnection
    ) -> None:
        """Unless a row has come or gone since it was named, or is just doing so: nobody is waited for."""
        same = (stretches.c.of_table == summed.name) & (stretches.c.stretch == name)
        still = same & (stretches.c.summed_by == summed_by) & stretches.c.kept_at.is_(None)
        free = select(stretches.c.stretch).where(still).with_for_update(skip_locked=True)
        if (await connection.execute(free)).first() is None:
            return
        await connection.execute(update(stretches).where(still).values(kept_at=self._clock()))
        if sums:
            await connection.execute(insert(summed.kept), [{**row, "stretch": name} for row in sums])


async def _read(summed: Summed, name: str, connection: AsyncConnection) -> list[dict[str, Any]] | None:
    """The sums of one stretch, at most one more than are kept; None where one of its parts has gone."""
    if len(name) == FINEST:
        statement = summed.of_stretch(name)
    else:
        parts, table = parts_of(name), stretches.c
        there = (table.of_table == summed.name) & table.stretch.in_(parts) & table.kept_at.is_not(None)
        if (await connection.execute(select(func.count()).where(there))).scalar_one() != PARTS:
            return None
        statement = summed.together(summed.of_kept(summed.kept.c.stretch.in_(parts)).subquery())
    rows = await connection.execute(statement.limit(MOST_GROUPS + 1))
    return [dict(row._mapping) for row in rows]  # noqa: SLF001 - the public name of SQLAlchemy's mapping has an underscore


def _taken(summed: Summed, now: datetime, table: FromClause = stretches) -> ColumnElement[bool]:
    """Kept, or being summed by someone."""
    return (table.c.of_table == summed.name) & (table.c.kept_at.is_not(None) | (table.c.begun_at >= now - FORGOTTEN))


def _distance(since: str, until: str) -> int | None:
    """How many stretches; None where an id is none of ours."""
    try:
        return int(until, 16) - int(since, 16)
    except ValueError:
        return None
