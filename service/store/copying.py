"""One database's decisions, outcomes and executions taken over into another, in batches that are each whole.

Rows are known by their ids, so that a copy that was interrupted, or is wanted again because more has been recorded,
goes over everything and adds what is missing. The source is only read. What was learned is not copied: the service
learns it anew from the outcomes. But for the words of kinds, whose texts are not kept: they are taken along where the
target has none.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Column, Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.base.clock import utc_now
from service.contract.errors import ConfigurationError, StoreUnavailableError
from service.store.address import Address, parse_address
from service.store.database import Database
from service.store.dialect import insert_new
from service.store.executions import OPEN_STATES
from service.store.facts import OF_CONTEXT
from service.store.migrations import prepare
from service.store.outcomes import known_by, last_change, standing_for
from service.store.schema import decisions, executions, outcomes, snapshots
from service.store.snapshots import KIND_WORDS

BATCH_ROWS = 100
"""A decision with a long task has a megabyte; outcomes of others wait while a batch of them is written."""

PATIENCE_SECONDS = 15.0
"""A service that writes at the same time comes first now and then."""

T = TypeVar("T")
Row = dict[str, Any]
Write = Callable[[list[Row], AsyncConnection], Awaitable[None]]
Progress = Callable[[str, int], None]
"""Told after each batch: which table, and how many of its rows are done."""


class TableCopied(msgspec.Struct, kw_only=True):
    """What became of the rows of one table."""

    copied: int = 0
    there: int = 0
    """Were there already, as an earlier copy or the service left them."""
    changed: int = 0
    """Were there, and more is known since: an outcome's withdrawal or its decision, an execution's end."""
    conflict: list[str] = msgspec.field(default_factory=list[str])
    """Outcomes left out, because another one stands in the record for their attempt or origin."""

    @property
    def total(self) -> int:
        return self.copied + self.there + self.changed + len(self.conflict)


class Copied(msgspec.Struct, kw_only=True):
    """What a copy did."""

    decisions: TableCopied = msgspec.field(default_factory=TableCopied)
    outcomes: TableCopied = msgspec.field(default_factory=TableCopied)
    executions: TableCopied = msgspec.field(default_factory=TableCopied)


async def copy_all(source_url: str, target_url: str, progress: Progress) -> Copied:
    """Copies everything; a wrong URL, a missing source or one database twice is a ConfigurationError, and whatever a
    database does is a StoreUnavailableError that says which of the two it was.
    """
    source_address, target_address = _addresses(source_url, target_url)
    source = Database(source_address, patience_seconds=PATIENCE_SECONDS)
    target = Database(target_address, patience_seconds=PATIENCE_SECONDS)
    try:
        await _at(source, prepare(source, utc_now))
        if not await _at(target, prepare(target, utc_now)):
            raise StoreUnavailableError(f"the store is not available: {target.problem} ({target_address.place})")
        copied = Copied()
        await _Copy(source, target, copied, progress).run()
        return copied
    finally:
        await source.aclose()
        await target.aclose()


class _Copy:
    def __init__(self, source: Database, target: Database, copied: Copied, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._copied = copied
        self._progress = progress

    async def run(self) -> None:
        """Decisions first: an outcome is worth more with its decision than without."""
        await self._table(decisions, decisions.c.decision_id, self._decisions, self._copied.decisions)
        await self._table(outcomes, outcomes.c.seq, self._outcomes, self._copied.outcomes)
        await self._table(executions, executions.c.execution_id, self._executions, self._copied.executions)
        await self._kind_words()

    async def _table(self, table: Table, key: Column[Any], write: Write, done: TableCopied) -> None:
        """Page by page in the order of `key`, each page in one transaction of the target."""
        page = select(*table.c).order_by(key).limit(BATCH_ROWS)
        statement = page
        while found := await _at(self._source, self._source.rows(statement)):
            rows: list[Row] = [dict(row._mapping) for row in found]  # noqa: SLF001 - the public name of SQLAlchemy's mapping has an underscore
            # `ordered` for all: whatever else writes to the target waits for the end of a batch, and then has its turn.
            await _at(self._target, self._target.run(partial(write, rows), mode="ordered"))
            self._progress(table.name, done.total)
            statement = page.where(key > rows[-1][key.name])

    async def _kind_words(self) -> None:
        """A target that has some keeps them: added up, those of a copy that is run again would count twice."""
        found = await _at(self._source, self._source.rows(select(*snapshots.c).where(snapshots.c.name == KIND_WORDS)))
        for row in found:
            new = insert_new(self._target.backend, snapshots, ["name"]).values(dict(row._mapping))  # noqa: SLF001 - as above
            await _at(self._target, self._target.change(new))

    async def _decisions(self, rows: list[Row], connection: AsyncConnection) -> None:
        there = await _present(connection, decisions.c.decision_id, rows)
        new = [row for row in rows if row["decision_id"] not in there]
        if new:
            await connection.execute(insert(decisions), new)
        self._copied.decisions.copied += len(new)
        self._copied.decisions.there += len(rows) - len(new)

    async def _outcomes(self, rows: list[Row], connection: AsyncConnection) -> None:
        """Numbered after what is there, so that a replica which reads what is new learns from them too."""
        done = self._copied.outcomes
        number = await last_change(connection)
        there = await _present(connection, outcomes.c.outcome_id, rows)
        for row in rows:
            if row["outcome_id"] not in there:
                continue
            news = _news(row, there[row["outcome_id"]])
            if news:
                number += 1
                same = outcomes.c.outcome_id == row["outcome_id"]
                await connection.execute(update(outcomes).where(same).values(**news, change=number))
                done.changed += 1
            else:
                done.there += 1
        new = [row for row in rows if row["outcome_id"] not in there]
        known = [row for row in new if row["withdrawn_at"] is None and (row["decision_id"] or row["origin"])]
        standing = await standing_for(connection, known)
        free: list[Row] = []
        for row in new:
            other = standing.get(known_by(row)) if row["withdrawn_at"] is None else None
            if other is None:
                number += 1
                free.append({**row, "seq": number, "change": number})
            elif other.body == row["body"]:  # reported to both
                done.there += 1
            else:
                done.conflict.append(row["outcome_id"])
        if free:
            await connection.execute(insert(outcomes), free)
        done.copied += len(free)

    async def _executions(self, rows: list[Row], connection: AsyncConnection) -> None:
        """One that was open when it was copied gets its end; one that has ended never changes again."""
        done = self._copied.executions
        there = await _present(connection, executions.c.execution_id, rows)
        new = [row for row in rows if row["execution_id"] not in there]
        for row in rows:
            present = there.get(row["execution_id"])
            if present is not None and present["state"] in OPEN_STATES and row["state"] not in OPEN_STATES:
                same = executions.c.execution_id == row["execution_id"]
                await connection.execute(update(executions).where(same).values(row))
                done.changed += 1
            elif present is not None:
                done.there += 1
        if new:
            await connection.execute(insert(executions), new)
        done.copied += len(new)


async def _present(connection: AsyncConnection, key: Column[Any], rows: list[Row]) -> dict[str, Row]:
    """Those of `rows` that the target has, by their id."""
    columns = [column for column in key.table.c if column.name in {key.name, "withdrawn_at", "context", "state"}]
    statement = select(*columns).where(key.in_([row[key.name] for row in rows]))
    found = [dict(row._mapping) for row in await connection.execute(statement)]  # noqa: SLF001 - as above
    return {row[key.name]: row for row in found}


def _news(row: Row, present: Row) -> Row:
    """What has become known of an outcome since it was copied: its withdrawal, and what its decision knew, with what
    reports read of that."""
    if present["withdrawn_at"] is not None:
        return {}
    news = {name for name in ("withdrawn_at", "context") if row[name] is not None and present[name] is None}
    return {name: row[name] for name in (*news, *(OF_CONTEXT if "context" in news else ()))}


async def _at(database: Database, work: Awaitable[T]) -> T:
    """Says which of the two it was that failed."""
    try:
        return await work
    except StoreUnavailableError as error:
        raise StoreUnavailableError(f"{error} ({database.address.place})") from None


def _addresses(source_url: str, target_url: str) -> tuple[Address, Address]:
    source, target = parse_address(source_url), parse_address(target_url)
    for name, address in (("FROM", source), ("TO", target)):
        if address.backend == "memory":
            raise ConfigurationError("a database in memory is gone with this command", path=name)
    if source.path is not None and not source.path.is_file():
        raise ConfigurationError(f"there is no file {source.place}", path="FROM")
    same_file = source.path is not None and target.path is not None and source.path.resolve() == target.path.resolve()
    if same_file or (source.path is None and source.place == target.place):
        raise ConfigurationError(f"expected another database than FROM, which is {source.place}", path="TO")
    return source, target
