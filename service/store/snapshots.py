"""What was made of many rows, kept so that a start reads one: the newest of each name stands."""

from collections.abc import Callable
from datetime import datetime

import msgspec
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.database import Database
from service.store.dialect import insert_new, insert_or_update
from service.store.schema import snapshots

KIND_WORDS = "kind-words"
"""What cannot be made anew from what else is on record, so that a copy of the database takes it along."""


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

    async def replace(self, name: str, snapshot: Snapshot, before: int | None) -> bool:
        """In place of the one whose cursor is `before` (None: of none at all); False where another stands there by now,
        so that whoever adds to what others wrote loses nothing of theirs."""
        values = {"cursor": snapshot.cursor, "saved_at": self._clock(), "body": snapshot.body}
        if before is None:
            new = insert_new(self._database.backend, snapshots, ["name"])
            return await self._database.change(new.values(name=name, **values)) == 1
        same = (snapshots.c.name == name, snapshots.c.cursor == before)
        return await self._database.change(update(snapshots).where(*same).values(**values)) == 1


class _ReadOnly(SnapshotTable):
    async def save(self, name: str, snapshot: Snapshot) -> None:
        del name, snapshot

    async def replace(self, name: str, snapshot: Snapshot, before: int | None) -> bool:
        del name, snapshot, before
        return True
