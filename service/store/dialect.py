"""The one statement that SQLite and PostgreSQL share but SQLAlchemy spells twice."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Table
from sqlalchemy.dialects import postgresql, sqlite

from service.store.records import Backend


def insert_new(
    backend: Backend, table: Table, unique: Sequence[str], where: ColumnElement[bool] | None = None
) -> postgresql.Insert | sqlite.Insert:
    """`INSERT … ON CONFLICT DO NOTHING` on the unique index over `unique`, a partial one with `where`."""
    if backend == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing(index_elements=unique, index_where=where)
    return sqlite.insert(table).on_conflict_do_nothing(index_elements=unique, index_where=where)
