"""The decision log in the database: written in batches, read newest first, pruned."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.database import Database
from service.store.dialect import insert_new
from service.store.records import StoredDecision
from service.store.schema import AnyRow, AnySelect, decisions, sortable, storable

PRUNE_ROWS = 1000
"""Deleted in one transaction: short enough that no writer waits long for it."""

ROWS_AT_ONCE = 100
"""In one statement of SQLite's. Its driver takes Python's lock anew for each statement, row by row in an `executemany`,
and a busy event loop gives it away every 5 ms only: at 900 decisions/s the log then lagged by 6 s. Nine values each
stay below the 999 that older versions of SQLite take."""

_LISTED = (decisions.c.decision_id, decisions.c.decided_at, decisions.c.task_id, decisions.c.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """One decision, ready to be written; `body` and `explanation` are JSON."""

    decision_id: str
    decided_at: datetime
    task_id: str | None
    agent_type: str
    model: str
    source: str
    degraded: bool
    body: bytes
    explanation: bytes

    @property
    def size(self) -> int:
        """Bytes that it holds, near enough."""
        return len(self.body) + len(self.explanation) + 500

    def values(self) -> dict[str, Any]:
        """By column."""
        return {
            "decision_id": self.decision_id,
            "decided_at": self.decided_at,
            "task_id": self.task_id,
            "agent_type": self.agent_type,
            "model": self.model,
            "source": self.source,
            "degraded": self.degraded,
            "body": self.body.decode(),
            "explanation": self.explanation.decode(),
        }


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    labels: dict[str, str]
    decision: msgspec.Raw


_BODY = msgspec.json.Decoder(_Body)


async def insert_decisions(database: Database, rows: list[DecisionRow]) -> None:
    """Writes a batch. One that is there already is left alone: an earlier try may have been committed unseen."""

    async def write(connection: AsyncConnection) -> None:
        await connection.execute(insert_new(database.backend, decisions, ["decision_id"]), [r.values() for r in rows])

    async def write_sqlite(connection: AsyncConnection) -> None:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = [
                {**row.values(), "decided_at": sortable(row.decided_at)} for row in rows[start : start + ROWS_AT_ONCE]
            ]
            values = tuple(value for row in part for value in row.values())
            await connection.exec_driver_sql(_insert_of(tuple(part[0]), len(part)), values)

    await database.run(write if database.backend == "postgresql" else write_sqlite, mode="write")


@lru_cache(ROWS_AT_ONCE)
def _insert_of(columns: tuple[str, ...], count: int) -> str:
    one = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO decisions ({', '.join(columns)}) VALUES {', '.join([one] * count)} ON CONFLICT DO NOTHING"  # noqa: S608 - names of columns


def listing(*, limit: int, before: str | None, task_id: str | None, agent_type: str | None) -> AnySelect:
    """Newest first; each combination of filters has an index that gives that order."""
    statement = select(*_LISTED).order_by(decisions.c.decision_id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(decisions.c.decision_id < storable(before))
    if task_id is not None:
        statement = statement.where(decisions.c.task_id == storable(task_id))
    if agent_type is not None:
        statement = statement.where(decisions.c.agent_type == storable(agent_type))
    return statement


async def list_decisions(database: Database, statement: AnySelect) -> list[StoredDecision]:
    """Runs a `listing`."""

    async def read(connection: AsyncConnection) -> list[StoredDecision]:
        return [_stored(row) for row in await connection.execute(statement)]

    return await database.run(read, mode="read")


async def read_decision(database: Database, decision_id: str) -> StoredDecision | None:
    """One decision with its explanation; None where there never was one, or it was pruned."""
    statement = select(*_LISTED, decisions.c.explanation).where(decisions.c.decision_id == storable(decision_id))

    async def read(connection: AsyncConnection) -> StoredDecision | None:
        row = (await connection.execute(statement)).first()
        if row is None:
            return None
        return msgspec.structs.replace(_stored(row), explanation=msgspec.Raw(row.explanation.encode()))

    return await database.run(read, mode="read")


async def decisions_of(database: Database, decision_ids: Sequence[str]) -> list[StoredDecision]:
    """Those of them that are there, without explanations; a few hundred at a time."""
    statement = select(*_LISTED).where(decisions.c.decision_id.in_([storable(known) for known in decision_ids]))
    return await list_decisions(database, statement)


async def prune_decisions(database: Database, *, now: datetime, keep_days: float | None, keep_rows: int | None) -> int:
    """Deletes decisions older than `keep_days` and all but the newest `keep_rows`; gives the number deleted."""
    bounds: list[str] = []
    if keep_days is not None:
        milliseconds = max(0, int((now - timedelta(days=keep_days)).timestamp() * 1000))
        # Ids are UUIDv7: the first twelve hexadecimal digits are the time, so that the primary key finds the old ones.
        digits = f"{milliseconds:012x}"
        bounds.append(f"{digits[:8]}-{digits[8:]}")
    if keep_rows is not None:
        bounds.extend(await _bound_of_rows(database, keep_rows))
    if not bounds:
        return 0
    oldest = (
        select(decisions.c.decision_id)
        .where(decisions.c.decision_id < max(bounds))
        .order_by(decisions.c.decision_id)
        .limit(PRUNE_ROWS)
    )
    statement = delete(decisions).where(decisions.c.decision_id.in_(oldest.scalar_subquery()))

    async def prune(connection: AsyncConnection) -> int:
        return (await connection.execute(statement)).rowcount

    total = 0
    while deleted := await database.run(prune, mode="write"):
        total += deleted
    return total


async def _bound_of_rows(database: Database, keep_rows: int) -> list[str]:
    """The id of the oldest decision that stays, where there are more than `keep_rows`."""
    statement = select(decisions.c.decision_id).order_by(decisions.c.decision_id.desc()).offset(keep_rows - 1).limit(1)

    async def read(connection: AsyncConnection) -> list[str]:
        return list((await connection.execute(statement)).scalars())

    return await database.run(read, mode="read")


def _stored(row: AnyRow) -> StoredDecision:
    body = _BODY.decode(row.body)
    return StoredDecision(
        decision_id=row.decision_id,
        decided_at=row.decided_at,
        task_id=row.task_id,
        name=body.name,
        labels=body.labels,
        decision=body.decision.copy(),
    )
