"""Outcomes in the database: durable before the answer, one per attempt, numbered in the order of their commits.

Every new outcome and every withdrawal gets the next number (`change`), taken while a lock is held until the commit:
SQLite's write lock, or an advisory lock in PostgreSQL. So a reader who has seen number n has seen all before it. With a
sequence 8 may be committed before 7, and a reader who then asks for what is above 8 never sees 7. The price is one
commit at a time for outcomes; what waits meanwhile within a process is committed together.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any, Literal

import msgspec
from sqlalchemy import func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.base.ids import uuid7
from service.contract.decoding import DECODE_ERRORS
from service.contract.errors import StoreUnavailableError
from service.contract.outcome import Context, Outcome, RecordedOutcome
from service.store.database import Database
from service.store.dialect import insert_new
from service.store.facts import facts_of_outcome
from service.store.outcome_text import outcome_of, text_of
from service.store.schema import AnyRow, outcomes, storable, storable_or_none

BATCH_ROWS = 1000
PAGE_ROWS = 500
"""Read at once: decoding so many holds the event loop for some 4 ms."""

_CONTEXT = msgspec.json.Decoder(Context)
_READ = (
    outcomes.c.seq,
    outcomes.c.outcome_id,
    outcomes.c.recorded_at,
    outcomes.c.withdrawn_at,
    outcomes.c.change,
    outcomes.c.body,
    outcomes.c.context,
)

_log = logging.getLogger(__name__)


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one outcome that was handed in.

    `new`: written now. `same`: this very outcome was there already. `conflict`: another outcome is there for that
    attempt, and nothing was written. `outcome_id` is in each case the one that stands in the record. `learned`: the
    catalog of now has its pair, so that it teaches something.
    """

    outcome_id: str
    state: Literal["new", "same", "conflict"]
    learned: bool = True


class OutcomeChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to outcomes after a cursor, oldest first; pass `cursor` next time. Empty: nothing more for now.

    An outcome without `withdrawn_at` is new. One with it must no longer be learned from; where its `seq` is above the
    cursor that was passed, it was withdrawn before it was ever given out, and there is nothing to take back. One whose
    `seq` is not above it has been given out before, and now its decision was found: it takes the place of that one.
    `restarted`: this is another database than the one of the cursor, and everything begins anew. `unreadable` rows
    were left out.
    """

    cursor: int
    outcomes: list[RecordedOutcome]
    restarted: bool = False
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    outcomes: Sequence[Outcome]
    rows: list[dict[str, Any]]
    recordings: "asyncio.Future[list[Recording]]"


class OutcomeTable:
    """Every method raises StoreUnavailableError when the database fails."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None
        self._first_generation = database.generation
        self._generations: dict[str, int] = {}
        self._insert = insert_new(database.backend, outcomes, []).returning(outcomes.c.outcome_id)

    async def record(
        self, batch: Sequence[Outcome], contexts: Sequence[Context | None] = (), origins: Sequence[str | None] = ()
    ) -> list[Recording]:
        """Keeps outcomes, all or none; on the disk when this returns. One answer for each, in order.

        `contexts` are what their decisions knew; `origins` say of outcomes without a decision where they come from, so
        that the same again is known.

        Of one attempt (`decision_id`, `attempt`) one outcome stands, whichever replica it came to; the same again is
        `same`, another one `conflict`, within a batch too. One without `decision_id` is always `new`. Once an outcome
        is withdrawn, another for that attempt may be recorded; both stay in the record.
        """
        if not batch:
            return []
        rows = [
            self._row(outcome, context, origin)
            for outcome, context, origin in zip_longest(batch, contexts, origins[: len(batch)])
        ]
        waiting = _Waiting(batch, rows, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await waiting.recordings

    async def withdraw(self, outcome_id: str) -> bool:
        """Marks it as withdrawn, once and for all; False where there never was one."""
        wanted = outcomes.c.outcome_id == storable(outcome_id)

        async def mark(connection: AsyncConnection) -> bool:
            row = (await connection.execute(select(outcomes.c.withdrawn_at).where(wanted))).first()
            if row is not None and row.withdrawn_at is None:
                change = await last_change(connection) + 1
                values = {"withdrawn_at": self._clock(), "change": change}
                await connection.execute(update(outcomes).where(wanted).values(values))
            return row is not None

        return await self._database.run(mark, mode="ordered")

    async def newest_change(self) -> int:
        """The number of the newest change that is to be seen; 0 where there is none."""
        rows = await self._database.rows(select(func.max(outcomes.c.change)))
        return rows[0][0] or 0

    async def complete(self, contexts: Mapping[str, Context]) -> None:
        """Adds what the decisions of these outcomes knew, by outcome_id, where that was not known; readers of `since`
        are given those outcomes anew."""

        async def write(connection: AsyncConnection) -> None:
            change = await last_change(connection)
            for outcome_id, context in contexts.items():
                wanted = outcomes.c.outcome_id == outcome_id
                lacking = wanted & outcomes.c.context.is_(None) & outcomes.c.withdrawn_at.is_(None)
                row = (await connection.execute(select(outcomes.c.body).where(lacking))).first()
                if row is None:
                    continue
                try:
                    values = {"context": text_of(context), **facts_of_outcome(outcome_of(row.body), context)}
                except DECODE_ERRORS:
                    continue  # one that is damaged stops no other
                change += 1
                await connection.execute(update(outcomes).where(wanted).values({**values, "change": change}))

        await self._database.run(write, mode="ordered")

    async def lacking(self, limit: int) -> list[RecordedOutcome]:
        """Of the newest `limit` outcomes those that name a decision of which nothing is known yet."""
        newest = select(*_READ, outcomes.c.decision_id).order_by(outcomes.c.seq.desc()).limit(limit)
        rows = await self._database.rows(newest)
        lacking = [row for row in rows if row.decision_id and row.context is None and row.withdrawn_at is None]
        return _readable(lacking)[0]

    async def since(self, cursor: int, limit: int = PAGE_ROWS, *, reader: str = "") -> OutcomeChanges:
        """What was recorded or withdrawn, by any replica, after `cursor` (0: from the beginning), oldest first.

        Changes become visible in the order of their numbers, so that none is ever missed. A page that is shorter than
        `limit` is the last for now. Each who follows the record gives a `reader` name of its own, because each has to
        be told once that another database stands in its place.
        """
        statement = select(*_READ).where(outcomes.c.change > cursor).order_by(outcomes.c.change).limit(limit)
        rows = await self._database.rows(statement)
        replaced = self._generations.get(reader, self._first_generation) != self._database.generation
        self._generations[reader] = self._database.generation
        if cursor and (replaced or (not rows and (await self.last_change()) < cursor)):
            return OutcomeChanges(cursor=0, outcomes=[], restarted=True)
        readable, unreadable = _readable(rows)
        return OutcomeChanges(cursor=rows[-1].change if rows else cursor, outcomes=readable, unreadable=unreadable)

    async def last_change(self) -> int:
        """The cursor of one who has seen everything."""
        (row,) = await self._database.rows(select(func.max(outcomes.c.change)))
        return row[0] or 0

    async def of_decision(self, decision_id: str) -> list[RecordedOutcome]:
        """All of one decision, withdrawn ones too, in the order they came."""
        wanted = outcomes.c.decision_id == storable(decision_id)
        rows = await self._database.rows(select(*_READ).where(wanted).order_by(outcomes.c.seq))
        return _readable(rows)[0]

    async def export(self) -> AsyncIterator[RecordedOutcome]:
        """Every outcome that was not withdrawn, in the order they came.

        Page by page, so that no transaction stays open while the reader thinks.
        """
        standing = select(*_READ).where(outcomes.c.withdrawn_at.is_(None)).order_by(outcomes.c.seq).limit(PAGE_ROWS)
        last = 0
        while rows := await self._database.rows(standing.where(outcomes.c.seq > last)):
            for recorded in _readable(rows)[0]:
                yield recorded
            last = rows[-1].seq

    def _row(self, outcome: Outcome, context: Context | None, origin: str | None) -> dict[str, Any]:
        return {
            "outcome_id": uuid7(),
            "recorded_at": self._clock(),
            "decision_id": storable_or_none(outcome.decision_id),
            "attempt": outcome.attempt,
            "agent_type": storable(outcome.pair[0]),
            "model": storable(outcome.pair[1]),
            "solved": outcome.solved,
            "body": text_of(outcome),
            "context": None if context is None else text_of(context),
            "origin": storable_or_none(origin),
            **facts_of_outcome(outcome, context),
        }

    async def _work(self) -> None:
        """Commits what waits, as much as fits at a time, until nothing does."""
        while self._waiting:
            batch = [self._waiting.pop(0)]
            size = len(batch[0].rows)
            while self._waiting and size + len(self._waiting[0].rows) <= BATCH_ROWS:
                batch.append(self._waiting.pop(0))
                size += len(batch[-1].rows)
            try:
                recordings = await self._commit(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it, and others go on
                for waiting in batch:
                    # One for each: an exception that is raised twice carries both tracebacks.
                    copy = StoreUnavailableError(str(error)) if isinstance(error, StoreUnavailableError) else error
                    if not waiting.recordings.done():
                        waiting.recordings.set_exception(copy)
                continue
            for waiting in batch:
                mine, recordings = recordings[: len(waiting.rows)], recordings[len(waiting.rows) :]
                if not waiting.recordings.done():
                    waiting.recordings.set_result(mine)

    async def _commit(self, batch: list[_Waiting]) -> list[Recording]:
        rows = [row for waiting in batch for row in waiting.rows]
        values = [outcome for waiting in batch for outcome in waiting.outcomes]

        async def write(connection: AsyncConnection) -> list[Recording]:
            last = await last_change(connection)
            numbered = [{**row, "seq": last + n, "change": last + n} for n, row in enumerate(rows, 1)]
            new = set((await connection.execute(self._insert, numbered)).scalars())
            standing = await standing_for(connection, [row for row in rows if row["outcome_id"] not in new])
            return [
                Recording(outcome_id=row["outcome_id"], state="new")
                if row["outcome_id"] in new
                else _compared(outcome, standing[known_by(row)])
                for row, outcome in zip(rows, values, strict=True)
            ]

        return await self._database.run(write, mode="ordered")


async def last_change(connection: AsyncConnection) -> int:
    """The last number given out; asked for only under the lock, so that the next one is free."""
    return (await connection.execute(select(func.max(outcomes.c.change)))).scalar() or 0


def known_by(row: Mapping[str, Any]) -> tuple[str, int]:
    """By what a row is recognised: its attempt, or where it comes from."""
    return (row["decision_id"], row["attempt"]) if row["decision_id"] is not None else (row["origin"], 0)


async def standing_for(connection: AsyncConnection, rows: list[dict[str, Any]]) -> dict[tuple[str, int], AnyRow]:
    """What stands in the record for the attempts of `rows`, or for their origins."""
    attempts = sorted({known_by(row) for row in rows if row["decision_id"] is not None})
    origins = sorted({known_by(row) for row in rows if row["decision_id"] is None})
    found: dict[tuple[str, int], AnyRow] = {}
    columns = ("decision_id", "attempt", "origin", "outcome_id", "body")
    for keys, by_origin in ((attempts, False), (origins, True)):
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            wanted = (
                outcomes.c.origin.in_([origin for origin, _ in part])
                if by_origin
                else tuple_(outcomes.c.decision_id, outcomes.c.attempt).in_(part)
            )
            statement = select(*(outcomes.c[name] for name in columns)).where(wanted, outcomes.c.withdrawn_at.is_(None))
            for row in await connection.execute(statement):
                found[(row.origin, 0) if by_origin else (row.decision_id, row.attempt)] = row
    return found


def _compared(outcome: Outcome, standing: AnyRow) -> Recording:
    """One that is damaged is another one, as nothing tells that it was the same: it can be withdrawn."""
    try:
        same = outcome_of(standing.body) == outcome
    except DECODE_ERRORS:
        same = False
    return Recording(outcome_id=standing.outcome_id, state="same" if same else "conflict")


def _readable(rows: Sequence[AnyRow]) -> tuple[list[RecordedOutcome], int]:
    """Those that can be read, and how many cannot: one that is damaged stops no other."""
    found: list[RecordedOutcome] = []
    for row in rows:
        try:
            found.append(_recorded(row))
        except (*DECODE_ERRORS, TypeError) as error:
            _log.warning("outcome %s cannot be read and is left out: %s", row.outcome_id, error)
    return found, len(rows) - len(found)


def _recorded(row: AnyRow) -> RecordedOutcome:
    return RecordedOutcome(
        seq=row.seq,
        outcome_id=row.outcome_id,
        recorded_at=row.recorded_at,
        withdrawn_at=row.withdrawn_at,
        outcome=outcome_of(row.body),
        context=None if row.context is None else _CONTEXT.decode(row.context),
    )
