"""The decision log in SQLite and in PostgreSQL."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.base.ids import uuid7
from service.store import Store, StoredDecision, StoreLimits
from service.store.decisions import listing
from service.store.schema import decisions
from tests.support.store_fixtures import OpenStore, a_decision


async def test_a_decision_is_read_as_it_was_made(store_url: str, open_store: OpenStore) -> None:
    """What was decided, about what, when and why, comes back whole, at once."""
    store = await open_store(store_url)
    logged = a_decision(prompt="Why? \0 'quoted' 火")
    store.decisions.add(logged)
    found = await store.decisions.get(logged.decision.decision_id)
    assert found is not None
    assert found.decoded() == logged.decision
    assert (found.task_id, found.name, found.labels) == (logged.task_id, logged.name, logged.labels)
    assert found.decided_at == logged.decided_at
    assert isinstance(found.explanation, msgspec.Raw)
    assert msgspec.json.decode(found.explanation) == logged.explanation


async def test_a_damaged_explanation_leaves_the_decision(store_url: str, open_store: OpenStore) -> None:
    """The rest of it is read, with an explanation that says nothing."""
    store = await open_store(store_url)
    logged = a_decision()
    store.decisions.add(logged)
    await store.decisions.flush()

    async def damage(connection: AsyncConnection) -> None:
        await connection.execute(update(decisions).values(packed=b"not zlib"))

    await store._database.run(damage, mode="write")
    found = await store.decisions.get(logged.decision.decision_id)
    assert found is not None
    assert (found.decoded(), bytes(found.explanation or b"")) == (logged.decision, b"{}")


async def test_an_unknown_decision_is_none(store_url: str, open_store: OpenStore) -> None:
    """An id that never was is no error, whatever is in it."""
    store = await open_store(store_url)
    for decision_id in ("nothing", "", "a\0b", "\ud800", "x" * 100_000):
        assert await store.decisions.get(decision_id) is None
        assert await store.decisions.newest(limit=5, before=decision_id, task_id=decision_id) == []


async def test_the_log_is_read_newest_first_page_by_page(store_url: str, open_store: OpenStore) -> None:
    """`before` is exclusive, so that pages put together are the whole log, newest first, without explanations."""
    store = await open_store(store_url)
    ids = [uuid7() for _ in range(25)]
    for decision_id in ids:
        store.decisions.add(a_decision(decision_id=decision_id))
    read: list[StoredDecision] = []
    while page := await store.decisions.newest(limit=10, before=read[-1].decision_id if read else None):
        read += page
    assert [stored.decision_id for stored in read] == ids[::-1]
    assert all(stored.explanation is msgspec.UNSET for stored in read)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param({"task_id": "a"}, ["3", "1"], id="task"),
        pytest.param({"agent_type": "gemini"}, ["4", "3"], id="agent"),
        pytest.param({"task_id": "a", "agent_type": "gemini"}, ["3"], id="both"),
        pytest.param({"task_id": "' OR 1=1 --"}, ["2"], id="hostile"),
    ],
)
async def test_filters_select(
    store_url: str, open_store: OpenStore, filters: dict[str, Any], expected: list[str]
) -> None:
    """Filters by task and by agent type give exactly the decisions that have both."""
    store = await open_store(store_url)
    store.decisions.add(a_decision(decision_id="1", task_id="a", agent_type="claude"))
    store.decisions.add(a_decision(decision_id="2", task_id="' OR 1=1 --", agent_type="claude"))
    store.decisions.add(a_decision(decision_id="3", task_id="a", agent_type="gemini"))
    store.decisions.add(a_decision(decision_id="4", task_id=None, agent_type="gemini"))
    assert [stored.decision_id for stored in await store.decisions.newest(limit=10, **filters)] == expected


async def test_decisions_are_written_within_a_second(store_url: str, open_store: OpenStore) -> None:
    """Another replica sees a decision a second after it was made, though nobody asked the first one to write it."""
    store, other = await open_store(store_url), await open_store(store_url)
    store.decisions.add(a_decision(decision_id="1"))
    await asyncio.sleep(1.0)
    assert [stored.decision_id for stored in await other.decisions.newest(limit=10)] == ["1"]
    assert store.status.buffered == 0


async def test_decisions_are_written_at_shutdown(store_url: str, open_store: OpenStore) -> None:
    """Closing writes what waits, more than one batch of it."""
    store = Store(store_url, StoreLimits(flush_seconds=60))
    await store.start()
    for _ in range(1200):
        store.decisions.add(a_decision())
    await store.aclose()
    assert store.status.dropped == 0
    other = await open_store(store_url)
    assert len(await other.decisions.newest(limit=2000)) == 1200


async def test_a_decision_that_is_there_already_does_no_harm(store_url: str, open_store: OpenStore) -> None:
    """A batch whose commit was not heard of is written again; the defect would be a batch that fails for ever."""
    store = await open_store(store_url)
    for _ in range(2):
        store.decisions.add(a_decision(decision_id="1"))
        assert len(await store.decisions.newest(limit=10)) == 1
    store.decisions.add(a_decision(decision_id="1"))
    store.decisions.add(a_decision(decision_id="2"))
    assert len(await store.decisions.newest(limit=10)) == 2


async def test_old_decisions_are_pruned(store_url: str, open_store: OpenStore) -> None:
    """Those older than `keep_days` go, and of the rest all but the newest `keep_rows`; others stay."""
    store = await open_store(store_url)
    now = datetime.now(UTC)
    for day in range(10):
        made = now - timedelta(days=day, minutes=1)
        decision_id = uuid7(now_ns=partial(int, made.timestamp() * 1e9))
        store.decisions.add(a_decision(decision_id=decision_id))
    kept = [stored.decision_id for stored in await store.decisions.newest(limit=100)]
    await store.pruner.by_age(now=now, keep_days=7)
    assert [stored.decision_id for stored in await store.decisions.newest(limit=100)] == kept[:7]
    for _ in range(2):
        await store.pruner.by_number(5)
        assert [stored.decision_id for stored in await store.decisions.newest(limit=100)] == kept[:5]


async def test_the_log_is_bounded_in_size(store_url: str, open_store: OpenStore) -> None:
    """Of more than fits the oldest go, and the newest thousand stay whatever the bound says."""
    store = await open_store(store_url, max_buffered_bytes=1 << 30)
    ids = [f"{number:05}" for number in range(6000)]
    for decision_id in ids:
        store.decisions.add(a_decision(decision_id=decision_id, prompt=os.urandom(700).hex()))
    await store.decisions.flush()
    for max_bytes, least, most in ((1 << 30, 6000, 6000), (6 << 20, 2000, 4500), (1 << 20, 1000, 1000)):
        await store.pruner.by_size(max_bytes)
        kept = [stored.decision_id for stored in await store.decisions.newest(limit=9000)]
        assert least <= len(kept) <= most
        assert kept == ids[::-1][: len(kept)]


async def test_a_file_stops_growing(tmp_path: Path, open_store: OpenStore) -> None:
    """Decisions that come in take the room of those that went: a file of SQLite's stays as large as its bound."""
    store = await open_store(
        f"sqlite:///{tmp_path / 'store.db'}", max_bytes=4 << 20, probe_seconds=0.05, flush_seconds=0.01
    )
    sizes: list[int] = []
    for _ in range(12):
        for _ in range(500):
            store.decisions.add(a_decision(prompt=os.urandom(700).hex()))
        await store.decisions.flush()
        await store.pruner.by_size(4 << 20)
        sizes.append((tmp_path / "store.db").stat().st_size)
    assert max(sizes) < 6 << 20
    assert len(await store.decisions.newest(limit=9000)) < 4000


