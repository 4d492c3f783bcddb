"""Executions in the database: durable before the answer; one that has ended never changes again."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.contract.execution import Execution, ExecutionState
from service.store.database import Database
from service.store.schema import AnyRow, AnySelect, executions, storable, storable_or_none

OPEN_STATES: tuple[ExecutionState, ...] = ("queued", "running")
_FIXED = ("execution_id", "task_id", "name", "created_at", "owner", "request_digest")
_FIELDS = frozenset(field.name for field in msgspec.structs.fields(Execution))


class ExecutionTable:
    """Every method raises StoreUnavailableError when the database fails."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def create(self, execution: Execution, *, window: timedelta | None = None) -> Execution:
        """Keeps it, or gives back one of the same `task_id` and request that is under way, or has succeeded within
        `window` before it was created. None: it is always a new one.

        Of two replicas that are asked at once, one creates and both give the same answer.
        """

        async def write(connection: AsyncConnection) -> Execution:
            if window is not None and execution.task_id is not None:
                earlier = (await connection.execute(_same(execution, window))).first()
                if earlier is not None:
                    return _execution(earlier)
            await connection.execute(insert(executions).values(_values(execution)))
            return execution

        return await self._database.run(write, mode="ordered")

    async def update(self, execution: Execution) -> bool:
        """Keeps its model, state, figures, times and reason. False, and nothing is kept, where it had ended before."""
        values = {name: value for name, value in _values(execution).items() if name not in _FIXED}
        same = executions.c.execution_id == storable(execution.execution_id)
        statement = update(executions).where(same, executions.c.state.in_(OPEN_STATES)).values(values)
        return await self._database.change(statement) == 1

    async def get(self, execution_id: str) -> Execution | None:
        """None where there never was one."""
        return await self._first(select(executions).where(executions.c.execution_id == storable(execution_id)))

    async def same(self, execution: Execution, *, window: timedelta) -> Execution | None:
        """What `create` would give back instead of `execution`."""
        return await self._first(_same(execution, window))

    async def newest(self, *, limit: int, before: str | None = None, task_id: str | None = None) -> list[Execution]:
        """Newest first; `before` is an execution_id, exclusive."""
        statement = select(executions).order_by(executions.c.execution_id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(executions.c.execution_id < storable(before))
        if task_id is not None:
            statement = statement.where(executions.c.task_id == storable(task_id))
        return [_execution(row) for row in await self._database.rows(statement)]

    async def unfinished(self, *, owner: str | None = None, unseen_since: datetime | None = None) -> list[Execution]:
        """Those that are queued or running, oldest first: all, or those of `owner`, or (also) those of any replica
        that has not been seen since `unseen_since`.
        """
        wanted: list[ColumnElement[bool]] = []
        if owner is not None:
            wanted.append(executions.c.owner == storable(owner))
        if unseen_since is not None:
            seen = executions.c.seen_at
            wanted.append(or_(seen < unseen_since, seen.is_(None) & (executions.c.created_at < unseen_since)))
        statement = select(executions).where(*_unfinished(), *([or_(*wanted)] if wanted else []))
        ordered = statement.order_by(executions.c.created_at, executions.c.execution_id)
        return [_execution(row) for row in await self._database.rows(ordered)]

    async def mark_seen(self, owner: str) -> None:
        """Says that `owner` is alive."""
        own = executions.c.owner == storable(owner)
        await self._database.change(update(executions).where(*_unfinished(), own).values(seen_at=self._clock()))

    async def _first(self, statement: AnySelect) -> Execution | None:
        rows = await self._database.rows(statement)
        return _execution(rows[0]) if rows else None


def _unfinished() -> list[ColumnElement[bool]]:
    # `ended_at` as well as the state: the partial index over unfinished ones is by `ended_at`.
    return [executions.c.ended_at.is_(None), executions.c.state.in_(OPEN_STATES)]


def _same(execution: Execution, window: timedelta) -> AnySelect:
    """What failed, was cancelled or was interrupted stands in nobody's way: to ask again is to try again."""
    table = executions.c
    succeeded = (table.state == "succeeded") & (table.ended_at >= execution.created_at - window)
    wanted = [table.task_id == storable_or_none(execution.task_id), table.state.in_(OPEN_STATES) | succeeded]
    if execution.request_digest is not None:
        wanted.append(or_(table.request_digest.is_(None), table.request_digest == execution.request_digest))
    return select(executions).where(*wanted).order_by(table.created_at.desc(), table.execution_id.desc()).limit(1)


def _values(execution: Execution) -> dict[str, Any]:
    values = msgspec.structs.asdict(execution)
    for name in ("execution_id", "name", "model", "owner"):
        values[name] = storable(values[name])
    for name in ("task_id", "exit_reason"):
        values[name] = storable_or_none(values[name])
    return values


def _execution(row: AnyRow) -> Execution:
    return Execution(**{name: value for name, value in row._mapping.items() if name in _FIELDS})  # noqa: SLF001 - the public name of SQLAlchemy's mapping has an underscore
