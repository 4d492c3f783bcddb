"""The one statement that SQLite and PostgreSQL share but SQLAlchemy spells twice."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Table
from sqlalchemy.dialects import sqlite

from service.store.address import Backend

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql


def insert_new(
    backend: Backend, table: Table, unique: Sequence[str], where: ColumnElement[bool] | None = None
) -> "postgresql.Insert | sqlite.Insert":
    """`INSERT … ON CONFLICT DO NOTHING` on the unique index over `unique`, a partial one with `where`.

    On any of the table's unique indexes where `unique` is empty.
    """
    columns = list(unique) or None
    if backend == "postgresql":
        # A twentieth of the time that a command takes to start, for which SQLite has no use.
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table).on_conflict_do_nothing(index_elements=columns, index_where=where)
    return sqlite.insert(table).on_conflict_do_nothing(index_elements=columns, index_where=where)