async def test_an_explanation_is_kept_compressed(store_url: str, open_store: OpenStore) -> None:
    """It comes back whole; what an older version of the service wrote is read as it stands."""
    store = await open_store(store_url)
    logged = a_decision(prompt="the same words again and again " * 300)
    store.decisions.add(logged)
    await store.decisions.flush()
    (row,) = await store._database.rows(text("SELECT explanation, length(packed) AS bytes FROM decisions"))
    assert row.explanation == "{}"
    assert row.bytes < 300

    async def older(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE decisions SET packed = NULL, explanation = :old"), {"old": '{"old": 1}'})

    await store._database.run(older, mode="write")
    found = await store.decisions.get(logged.decision.decision_id)
    assert found is not None
    assert found.explanation == msgspec.Raw(b'{"old": 1}')


async def test_pruning_happens_by_itself(store_url: str, open_store: OpenStore) -> None:
    """A store that is told how many decisions to keep deletes the others when it starts."""
    store = await open_store(store_url)
    for n in range(30):
        store.decisions.add(a_decision(decision_id=f"{n:02}"))
    await store.aclose()
    pruning = await open_store(store_url, keep_decisions=4)
    async with asyncio.timeout(30):
        while len(found := await pruning.decisions.newest(limit=100)) > 4:  # noqa: ASYNC110 - the store has no event for it
            await asyncio.sleep(0.02)
    assert [stored.decision_id for stored in found] == ["29", "28", "27", "26"]


@pytest.mark.parametrize("before", [None, "0199"], ids=["newest", "before"])
@pytest.mark.parametrize(
    ("task_id", "agent_type"),
    [
        pytest.param(None, None, id="all"),
        pytest.param("t", None, id="task"),
        pytest.param(None, "a", id="agent"),
        pytest.param("t", "a", id="both"),
    ],
)
async def test_every_listing_uses_an_index(
    store_url: str, open_store: OpenStore, before: str | None, task_id: str | None, agent_type: str | None
) -> None:
    """A million decisions are neither scanned nor sorted: the plan reads an index in its order and stops."""
    store = await open_store(store_url)
    statement = listing(limit=50, before=before, task_id=task_id, agent_type=agent_type)
    sqlite = store.status.backend == "sqlite"

    async def explain(connection: AsyncConnection) -> str:
        if not sqlite:
            many = """INSERT INTO decisions SELECT lpad(n::text, 12, '0'), now(), 't' || n % 5000, 'a' || n % 7, 'm',
                'forecast', false, '{}', '{}' FROM generate_series(1, 30000) n"""
            await connection.execute(text(many))
            await connection.execute(text("ANALYZE decisions"))
        query = str(statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        rows = await connection.execute(text(f"{'EXPLAIN QUERY PLAN' if sqlite else 'EXPLAIN'} {query}"))
        return "\n".join(str(row[-1]) for row in rows)

    plan = await store._database.run(explain, mode="write")
    indexes = [name for name, filtered in (("by_task", task_id), ("by_agent", agent_type)) if filtered]
    assert any(name in plan for name in indexes or ["decisions_pkey", "sqlite_autoindex_decisions_1"])
    for costly in ("TEMP B-TREE", "Seq Scan", "SCAN decisions\n"):
        assert costly not in f"{plan}\n"
    if task_id is None:
        assert "Sort" not in plan
