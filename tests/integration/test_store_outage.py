"""PostgreSQL that goes away, freezes, refuses or is somewhere else."""

import asyncio
import logging
import socket
from collections.abc import Generator

import asyncpg
import pytest

from service.contract.errors import StoreUnavailableError
from service.store import Store, StoreLimits
from tests.support.postgres import PASSWORD, QUOTED_PASSWORD, PostgresServer
from tests.support.store_fixtures import OpenStore, a_decision, an_outcome, until

QUICK = {"patience_seconds": 1.0, "retry_seconds": (0.05, 0.2), "probe_seconds": 0.1}


@pytest.fixture
def stoppable(postgres_server: PostgresServer, postgres_database: str) -> Generator[PostgresServer, None, None]:
    """The server, which is running again after the test whatever happened."""
    yield postgres_server
    if postgres_server.stopped:
        postgres_server.start()


async def test_recording_resumes_after_a_restart(
    stoppable: PostgresServer, postgres_database: str, open_store: OpenStore
) -> None:
    """While the server is away decisions are kept and reports refused, the status tells; then all goes on by itself."""
    store = await open_store(postgres_database, **QUICK)
    (kept,) = await store.outcomes.record([an_outcome(decision_id="d")])
    await asyncio.to_thread(stoppable.stop)
    for n in range(100):
        store.decisions.add(a_decision(decision_id=f"{n:03}"))
    with pytest.raises(StoreUnavailableError):
        await store.outcomes.record([an_outcome(decision_id="d")])
    await until(lambda: not store.status.recording)
    assert store.status.buffered == 100
    assert "nothing listens" in str(store.status.problem) or "closed the connection" in str(store.status.problem)
    await asyncio.to_thread(stoppable.start)
    await until(lambda: store.status.recording and store.status.buffered == 0)
    assert len(await store.decisions.newest(limit=1000)) == 100
    assert store.status.dropped == 0
    (again,) = await store.outcomes.record([an_outcome(decision_id="d")])
    assert (again.state, again.outcome_id) == ("same", kept.outcome_id)


async def test_an_outage_shows_without_traffic(
    stoppable: PostgresServer, postgres_database: str, open_store: OpenStore
) -> None:
    """Nobody has to report anything for the status to say that the database is gone, and that it is back."""
    store = await open_store(postgres_database, **QUICK)
    await asyncio.to_thread(stoppable.stop)
    await until(lambda: not store.status.recording)
    await asyncio.to_thread(stoppable.start)
    await until(lambda: store.status.recording)


async def test_a_server_that_is_away_at_the_start_is_found_later(
    stoppable: PostgresServer, postgres_database: str, open_store: OpenStore
) -> None:
    """The service starts without its database and records as soon as there is one."""
    await asyncio.to_thread(stoppable.stop)
    store = await open_store(postgres_database, **QUICK)
    assert "nothing listens" in str(store.status.problem)
    store.decisions.add(a_decision(decision_id="1"))
    await asyncio.to_thread(stoppable.start)
    await until(lambda: store.status.recording and store.status.buffered == 0)
    assert len(await store.decisions.newest(limit=9)) == 1


async def test_a_frozen_server_holds_nobody_up(
    stoppable: PostgresServer, postgres_database: str, open_store: OpenStore
) -> None:
    """A server that keeps its connections and says nothing makes calls fail in bounded time, closing included."""
    store = await open_store(postgres_database, **QUICK)
    await store.outcomes.record([an_outcome()])
    stoppable.pause(on=True)
    try:
        async with asyncio.timeout(15):
            with pytest.raises(StoreUnavailableError, match="does not answer"):
                await store.outcomes.record([an_outcome()])
        async with asyncio.timeout(15):
            with pytest.raises(StoreUnavailableError, match="does not answer"):
                await store.outcomes.since(0)
        assert not store.status.recording
        other = Store(postgres_database, StoreLimits(patience_seconds=0.5))
        async with asyncio.timeout(15):
            await other.start()
        assert "does not answer" in str(other.status.problem)
        other.decisions.add(a_decision())
        async with asyncio.timeout(15):
            await other.aclose()
        assert other.status.dropped == 1
    finally:
        stoppable.pause(on=False)
    await until(lambda: store.status.recording)
    assert (await store.outcomes.record([an_outcome()]))[0].state == "new"


async def test_a_writer_that_holds_the_lock_is_not_waited_for_forever(
    postgres_database: str, open_store: OpenStore
) -> None:
    """Another replica frozen in the middle of a commit makes reports fail in words, and they work when it is gone."""
    store = await open_store(postgres_database, **QUICK)
    other = await asyncpg.connect(postgres_database)
    try:
        await other.execute("BEGIN")
        await other.fetch("SELECT pg_advisory_xact_lock(objid::bigint) FROM (SELECT $1::bigint AS objid) o", LOCK)
        async with asyncio.timeout(10):
            with pytest.raises(StoreUnavailableError, match="locked by another writer"):
                await store.outcomes.record([an_outcome()])
        await other.execute("ROLLBACK")
    finally:
        await other.close()
    assert (await store.outcomes.record([an_outcome()]))[0].state == "new"


LOCK = 0x706F696E7401


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param((QUOTED_PASSWORD, "not-the-password"), "refuses the password", id="password"),
        pytest.param(("/test_", "/there_is_no_"), "no such database", id="database"),
        pytest.param(("127.0.0.1", "no-such-host.invalid"), "host name is not known", id="host"),
        pytest.param(("postgresql://pointsman", "postgresql://nobody"), "refuses the password", id="user"),
        pytest.param(("/test_", "/x?sslmode=nonsense&y="), "URL is wrong", id="option"),
        pytest.param(("/test_", "/x?sslmode=require&y="), "", id="no TLS there"),
    ],
)
async def test_a_wrong_address_is_told_without_the_password(
    postgres_database: str,
    open_store: OpenStore,
    caplog: pytest.LogCaptureFixture,
    change: tuple[str, str],
    said: str,
) -> None:
    """What is wrong is said in words in the status and in the log, and the password is in neither."""
    caplog.set_level(logging.DEBUG, logger="service")
    store = await open_store(postgres_database.replace(*change), **QUICK)
    assert said in str(store.status.problem)
    with pytest.raises(StoreUnavailableError) as caught:
        await store.outcomes.record([an_outcome()])
    shown = f"{store.status} {caught.value} {caplog.text} {store!r}"
    for secret in (PASSWORD, QUOTED_PASSWORD, "not-the-password"):
        assert secret not in shown


async def test_an_address_that_never_answers_is_bounded(open_store: OpenStore) -> None:
    """A port that accepts and then says nothing holds the start up for a moment only."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with asyncio.timeout(15):
            store = await open_store(
                f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/x", patience_seconds=0.3, probe_seconds=0.1
            )
        assert "does not answer" in str(store.status.problem)
