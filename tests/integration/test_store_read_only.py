"""A database that may only be read is read: on a read-only mount, with the file protected, as a user without rights."""

import os
import re
import subprocess
from collections.abc import Callable, Generator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from service.base.clock import utc_now
from service.contract.errors import StoreUnavailableError
from service.store import Store
from service.store.copying import copy_all
from service.store.tallies import Span
from tests.support.http_fixtures import OpenApp
from tests.support.postgres import PASSWORD, QUOTED_PASSWORD, PostgresServer
from tests.support.store_fixtures import OpenStore, a_decision, an_outcome, until

QUICK = {"patience_seconds": 1.0, "retry_seconds": (0.05, 0.2), "probe_seconds": 0.1}

Protect = Callable[[str], str]
"""Takes the URL of a database and gives the one under which it may only be read."""


def _run(stack: ExitStack, do: list[str], undo: list[str]) -> None:
    if os.geteuid() != 0 or subprocess.run(do, capture_output=True, check=False).returncode:
        pytest.skip(f"needs the right to {do[0]} (run as root, on a file system that can)")
    stack.callback(subprocess.run, undo, check=True, capture_output=True)


@pytest.fixture
def protect(request: pytest.FixtureRequest, tmp_path: Path, postgres_server: PostgresServer) -> Generator[Protect]:
    """The way that the parameter names."""
    with ExitStack() as stack:

        def mount(url: str) -> str:
            """The folder a second time, where nothing may be written."""
            folder, there = Path(url.removeprefix("sqlite:///")).parent, tmp_path / "mounted"
            there.mkdir()
            _run(stack, ["mount", "--bind", str(folder), str(there)], ["umount", "-l", str(there)])
            subprocess.run(["mount", "-o", "remount,bind,ro", str(there)], check=True)
            return f"sqlite:///{there / 'store.db'}"

        def immutable(url: str) -> str:
            """The file itself cannot be written, while its folder can."""
            file = url.removeprefix("sqlite:///")
            _run(stack, ["chattr", "+i", file], ["chattr", "-i", file])
            return url

        def session(url: str) -> str:
            """A user whose transactions may only read."""
            return as_user(url, "reader_of_sessions", "ALTER ROLE {} SET default_transaction_read_only = on")

        def rights(url: str) -> str:
            """A user who may select, and nothing else."""
            return as_user(url, "reader_by_rights", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}")

        def as_user(url: str, role: str, statement: str) -> str:
            database = url.rpartition("/")[2]
            create = f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"
            all_rights = f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
            first = [create] if role.endswith("rights") else [create, all_rights]
            postgres_server.run_sql(*first, statement.format(role), database=database)
            stack.callback(postgres_server.run_sql, f"DROP ROLE {role}")  # its database is gone by then
            return url.replace(f"pointsman:{QUOTED_PASSWORD}", f"{role}:{QUOTED_PASSWORD}")

        yield {"mount": mount, "immutable": immutable, "session": session, "rights": rights}[request.param]


WAYS = [
    pytest.param("sqlite_url", "mount", "may (not )?be written", id="sqlite-mount"),
    pytest.param("sqlite_url", "immutable", "may not be written", id="sqlite-file"),
    pytest.param("postgres_database", "session", "the database is read-only", id="postgresql-session"),
    pytest.param("postgres_database", "rights", "the user lacks a right", id="postgresql-rights"),
]
ways = pytest.mark.parametrize(("database", "protect", "said"), WAYS, indirect=["protect"])


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """In a folder of its own, which can be mounted a second time."""
    (tmp_path / "data").mkdir()
    return f"sqlite:///{tmp_path / 'data' / 'store.db'}"


@ways
async def test_what_is_on_record_is_read(
    database: str, protect: Protect, said: str, request: pytest.FixtureRequest, open_store: OpenStore
) -> None:
    """Decisions and outcomes are given out; what is to be kept is refused in words, and decisions wait."""
    url = str(request.getfixturevalue(database))
    writer = await open_store(url, **QUICK)
    await writer.outcomes.record([an_outcome(decision_id="d")])
    writer.decisions.add(a_decision(decision_id="1"))
    await writer.aclose()
    store = await open_store(protect(url), **QUICK)
    assert not store.status.recording
    assert re.search(said, str(store.status.problem))
    store.decisions.add(a_decision(decision_id="2"))
    assert [one.decision_id for one in await store.decisions.newest(limit=9)] == ["1"]
    assert len((await store.outcomes.since(0)).outcomes) == 1
    with pytest.raises(StoreUnavailableError, match=said):
        await store.outcomes.record([an_outcome()])
    assert len(await store.outcomes.of_decision("d")) == 1
    await store.summing._go_on()
    today = Span(since=utc_now() - timedelta(days=1), until=utc_now() + timedelta(seconds=1))
    assert [one.n for one in await store.tallies.of_outcomes(today)] == [1]
    assert store.status.buffered == 1
    assert re.search(said, str(store.status.problem))
    await store.aclose()  # before its database and its user go: it would look for them again


