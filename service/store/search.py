"""Decisions as a person looks for them: by any of a few facts, newest first."""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, UnaryExpression, select
from sqlalchemy.sql.operators import custom_op

from service.base.ids import first_id
from service.store.database import Database
from service.store.schema import decisions, storable

MOST_SEARCHED = 200_000
"""Rows that are read for one page, where what is looked for is rare: some 40 ms. The next page goes on from there."""


class DecisionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What is set must hold. `before` is a decision_id, exclusive; `since` and `until` are when it was decided, the
    latter exclusive."""

    agent_type: str | None = None
    model: str | None = None
    source: str | None = None
    kind: str | None = None
    task_id: str | None = None
    degraded: bool = False
    since: datetime | None = None
    until: datetime | None = None
    before: str | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The newest that fit, newest first. `searched_to` is where the search ended without an end of the record: older
    ones may fit as well."""

    ids: list[str]
    searched_to: str | None = None


async def search(database: Database, wanted: DecisionFilter, limit: int) -> Found:
    """The ids of the newest that fit. One fact alone has an index that gives that order, and PostgreSQL knows how often
    each value occurs; of several facts SQLite reads the newest `MOST_SEARCHED` rows of an index that has them all."""
    table = decisions.c
    named = {name: value for name in _FACTS if (value := getattr(wanted, name)) is not None}
    alone = len(named) + wanted.degraded <= 1 or wanted.task_id is not None or database.backend == "postgresql"
    end = None if alone else await _searched_to(database, wanted)
    equal: dict[str, Any] = {name: storable(value) for name, value in named.items()}
    if wanted.degraded:
        equal["degraded"] = True
    columns = {name: table[name] if alone else not_by_index(table[name]) for name in equal}
    conditions: list[ColumnElement[bool]] = [columns[name] == value for name, value in equal.items()]
    if end is not None:
        conditions.append(table.decision_id > end)
    statement = select(table.decision_id).where(*conditions, *_span(wanted))
    rows = await database.rows(statement.order_by(table.decision_id.desc()).limit(limit))
    return Found(ids=[row.decision_id for row in rows], searched_to=None if len(rows) == limit else end)


_FACTS = ("agent_type", "model", "source", "kind", "task_id")


async def _searched_to(database: Database, wanted: DecisionFilter) -> str | None:
    """None where the record has no more than may be searched."""
    last = select(decisions.c.decision_id).where(*_span(wanted)).order_by(decisions.c.decision_id.desc())
    rows = await database.rows(last.offset(MOST_SEARCHED).limit(1))
    return rows[0].decision_id if rows else None


def _span(wanted: DecisionFilter) -> list[ColumnElement[bool]]:
    by_id = decisions.c.decision_id
    conditions: list[ColumnElement[bool]] = []
    if wanted.before is not None:
        conditions.append(by_id < storable(wanted.before))
    if wanted.since is not None:
        conditions.append(by_id >= first_id(wanted.since))
    if wanted.until is not None:
        conditions.append(by_id < first_id(wanted.until))
    return conditions


def not_by_index(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """SQLite's unary plus: it has no index for that, and so keeps to the one that holds all facts."""
    plus: custom_op[Any] = custom_op("+")
    return UnaryExpression(column, operator=plus, type_=column.type)
