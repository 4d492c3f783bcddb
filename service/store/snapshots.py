"""What was made of many rows, kept so that a start reads one: the newest of each name stands."""

from collections.abc import Callable
from datetime import datetime

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.database import Database
from service.store.dialect import insert_or_update
from service.store.schema import snapshots


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """`body` is what was made of everything up to `cursor`."""

    cursor: int
    body: bytes


class SnapshotTable:
    """Every method raises StoreUnavailableError when the database fails."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def read_only(self) -> "SnapshotTable":
        """The same for reading; what is saved in it goes nowhere."""
        return _ReadOnly(self._database, clock=self._clock)

    async def load(self, name: str) -> Snapshot | None:
        """None where there is none."""
        columns = (snapshots.c.cursor, snapshots.c.body)
        rows = await self._database.rows(select(*columns).where(snapshots.c.name == name))
        return Snapshot(cursor=rows[0].cursor, body=bytes(rows[0].body)) if rows else None

    async def save(self, name: str, snapshot: Snapshot) -> None:
        """In place of an older one; one that another replica made of more stays."""
        values = {"name": name, "cursor": snapshot.cursor, "saved_at": self._clock(), "body": snapshot.body}
        statement = insert_or_update(self._database.backend, snapshots, ["name"], newer_by="cursor")

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(statement, values)

        await self._database.run(write, mode="write")


class _ReadOnly(SnapshotTable):
    async def save(self, name: str, snapshot: Snapshot) -> None:
        del name, snapshot
