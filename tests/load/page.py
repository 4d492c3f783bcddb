"""How long the page's views take over a large record, in either database.

    python -m tests.load.page [--decisions 1000000] [--days 90] [--postgresql | --url U] [--folder F]

The record has as many outcomes as a third of its decisions. Rows are those of the real pipeline, 240 different ones in
turn, written past the service; then the service runs as a process of its own, and each view is asked for 20 times.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from service.api.page.engine import named
from service.base.ids import uuid7
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.decision import LoggedDecision
from service.store import Store
from service.store.buffer import _row  # pyright: ignore[reportPrivateUsage]
from service.store.facts import facts_of_outcome
from service.store.schema import decisions, outcomes, sortable
from tests.support.postgres import PostgresServer
from tests.support.recorded_days import decided, outcome_of
from tests.support.service_process import ServiceProcess

TIMES = 20
BATCH = 5000

KEPT = {
    "POINTSMAN_STORE__KEEP_DAYS": "3650",
    "POINTSMAN_STORE__KEEP_DECISIONS": "100000000",
    "POINTSMAN_STORE__MAX_BYTES": str(1 << 40),
}
"""By its defaults a service would begin to delete most of such a record, while it is being measured."""


def main() -> None:
    """Fills a record and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--days", type=float, default=90.0)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--url", help="A PostgreSQL database that was filled before.")
    parser.add_argument("--folder", type=Path, help="Keep the SQLite file here, and use it again.")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / f"page-{given.decisions}.db"
        there = file.exists() and not given.postgresql
        if given.url:
            url, fill, there = given.url, _fill_postgresql, True
        elif given.postgresql:
            server = stack.enter_context(PostgresServer())
            url, fill = server.url(server.create_database()), _fill_postgresql
        else:
            url, fill = f"sqlite:///{file}", _fill_sqlite
        if not there:
            started = time.perf_counter()
            asyncio.run(_fill(url, fill, given.decisions, given.days))
            print(f"filled in {time.perf_counter() - started:.0f} s", flush=True)
        if file.exists():
            print(f"{file.stat().st_size / 1e9:.2f} GB")
        started = time.perf_counter()
        rounds, spent = asyncio.run(_sum(url))
        print(f"summed in {time.perf_counter() - started:.1f} s, {spent:.1f} s of CPU, {rounds} rounds", flush=True)
        environ = {"HOME": str(folder), "PATH": os.environ["PATH"], "POINTSMAN_STORE__URL": url, **KEPT}
        with ServiceProcess(environ, folder / "serve.log") as service:
            _wait_until_learned(service)
            _measure(service)


async def _sum(url: str) -> tuple[int, float]:
    """What a service does in the background, without its pauses."""
    before, rounds = time.process_time(), 0
    store = Store(url)
    await store.start()
    while await store.summing.round():
        rounds += 1
    await store.aclose()
    return rounds, time.process_time() - before


def _wait_until_learned(service: ServiceProcess) -> None:
    """It reads the whole history at its first start, which is measured elsewhere."""
    before = -1
    with service.client() as client:
        while (now := client.get("/v1/status").json()["learning"]["outcomes"]) != before or now == 0:
            before = now
            time.sleep(5)


def _measure(service: ServiceProcess) -> None:
    with service.client() as client:
        listed = client.get("/v1/decisions?limit=1").json()["decisions"]
        one = listed[0]["decision"]
        strongest = named(load_catalog(DEFAULT_CATALOG).candidates[0])
        middle = client.get("/v1/decisions?limit=500").json()["decisions"][-1]["decision"]["decision_id"]
        rare = f"agent_type={one['agent_type']}&model={one['model']}&kind=greenfield&source=local_model"
        views = {
            "now": "/",
            "decisions": "/decisions",
            "decisions, older": f"/decisions?before={middle}",
            "one agent": "/decisions?agent_type=claude",
            "one kind": "/decisions?kind=greenfield",
            "degraded": "/decisions?degraded=true",
            "a task": "/decisions?task_id=T-17",
            "no such task": "/decisions?task_id=none",
            "four facts, some": f"/decisions?{rare}",
            "four facts, none": "/decisions?agent_type=codex&model=none&kind=issue&source=cli",
            "one decision": f"/decisions/{one['decision_id']}",
            "candidates": "/candidates",
            "report, 1 day": "/report?days=1",
            "report, 7 days": "/report",
            "report, 7 days, baseline": f"/report?baseline={strongest}",
            "report, 30 days": "/report?days=30",
            "report, 90 days": "/report?days=91",
            "report, 90 days, baseline": f"/report?days=91&baseline={strongest}",
        }
        print(f"{'view':28} {'first':>8} {'median':>8} {'worst':>8} {'CPU':>8}  ms")
        for name, path in views.items():
            taken: list[float] = []
            before = _cpu_seconds(service)
            for _ in range(TIMES):
                started = time.perf_counter()
                answer = client.get(path)
                taken.append((time.perf_counter() - started) * 1000)
                assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
            rest = taken[1:]
            spent = (_cpu_seconds(service) - before) * 1000 / TIMES
            print(f"{name:28} {taken[0]:8.1f} {statistics.median(rest):8.1f} {max(rest):8.1f} {spent:8.1f}", flush=True)