@ways
async def test_a_service_decides_with_what_it_reads(
    database: str, protect: Protect, said: str, request: pytest.FixtureRequest, open_app: OpenApp, open_store: OpenStore
) -> None:
    """What was learned is in its forecasts and in the catalog, the log can be read, and an outcome is answered 503."""
    url = str(request.getfixturevalue(database))
    writer = await open_store(url, **QUICK)
    told = [
        {"agent_type": "claude", "model": "opus", "solved": False, "task_id": f"t{n}", "cost_usd": 1.0}
        for n in range(60)
    ]
    await writer.aclose()
    whole = await open_app(store={"url": url})
    assert (await whole.client.post("/v1/outcomes", json=told[0])).status_code < 300
    before = await whole.decide()
    for one in told[1:]:
        assert (await whole.client.post("/v1/outcomes", json=one)).status_code < 300
    await whole.core.learner.catch_up()
    learned = await whole.decide()
    assert learned["plan"] != before["plan"]
    await whole.core.store.aclose()
    reading = await open_app(store={"url": protect(url)})
    await until(lambda: reading.core.learner.report.outcomes == len(told))
    assert [step["p_solve"] for step in (await reading.decide())["plan"]] == pytest.approx(
        [step["p_solve"] for step in learned["plan"]], abs=1e-5
    )
    log = (await reading.client.get("/v1/decisions")).json()
    assert learned["decision_id"] in [one["decision"]["decision_id"] for one in log["decisions"]]
    refused = await reading.client.post("/v1/outcomes", json=told[0])
    assert refused.status_code == 503
    assert re.search(said, refused.json()["detail"])
    status = (await reading.client.get("/v1/status")).json()["store"]
    assert status["recording"] is False
    assert re.search(said, status["problem"])


@pytest.mark.parametrize("protect", ["mount"], indirect=True)
async def test_beside_a_writer_it_follows(protect: Protect, sqlite_url: str, open_store: OpenStore) -> None:
    """Whoever reads on a read-only mount sees what another process on the same machine writes, a moment later: with it
    running from before, and with one that starts only then and ends again.
    """
    writer = await open_store(sqlite_url, **QUICK)
    await writer.outcomes.record([an_outcome()])
    reader = await open_store(protect(sqlite_url), **QUICK)
    await writer.outcomes.record([an_outcome()])
    assert len((await reader.outcomes.since(0)).outcomes) == 2
    await reader.aclose()
    await writer.aclose()
    reader = await open_store(f"sqlite:///{Path(sqlite_url[10:]).parents[1] / 'mounted' / 'store.db'}", **QUICK)
    assert len((await reader.outcomes.since(0)).outcomes) == 2
    writer = await open_store(sqlite_url, **QUICK)
    await writer.outcomes.record([an_outcome()])
    assert len((await reader.outcomes.since(0)).outcomes) == 3
    await writer.aclose()
    assert len((await reader.outcomes.since(0)).outcomes) == 3


async def test_it_records_again_as_soon_as_it_may(
    postgres_database: str, postgres_server: PostgresServer, open_store: OpenStore
) -> None:
    """A database that is switched to reading and back is written again, with what waited."""
    first = await open_store(postgres_database, **QUICK)
    await first.aclose()
    name = postgres_database.rpartition("/")[2]
    postgres_server.run_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store = await open_store(postgres_database, **QUICK)
    store.decisions.add(a_decision(decision_id="1"))
    assert await store.decisions.newest(limit=9) == []
    assert not store.status.recording
    postgres_server.run_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    postgres_server.run_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    await until(lambda: store.status.recording and store.status.buffered == 0)
    assert [one.decision_id for one in await store.decisions.newest(limit=9)] == ["1"]


@pytest.mark.parametrize("protect", ["mount"], indirect=True)
async def test_what_is_not_there_cannot_be_read(protect: Protect, sqlite_url: str, open_store: OpenStore) -> None:
    """Without a database, or with one of an older version, the status says so, and reading fails in words."""
    url = protect(sqlite_url)
    store = await open_store(url, **QUICK)
    assert "cannot be opened or created" in str(store.status.problem)
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        await store.decisions.newest(limit=1)
    writer = await open_store(sqlite_url, **QUICK)

    async def older(connection: object) -> None:
        await connection.exec_driver_sql("DELETE FROM schema_version WHERE version > 1")  # type: ignore[attr-defined]

    await writer._database.run(older, mode="write")
    await writer.aclose()
    other = await open_store(url, **QUICK)
    assert "an older version (1)" in str(other.status.problem)
    with pytest.raises(StoreUnavailableError, match="an older version"):
        await other.decisions.newest(limit=1)


@pytest.mark.parametrize("protect", ["mount"], indirect=True)
async def test_it_is_copied_from(protect: Protect, sqlite_url: str, postgres_database: str) -> None:
    """A read-only database can be taken over into another, and not the other way round."""
    writer = Store(sqlite_url)
    await writer.start()
    await writer.outcomes.record([an_outcome()])
    await writer.aclose()
    url = protect(sqlite_url)
    copied = await copy_all(url, postgres_database, lambda _table, _done: None)
    assert copied.outcomes.copied == 1
    with pytest.raises(StoreUnavailableError, match="may be written"):
        await copy_all(postgres_database, url, lambda _table, _done: None)
    assert sorted(file.name for file in Path(url[10:]).parent.iterdir()) == ["store.db", "store.db.lock"]
