"""The two statements that SQLite and PostgreSQL share but SQLAlchemy spells twice."""

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


def insert_or_update(
    backend: Backend, table: Table, unique: Sequence[str], *, newer_by: str
) -> "postgresql.Insert | sqlite.Insert":
    """`INSERT … ON CONFLICT DO UPDATE` of every other column, unless what stands is greater in `newer_by`."""
    if backend == "postgresql":
        from sqlalchemy.dialects import postgresql  # as above

        new = postgresql.insert(table)
        return new.on_conflict_do_update(
            index_elements=unique,
            set_={column.name: new.excluded[column.name] for column in table.c if column.name not in unique},
            where=table.c[newer_by] <= new.excluded[newer_by],
        )
    other = sqlite.insert(table)
    return other.on_conflict_do_update(
        index_elements=unique,
        set_={column.name: other.excluded[column.name] for column in table.c if column.name not in unique},
        where=table.c[newer_by] <= other.excluded[newer_by],
    )
