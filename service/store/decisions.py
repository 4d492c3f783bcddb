"""The decision log: written in batches, read newest first, pruned."""

import asyncio
import logging
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.base.ids import first_id
from service.contract.decision import Decision, Known, LoggedDecision
from service.contract.decoding import DECODE_ERRORS
from service.store.buffer import DecisionBuffer, DecisionRow
from service.store.database import Database
from service.store.dialect import insert_new
from service.store.schema import EXPLAINED, AnyRow, AnySelect, decisions, explanation_of, sortable, storable
from service.store.search import DecisionFilter, search

NEWEST = 200
"""Decisions that are looked through for what is told by few."""

ROWS_AT_ONCE = 100 if sqlite3.sqlite_version_info >= (3, 32) else 50
"""In one statement of SQLite's. Its driver takes Python's lock anew for each statement, row by row in an `executemany`,
and a busy event loop gives it away every 5 ms only: at 900 decisions/s the log then lagged by 6 s. Nineteen values each
stay below the 999 that versions before 3.32 take, and far below the 32,766 of later ones."""

_log = logging.getLogger(__name__)

_LISTED = (decisions.c.decision_id, decisions.c.decided_at, decisions.c.task_id, decisions.c.body)


class LoggedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked: the fields of the request's JSON, its text only where that is kept."""

    task: dict[str, Any]
    minutes_of_text: float | None = None


class StoredDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as it was answered. `decision` and `explanation` are the JSON text that was written, so that what a
    newer version of the service wrote is passed on whole. `explanation` is set only where one decision is read.
    """

    decision_id: str
    decided_at: datetime
    task_id: str | None
    name: str
    labels: dict[str, str]
    known: Known
    decision: msgspec.Raw
    explanation: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    request: LoggedRequest | None = None
    """Set where it was kept and is asked for."""

    def decoded(self) -> Decision:
        """Raises msgspec.ValidationError where a newer version wrote what is unknown here."""
        return _DECISION.decode(self.decision)


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    labels: dict[str, str]
    decision: msgspec.Raw
    known: Known = Known()


_BODY = msgspec.json.Decoder(_Body)
_REQUEST = msgspec.json.Decoder(LoggedRequest)
_DECISION = msgspec.json.Decoder(Decision)


class DecisionTable:
    """Reading raises StoreUnavailableError, and first writes what waits: a decision just made can be read. Where
    writing fails, what is on record is read without it."""

    def __init__(
        self,
        database: Database,
        filled: Callable[[], None],
        *,
        max_rows: int,
        max_bytes: int,
        keep_instructions: bool = False,
    ) -> None:
        """At most `max_rows` of `max_bytes` wait to be written; `filled` is told when something waits again."""
        self.buffer = DecisionBuffer(
            self._insert, filled, max_rows=max_rows, max_bytes=max_bytes, keep_instructions=keep_instructions
        )
        self._database = database

    def add(self, logged: LoggedDecision) -> None:
        """Takes a decision to be written within a second. Never waits and never raises.

        While the database is away decisions wait; when the buffer is full the oldest go, and are counted as dropped.
        """
        self.buffer.add(logged)

    async def newest(
        self, *, limit: int = 100, before: str | None = None, task_id: str | None = None, agent_type: str | None = None
    ) -> list[StoredDecision]:
        """Newest first, without explanations; `before` is a decision_id, exclusive."""
        return await self._listed(listing(limit=limit, before=before, task_id=task_id, agent_type=agent_type))

    async def search(self, wanted: DecisionFilter, *, limit: int) -> tuple[list[StoredDecision], str | None]:
        """Newest first, without explanations; and the decision_id from which to go on, None where that is all."""
        await self.flush()
        found = await search(self._database, wanted, limit + 1)
        kept, more = found.ids[:limit], len(found.ids) > limit
        stored = await self.get_many(kept) if kept else []
        ordered = sorted(stored, key=lambda one: one.decision_id, reverse=True)
        return ordered, kept[-1] if more else found.searched_to

    async def requests(self, *, since: datetime, before: str | None, limit: int) -> list[StoredDecision]:
        """Newest first, with what was asked; without explanations."""
        await self.flush()
        newest = select(*_LISTED, decisions.c.request).where(decisions.c.decision_id >= first_id(since))
        if before is not None:
            newest = newest.where(decisions.c.decision_id < storable(before))
        rows = await self._database.rows(newest.order_by(decisions.c.decision_id.desc()).limit(limit))
        found = [_readable(row, row.request) for row in rows]
        return [stored for stored in found if stored is not None]

    async def newest_pools(self) -> StoredDecision | None:
        """The newest decision whose caller told what is left of quota pools, among the newest few."""
        await self.flush()
        newest = select(*_LISTED, decisions.c.request).order_by(decisions.c.decision_id.desc()).limit(NEWEST)
        for row in await self._database.rows(newest):
            if row.request is not None and '"pools":{"' in row.request:
                return _readable(row, row.request)
        return None

    async def get(self, decision_id: str) -> StoredDecision | None:
        """One decision with its explanation, an empty one where that is damaged; None where there never was one, or it
        was pruned."""
        await self.flush()
        wanted = decisions.c.decision_id == storable(decision_id)
        columns = (*_LISTED, *EXPLAINED, decisions.c.request)
        rows = await self._database.rows(select(*columns).where(wanted))
        if not rows:
            return None
        stored = _readable(rows[0], rows[0].request)
        if stored is None:
            return None
        try:
            explanation = msgspec.Raw(explanation_of(rows[0]))
        except zlib.error as error:
            _log.warning("the explanation of decision %s cannot be read: %s", decision_id, error)
            explanation = msgspec.Raw(b"{}")
        return msgspec.structs.replace(stored, explanation=explanation)

    async def get_many(self, decision_ids: Sequence[str]) -> list[StoredDecision]:
        """Those of them that are on record, in any order, without explanations; ask for a few hundred at a time."""
        wanted = decisions.c.decision_id.in_([storable(known) for known in decision_ids])
        return await self._listed(select(*_LISTED).where(wanted))

    async def flush(self) -> None:
        """Writes what waits, unless writing failed last: that is tried again in the background."""
        if len(self.buffer) and not self._database.write_failed:
            await self.buffer.flush()

    async def _listed(self, statement: AnySelect) -> list[StoredDecision]:
        await self.flush()
        found = [_readable(row) for row in await self._database.rows(statement)]
        return [stored for stored in found if stored is not None]

    async def _insert(self, rows: list[DecisionRow]) -> None:
        """One that is there already is left alone: an earlier try may have been committed unseen."""

        written = await asyncio.to_thread(lambda: [row.columns() for row in rows])  # to pack one takes some 10 µs

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(insert_new(self._database.backend, decisions, ["decision_id"]), written)

        async def write_sqlite(connection: AsyncConnection) -> None:
            for start in range(0, len(written), ROWS_AT_ONCE):
                part = [dict(columns) for columns in written[start : start + ROWS_AT_ONCE]]
                for columns in part:
                    columns["decided_at"] = sortable(columns["decided_at"])
                values = tuple(value for columns in part for value in columns.values())
                await connection.exec_driver_sql(_insert_of(tuple(part[0]), len(part)), values)

        await self._database.run(write if self._database.backend == "postgresql" else write_sqlite, mode="write")


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


def _readable(row: AnyRow, request: str | None = None) -> StoredDecision | None:
    """None where it is damaged: that stops no other."""
    try:
        return _stored(row, request)
    except (*DECODE_ERRORS, TypeError) as error:
        _log.warning("decision %s cannot be read and is left out: %s", row.decision_id, error)
        return None


def _stored(row: AnyRow, request: str | None) -> StoredDecision:
    body = _BODY.decode(row.body)
    asked = None if request is None else _REQUEST.decode(request)
    if asked is not None:
        beside = {"name": body.name, "task_id": row.task_id, "labels": body.labels}
        asked.task.update({name: value for name, value in beside.items() if value})
    return StoredDecision(
        decision_id=row.decision_id,
        decided_at=row.decided_at,
        task_id=row.task_id,
        name=body.name,
        labels=body.labels,
        known=body.known,
        decision=body.decision.copy(),
        request=asked,
    )