def _cpu_seconds(service: ServiceProcess) -> float:
    """Of the service's process; a database beside it is not in it. On a busy machine this says more than the clock."""
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


Fill = Callable[[str, str, list[str], Iterator[list[tuple[Any, ...]]]], Any]


async def _fill(url: str, fill: Fill, count: int, days: float) -> None:
    store = Store(url)
    await store.start()
    await store.aclose()
    until = datetime.now(UTC)
    templates = await decided(240, days=1, until=until)
    names = [column.name for column in decisions.columns]
    await fill(url, "decisions", names, _decisions(templates, names, count, days, until))
    names = [column.name for column in outcomes.columns]
    await fill(url, "outcomes", names, _outcomes(templates, names, count // 3, days, until))


def _decisions(
    templates: list[LoggedDecision], names: list[str], count: int, days: float, until: datetime
) -> Iterator[list[tuple[Any, ...]]]:
    rows = [_row(one, keep_instructions=False).columns() for one in templates]
    batch: list[tuple[Any, ...]] = []
    for number in range(count):
        row = rows[number % len(rows)]
        moment = until - timedelta(days=days * (count - number) / count)
        decision_id = uuid7(now_ns=lambda at=moment: int(at.timestamp() * 1e9))  # type: ignore[misc]
        body = row["body"].replace(row["decision_id"], decision_id)
        fresh = {"decision_id": decision_id, "decided_at": moment, "body": body, "task_id": f"T-{number // 2}"}
        batch.append(tuple({**row, **fresh}[name] for name in names))
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


def _outcomes(
    templates: list[LoggedDecision], names: list[str], count: int, days: float, until: datetime
) -> Iterator[list[tuple[Any, ...]]]:
    chance = random.Random(1)
    batch: list[tuple[Any, ...]] = []
    for number in range(count):
        outcome, context = outcome_of(templates[number % len(templates)], chance)
        moment = until - timedelta(days=days * (count - number) / count)
        row = {
            **dict.fromkeys(names),
            "seq": number + 1,
            "change": number + 1,
            "outcome_id": uuid7(now_ns=lambda at=moment: int(at.timestamp() * 1e9)),  # type: ignore[misc]
            "recorded_at": moment,
            "attempt": 1,
            "agent_type": outcome.agent_type,
            "model": outcome.model,
            "solved": outcome.solved,
            "body": json.dumps({"agent_type": outcome.agent_type, "model": outcome.model, "solved": outcome.solved}),
            **facts_of_outcome(outcome, context),
        }
        batch.append(tuple(row[name] for name in names))
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


async def _fill_sqlite(url: str, table: str, names: list[str], batches: Iterator[list[tuple[Any, ...]]]) -> None:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    for batch in batches:
        plain = [tuple(sortable(value) if isinstance(value, datetime) else value for value in row) for row in batch]
        connection.execute("BEGIN")
        connection.executemany(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", plain
        )
        connection.execute("COMMIT")
    connection.close()


async def _fill_postgresql(url: str, table: str, names: list[str], batches: Iterator[list[tuple[Any, ...]]]) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    for batch in batches:
        await connection.copy_records_to_table(table, records=batch, columns=names)
    await connection.execute(f"VACUUM ANALYZE {table}")
    await connection.close()


if __name__ == "__main__":
    main()
