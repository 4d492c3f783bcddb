"""Decisions as a person looks for them: by any of a few facts, newest first."""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, UnaryExpression, select
from sqlalchemy.sql.operators import custom_op

from service.base.ids import first_id
from service.store.address import Backend
from service.store.schema import AnySelect, decisions, storable


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


def ids_of(wanted: DecisionFilter, limit: int, backend: Backend) -> AnySelect:
    """The ids of the newest that fit. One fact alone has an index that gives that order; of several, the facts are read
    in order and the wide rows are not."""
    table = decisions.c
    given = {"agent_type", "model", "source", "kind", "task_id"}
    named = {name: value for name in given if (value := getattr(wanted, name)) is not None}
    alone = len(named) + wanted.degraded <= 1 or backend == "postgresql"  # which counts how often each value occurs
    conditions: list[ColumnElement[bool]] = []
    for name, value in sorted(named.items()):
        column = table[name] if alone or name == "task_id" else not_by_index(table[name])
        conditions.append(column == storable(value))
    if wanted.degraded:
        conditions.append((table.degraded if alone else not_by_index(table.degraded)) == True)  # noqa: E712 - SQL
    if wanted.before is not None:
        conditions.append(table.decision_id < storable(wanted.before))
    if wanted.since is not None:
        conditions.append(table.decision_id >= first_id(wanted.since))
    if wanted.until is not None:
        conditions.append(table.decision_id < first_id(wanted.until))
    return select(table.decision_id).where(*conditions).order_by(table.decision_id.desc()).limit(limit)


def not_by_index(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """SQLite's unary plus: it has no index for that, and so keeps to the one that holds all facts."""
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)
