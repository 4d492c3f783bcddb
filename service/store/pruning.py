"""The decision log kept within its bounds: by age, by number, by size, and by what the disk has left."""

import contextlib
from datetime import datetime, timedelta

from sqlalchemy import delete, select, text

from service.base.ids import first_id
from service.contract.errors import StoreUnavailableError
from service.store.database import Database
from service.store.room import RESERVE_BYTES, Room
from service.store.schema import decisions

PRUNE_ROWS = 1000
"""Deleted in one transaction: short enough that no writer waits long for it."""

FEW_ROWS = 100
"""The same where the disk is full: what a transaction writes has to fit into the reserve."""

ALWAYS_KEPT = 1000
"""The newest, whatever the bounds by size say: outcomes that come in are learned with what their decision knew."""

INDEX_BYTES = 200
"""What indexes and row headers add to a decision in PostgreSQL, roughly."""

_SQLITE_BYTES = text(
    "SELECT (pages.page_count - unused.freelist_count) * size.page_size AS used,"
    " unused.freelist_count * size.page_size AS unused"
    " FROM pragma_page_count AS pages, pragma_freelist_count AS unused, pragma_page_size AS size"
)
_POSTGRESQL_ROW_BYTES = text(
    "SELECT avg(pg_column_size(newest.*)) AS bytes"
    " FROM (SELECT * FROM decisions ORDER BY decision_id DESC LIMIT 1000) AS newest"
)


class Pruner:
    """Deletes the oldest decisions. Every method raises StoreUnavailableError, unless it says that it does not."""

    def __init__(self, database: Database, room: Room) -> None:
        self._database = database
        self._room = room

    async def by_age(self, *, now: datetime, keep_days: float) -> None:
        """Deletes decisions older than `keep_days`."""
        # Ids are UUIDv7: the first twelve hexadecimal digits are the time, so the primary key finds the old ones.
        await self._delete_all(before=first_id(now - timedelta(days=keep_days)))

    async def by_number(self, keep_rows: int) -> None:
        """Deletes all but the newest `keep_rows`."""
        await self._delete_all(before=await self._oldest_of(keep_rows))

    async def by_size(self, max_bytes: int) -> None:
        """Deletes the oldest until all that is kept takes at most `max_bytes`, outcomes and executions included.

        A SQLite file does not get smaller by it, but grows no more: new decisions take the room of old ones. The same
        where the disk is nearly full. In PostgreSQL the size is estimated from that of the newest decisions.
        """
        if self._database.backend == "postgresql":
            (row,) = await self._database.rows(_POSTGRESQL_ROW_BYTES)
            if row.bytes is not None:
                await self.by_number(max(ALWAYS_KEPT, int(max_bytes / (float(row.bytes) + INDEX_BYTES))))
            return
        before = await self._oldest_of(ALWAYS_KEPT)
        deleted = -1
        while deleted and before:
            (row,) = await self._database.rows(_SQLITE_BYTES)
            cramped = row.unused < RESERVE_BYTES and self._room.scarce
            if row.used <= max_bytes and not cramped:
                return
            deleted = await self._delete(FEW_ROWS if cramped else PRUNE_ROWS, before=before)

    async def make_room(self) -> None:
        """On a disk that is full: gives the reserve up for the room to delete some of the oldest. Never raises."""
        self._room.give_up()
        with contextlib.suppress(StoreUnavailableError):
            before = await self._oldest_of(ALWAYS_KEPT)
            for _ in range(PRUNE_ROWS // FEW_ROWS):
                if not before or await self._delete(FEW_ROWS, before=before) < FEW_ROWS:
                    return

    async def _oldest_of(self, number: int) -> str:
        """The id of the oldest of the newest `number`; empty where there are fewer."""
        ids = select(decisions.c.decision_id).order_by(decisions.c.decision_id.desc())
        rows = await self._database.rows(ids.offset(number - 1).limit(1))
        return rows[0].decision_id if rows else ""

    async def _delete_all(self, *, before: str) -> None:
        while await self._delete(PRUNE_ROWS, before=before) == PRUNE_ROWS:
            pass

    async def _delete(self, rows: int, *, before: str) -> int:
        old = select(decisions.c.decision_id).where(decisions.c.decision_id < before)
        oldest = old.order_by(decisions.c.decision_id).limit(rows)
        return await self._database.change(
            delete(decisions).where(decisions.c.decision_id.in_(oldest.scalar_subquery()))
        )
