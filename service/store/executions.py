"""Executions in the database: durable before the answer; one that has ended never changes again."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.contract.execution import Execution
from service.store.database import Database
from service.store.records import OPEN_STATES
from service.store.schema import AnyRow, executions, storable, storable_or_none

_FIXED = ("execution_id", "task_id", "name", "created_at", "owner")


async def create_execution(database: Database, execution: Execution, window: timedelta | None) -> Execution:
    """Writes it, or gives back the one of the same task that was created within `window` before it.

    Of two replicas that are asked at once, one creates and both give the same answer.
    """

    async def write(connection: AsyncConnection) -> Execution:
        if window is not None and execution.task_id is not None:
            earlier = await _latest(connection, execution.task_id, execution.created_at - window)
            if earlier is not None:
                return earlier
        await connection.execute(insert(executions).values(_values(execution)))
        return execution

    return await database.run(write, mode="ordered")


async def update_execution(database: Database, execution: Execution) -> bool:
    """Writes its state and figures; False where it had ended before or never was, and nothing is written."""
    values = {name: value for name, value in _values(execution).items() if name not in _FIXED}
    statement = (
        update(executions)
        .where(executions.c.execution_id == storable(execution.execution_id), executions.c.state.in_(OPEN_STATES))
        .values(values)
    )

    async def write(connection: AsyncConnection) -> bool:
        return (await connection.execute(statement)).rowcount == 1

    return await database.run(write, mode="write")


async def mark_seen(database: Database, owner: str, now: datetime) -> int:
    """Says that `owner` is alive; gives how many open executions it has."""
    statement = update(executions).where(*_open(owner)).values(seen_at=now)

    async def write(connection: AsyncConnection) -> int:
        return (await connection.execute(statement)).rowcount

    return await database.run(write, mode="write")


async def read_execution(database: Database, execution_id: str) -> Execution | None:
    """One; None where there never was one."""
    statement = select(executions).where(executions.c.execution_id == storable(execution_id))

    async def read(connection: AsyncConnection) -> Execution | None:
        row = (await connection.execute(statement)).first()
        return None if row is None else _execution(row)

    return await database.run(read, mode="read")


async def execution_of_task(database: Database, task_id: str, since: datetime) -> Execution | None:
    """The newest of a task created at `since` or later, in whatever state."""

    async def read(connection: AsyncConnection) -> Execution | None:
        return await _latest(connection, task_id, since)

    return await database.run(read, mode="read")


async def open_executions(database: Database, owner: str | None, unseen_since: datetime | None) -> list[Execution]:
    """Queued and running ones, oldest first: of `owner`, and of any replica that was not seen since that time."""
    wanted: list[ColumnElement[bool]] = []
    if owner is not None:
        wanted.append(executions.c.owner == storable(owner))
    if unseen_since is not None:
        seen = executions.c.seen_at
        wanted.append(or_(seen < unseen_since, seen.is_(None) & (executions.c.created_at < unseen_since)))
    statement = select(executions).where(*_open(None), *([or_(*wanted)] if wanted else []))

    async def read(connection: AsyncConnection) -> list[Execution]:
        rows = await connection.execute(statement.order_by(executions.c.created_at, executions.c.execution_id))
        return [_execution(row) for row in rows]

    return await database.run(read, mode="read")


def _open(owner: str | None) -> list[ColumnElement[bool]]:
    # `ended_at` as well as the state: the partial index over open ones is by `ended_at`.
    conditions: list[ColumnElement[bool]] = [executions.c.ended_at.is_(None), executions.c.state.in_(OPEN_STATES)]
    return conditions if owner is None else [*conditions, executions.c.owner == storable(owner)]


async def _latest(connection: AsyncConnection, task_id: str, since: datetime) -> Execution | None:
    statement = (
        select(executions)
        .where(executions.c.task_id == storable(task_id), executions.c.created_at >= since)
        .order_by(executions.c.created_at.desc(), executions.c.execution_id.desc())
        .limit(1)
    )
    row = (await connection.execute(statement)).first()
    return None if row is None else _execution(row)


def _values(execution: Execution) -> dict[str, Any]:
    values = msgspec.structs.asdict(execution)
    for name in ("execution_id", "name", "model", "owner"):
        values[name] = storable(values[name])
    for name in ("task_id", "exit_reason"):
        values[name] = storable_or_none(values[name])
    return values


def _execution(row: AnyRow) -> Execution:
    return Execution(**{name: value for name, value in row._mapping.items() if name in _FIELDS})  # noqa: SLF001 - the public name of SQLAlchemy's mapping has an underscore


_FIELDS = frozenset(field.name for field in msgspec.structs.fields(Execution))
