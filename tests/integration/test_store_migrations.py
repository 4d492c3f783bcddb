"""How the schema comes about and changes, in SQLite and in PostgreSQL."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import AsyncConnection

from service.contract.errors import StoreUnavailableError
from service.store import Store
from service.store.address import parse_address
from service.store.database import Database
from service.store.migrations import MIGRATIONS, Migration, migrate
from service.store.schema import metadata
from tests.support.store_fixtures import OpenStore, a_decision, an_outcome

NEWER = (
    *MIGRATIONS,
    Migration(
        1000,
        (
            "ALTER TABLE outcomes ADD COLUMN stars {integer}",
            "ALTER TABLE decisions ADD COLUMN region TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE executions ADD COLUMN queue TEXT",
            "CREATE TABLE reviews (review_id {id} NOT NULL PRIMARY KEY, at {time} NOT NULL, score {double})",
            "CREATE INDEX outcomes_by_model ON outcomes (model)",
        ),
    ),
)
BROKEN = (*MIGRATIONS, Migration(1001, ("CREATE TABLE half (id {id})", "CREATE TABLE no_such_type_follows (")))


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


async def columns(store_url: str) -> dict[str, set[str]]:
    """What the database itself says that it holds, by table."""
    database = Database(parse_address(store_url))

    def look(connection: Connection) -> dict[str, set[str]]:
        seen = inspect(connection)
        return {table: {column["name"] for column in seen.get_columns(table)} for table in seen.get_table_names()}

    async def read(connection: AsyncConnection) -> dict[str, set[str]]:
        return await connection.run_sync(look)

    try:
        return await database.run(read, mode="migration")
    finally:
        await database.aclose()


async def test_the_migrations_make_the_tables_that_are_used(store_url: str, open_store: OpenStore) -> None:
    """Every table and column that a statement names is made by the migrations, and nothing else is."""
    await open_store(store_url)
    assert await columns(store_url) == {
        table.name: {column.name for column in table.columns} for table in metadata.sorted_tables
    }


async def test_replicas_that_start_at_once_agree(store_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Six stores over an empty database all become ready, and each migration has run once, without a failed try.

    The defect it catches: two replicas that both find no tables, of which the second fails.
    """
    stores = [Store(store_url) for _ in range(6)]
    await asyncio.gather(*(store.start() for store in stores))
    try:
        assert [store.status.problem for store in stores] == [None] * 6
        assert "not available" not in caplog.text
        recorded = await asyncio.gather(*(store.outcomes.record([an_outcome()]) for store in stores))
        assert {recording.state for (recording,) in recorded} == {"new"}
    finally:
        await asyncio.gather(*(store.aclose() for store in stores))


async def test_processes_that_start_at_once_agree(store_url: str, open_store: OpenStore) -> None:
    """The same with processes of their own, which share no lock but the database's."""
    script = """
import asyncio, sys
from service.store import Store

async def main():
    store = Store(sys.argv[1])
    await store.start()
    print(store.status.problem)
    await store.aclose()

asyncio.run(main())
"""
    command = [sys.executable, "-W", "error", "-c", script, store_url]
    starting = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(3)]
    async with asyncio.timeout(60):
        said = await asyncio.gather(*(process.communicate() for process in starting))
    assert [out for out, _ in said] == [b"None\n"] * 3
    assert (await open_store(store_url)).status.recording


async def test_an_old_service_works_over_a_newer_schema(store_url: str, open_store: OpenStore) -> None:
    """During a rolling update the old version goes on reading and writing what the new one has extended."""
    old = await open_store(store_url)
    database = Database(parse_address(store_url))
    await migrate(database, now, NEWER)
    await database.aclose()
    assert "reviews" in await columns(store_url)

    restarted = await open_store(store_url)
    for store in (old, restarted):
        logged = a_decision()
        store.decisions.add(logged)
        assert await store.decisions.get(logged.decision.decision_id) is not None
        (recording,) = await store.outcomes.record([an_outcome(decision_id=logged.decision.decision_id)])
        assert recording.state == "new"
        assert await store.outcomes.withdraw(recording.outcome_id)
        assert len(await store.outcomes.of_decision(logged.decision.decision_id)) == 1


async def test_a_migration_happens_whole_or_not_at_all(store_url: str, open_store: OpenStore) -> None:
    """One that fails half-way leaves the schema as it was, and the version that works still starts."""
    await open_store(store_url)
    before = await columns(store_url)
    database = Database(parse_address(store_url))
    with pytest.raises(StoreUnavailableError):
        await migrate(database, now, BROKEN)
    await database.aclose()
    assert await columns(store_url) == before
    assert (await open_store(store_url)).status.recording
