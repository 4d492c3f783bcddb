"""`pointsman store copy`: from one database to another, killed in the middle, run again, into one that is in use."""

import asyncio
import json
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Table, select

from service.base.ids import uuid7
from service.contract.decision import Advice
from service.contract.execution import Execution, ExecutionState
from service.contract.outcome import Context
from service.store import Store
from service.store.address import parse_address
from service.store.database import Database
from service.store.ownership import Ownership
from service.store.schema import decisions, executions, outcomes
from tests.support.postgres import PostgresServer
from tests.support.service_process import POINTSMAN, Ended, pointsman, process_environ
from tests.support.store_fixtures import OpenStore, a_decision, an_outcome

MANY = 2_300
"""More than two lines of progress, which come with every thousand rows."""


@pytest.fixture(params=["sqlite-to-postgresql", "postgresql-to-sqlite"])
def urls(request: pytest.FixtureRequest, tmp_path: Path, postgres_database: str) -> tuple[str, str]:
    """From one kind of database to the other; neither has anything yet."""
    file = f"sqlite:///{tmp_path / 'pointsman.db'}"
    return (file, postgres_database) if request.param == "sqlite-to-postgresql" else (postgres_database, file)


async def fill(store: Store, number: int, *, start: int = 0) -> list[str]:
    """So many decisions, each with an outcome, and some executions, one of them open; ids of the outcomes."""
    made = [a_decision(prompt=f"Fix {start + each} «ß»." * 3) for each in range(number)]
    for decision in made:
        store.decisions.add(decision)
    await store.decisions.flush()
    reported = [an_outcome(decision_id=logged.decision.decision_id) for logged in made]
    recordings = await store.outcomes.record(reported)
    for recording in recordings[:: max(1, number // 5)]:
        assert await store.outcomes.withdraw(recording.outcome_id)
    for each in range(12):
        await store.executions.create(an_execution(each))
    return [recording.outcome_id for recording in recordings]


def an_execution(number: int) -> Execution:
    """The first is still running."""
    created = datetime.now(UTC) - timedelta(hours=1)
    ended = None if number == 0 else created + timedelta(seconds=number)
    state: ExecutionState = "running" if number == 0 else "succeeded"
    return Execution(
        execution_id=uuid7(), task_id=f"T-{number}", name="Run", model="m", state=state, created_at=created,
        started_at=created, ended_at=ended, owner="somebody", tokens_in=1, tokens_out=2, cost_usd=0.0,
    )  # fmt: skip


async def contents(url: str) -> dict[str, list[dict[str, Any]]]:
    """All rows, outcomes in their order and without their numbers, which are each database's own."""
    async with opened(url) as database:

        async def rows(table: Table, by: str) -> list[dict[str, Any]]:
            found = await database.rows(select(*table.c).order_by(table.c[by]))
            return [{k: v for k, v in row._mapping.items() if k not in {"seq", "change"}} for row in found]

        return {
            "decisions": await rows(decisions, "decision_id"),
            "outcomes": await rows(outcomes, "seq"),
            "executions": await rows(executions, "execution_id"),
        }


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Database]:
    """A database whose tables are there."""
    database = Database(parse_address(url))
    database.ready = True
    try:
        yield database
    finally:
        await database.aclose()


async def copy(environ: Mapping[str, str], *arguments: str) -> Ended:
    """The command, to its end."""
    return await asyncio.to_thread(pointsman, "store", "copy", *arguments, environ=environ)


def kill_at(line: str, source: str, target: str, environ: Mapping[str, str]) -> None:
    """Starts the command and kills it as soon as it says that it is so far."""
    with subprocess.Popen(
        [*POINTSMAN, "store", "copy", source, target], stderr=subprocess.PIPE, text=True, env=process_environ(environ)
    ) as process:
        assert process.stderr is not None
        said: list[str] = []
        for each in process.stderr:
            said.append(each.strip())
            if each.strip() == line:
                process.kill()
                return
    raise AssertionError(f"it never said {line!r} but {said}")


async def test_a_copy_killed_in_the_middle_goes_on_and_loses_nothing(
    bare_environ: Mapping[str, str], urls: tuple[str, str], open_store: OpenStore
) -> None:
    """Killed among the decisions, and again among the outcomes; run once more the target has every row of the source,
    and a further run finds all of them there.
    """
    source, target = urls
    store = await open_store(source)
    await fill(store, MANY)
    await store.aclose()
    before = await contents(source)
    for line in ("decisions: 1000", "outcomes: 1000"):
        await asyncio.to_thread(kill_at, line, source, target, bare_environ)
    done = await copy(bare_environ, source, target, "--json")
    assert done.code == 0, done.stderr
    assert 0 < done.document["outcomes"]["copied"] < MANY
    assert await contents(target) == before == await contents(source)
    again = (await copy(bare_environ, source, target, "--json")).document
    assert {name: table["there"] for name, table in again.items()} == {
        "decisions": MANY, "outcomes": MANY, "executions": 12,
    }  # fmt: skip
    assert not any(table["copied"] or table["changed"] or table["conflict"] for table in again.values())


async def test_what_happened_since_is_taken_over_by_the_next_run(
    bare_environ: Mapping[str, str], urls: tuple[str, str], open_store: OpenStore
) -> None:
    """The source is in use: new rows, an outcome that was withdrawn and an execution that has ended follow."""
    source, target = urls
    store = await open_store(source)
    outcome_ids = await fill(store, 20)
    assert (await copy(bare_environ, source, target)).code == 0
    await store.outcomes.withdraw(outcome_ids[1])
    pair = ("claude", "m")
    advice = Advice(form="cli", choice=pair, forecast_choice=("codex", "n"), lean=0.5, p_forecast=0.4)
    context = Context(agent_type=pair[0], model=pair[1], kind="issue", plan=[(*pair, 0.5)], advice=advice)
    await store.outcomes.complete({outcome_ids[2]: context})
    (running,) = await store.executions.unfinished()
    ended = msgspec.structs.replace(running, state="succeeded", ended_at=datetime.now(UTC), exit_reason="completed")
    assert await store.executions.update(ended)
    await fill(store, 5, start=20)
    done = await copy(bare_environ, source, target)
    assert done.code == 0
    assert done.stdout.splitlines() == [
        "decisions: 5 copied, 20 were there already",
        "outcomes: 5 copied, 18 were there already, 2 brought up to date",
        "executions: 12 copied, 11 were there already, 1 brought up to date",
    ]
    copied = await contents(target)
    assert copied == await contents(source)
    facts = {row["outcome_id"]: (row["chosen_by"], row["advised_by"], row["p_solve"]) for row in copied["outcomes"]}
    assert facts[outcome_ids[2]] == ("classifier", "cli", 0.5)


async def test_a_database_in_use_keeps_what_it_has_and_its_readers_learn_what_came(
    bare_environ: Mapping[str, str], urls: tuple[str, str], open_store: OpenStore
) -> None:
    """An outcome that both were told is there already; one that contradicts the target's is left out and named, with
    exit code 1; a replica that has read everything so far reads the rest.
    """
    source, target = [await open_store(url) for url in urls]
    both, rival = (a_decision() for _ in range(2))
    for store in (source, target):
        store.decisions.add(both)
        store.decisions.add(rival)
        await store.outcomes.record([an_outcome(decision_id=both.decision.decision_id)])
    await source.outcomes.record([an_outcome(decision_id=rival.decision.decision_id, solved=True)])
    await target.outcomes.record([an_outcome(decision_id=rival.decision.decision_id, solved=False)])
    alone = (await source.outcomes.record([an_outcome(), an_outcome(decision_id=uuid7())]))[0].outcome_id
    history = an_outcome(solved=False)
    for store in (source, target):
        await store.outcomes.record([history], origins=["history.jsonl:1"])
    for store in (source, target):
        await store.decisions.flush()
    cursor = (await target.outcomes.since(0)).cursor
    before = await contents(urls[1])
    done = await copy(bare_environ, *urls, "--json")
    assert done.code == 1
    assert (done.document["decisions"]["there"], done.document["outcomes"]["there"]) == (2, 2)
    (conflict,) = done.document["outcomes"]["conflict"]
    (left_out,) = await source.outcomes.of_decision(rival.decision.decision_id)
    assert conflict == left_out.outcome_id
    after = await contents(urls[1])
    assert after["outcomes"][: len(before["outcomes"])] == before["outcomes"]
    came = (await target.outcomes.since(cursor)).outcomes
    assert (len(came), came[0].outcome_id) == (2, alone)


async def test_what_cannot_be_copied_is_told_and_makes_nothing(
    bare_environ: Mapping[str, str], tmp_path: Path, open_store: OpenStore
) -> None:
    """A source that is not there, memory, one database twice, a server that is not there; no password is shown."""
    source = tmp_path / "source.db"
    url, target = f"sqlite:///{source}", f"sqlite:///{tmp_path / 'target.db'}"
    missing = await copy(bare_environ, url, target)
    assert (missing.code, f"FROM: there is no file {source}" in missing.stderr) == (2, True)
    assert not source.exists()
    assert not (tmp_path / "target.db").exists()
    store = await open_store(url)
    await fill(store, 3)
    twice = await copy(bare_environ, url, f"sqlite:///{tmp_path}/./source.db")
    assert (twice.code, "TO: expected another database than FROM" in twice.stderr) == (2, True)
    memory = await copy(bare_environ, url, "sqlite://")
    assert (memory.code, "in memory" in memory.stderr) == (2, True)
    away = await copy(bare_environ, url, "postgresql://user:hunter2@127.0.0.1:1/name", "--json")
    assert away.code == 1
    assert away.document["type"] == "urn:pointsman:store-unavailable"
    assert "postgresql://127.0.0.1:1/name" in away.document["detail"]
    assert "hunter2" not in json.dumps(away.document) + away.stderr


async def test_a_file_that_another_pod_uses_is_not_written(
    bare_environ: Mapping[str, str], tmp_path: Path, open_store: OpenStore
) -> None:
    """The way back to one pod begins with an end of the others."""
    store = await open_store(f"sqlite:///{tmp_path / 'source.db'}")
    await fill(store, 3)
    other = Ownership(tmp_path / "target.db", machine="another pod")
    await other.take()
    try:
        done = await copy(bare_environ, f"sqlite:///{tmp_path / 'source.db'}", f"sqlite:///{tmp_path / 'target.db'}")
    finally:
        other.release()
    assert done.code == 1
    assert "belongs to one pod or machine at a time" in done.stderr
    assert not (tmp_path / "target.db").exists()


async def test_the_way_back_from_several_pods_is_a_copy(
    bare_environ: Mapping[str, str], tmp_path: Path, postgres_server: PostgresServer, open_store: OpenStore
) -> None:
    """From a file to PostgreSQL, more recorded there, and back into the old file: it has everything, once."""
    file = f"sqlite:///{tmp_path / 'pointsman.db'}"
    name = postgres_server.create_database()
    try:
        store = await open_store(file)
        await fill(store, 10)
        await store.aclose()
        assert (await copy(bare_environ, file, postgres_server.url(name))).code == 0
        replica = await open_store(postgres_server.url(name))
        await fill(replica, 10, start=10)
        await replica.aclose()
        assert (await copy(bare_environ, postgres_server.url(name), file)).code == 0
        assert await contents(file) == await contents(postgres_server.url(name))
        assert len((await contents(file))["outcomes"]) == 20
    finally:
        postgres_server.drop_database(name)
