"""Triggers that drop the sums of a stretch of time in the transaction that changes a row of it.

The database does it, so that it holds for whoever writes: a replica of the version before, which knows no sums, a
command, a person. These statements have shipped with migrations 5 and 6 and are never edited.

A sum is made in three transactions (see summing.py): the stretch is named, its rows are read, and the sums are kept if
the stretch is still named. A row that comes after the naming takes the name away, and so no sum is kept without it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

_SQLITE_TRIGGER = """CREATE TRIGGER {name}_sums_{what} AFTER {event} ON {table}
    WHEN EXISTS (SELECT 1 FROM stretches WHERE of_table = '{name}' AND stretch = substr({row}.{id}, 1, 6))
    BEGIN
        DELETE FROM {sums}
            WHERE stretch IN (substr({row}.{id}, 1, 6), substr({row}.{id}, 1, 5), substr({row}.{id}, 1, 4));
        DELETE FROM stretches WHERE of_table = '{name}'
            AND stretch IN (substr({row}.{id}, 1, 6), substr({row}.{id}, 1, 5), substr({row}.{id}, 1, 4));
    END"""
"""A stretch of five or four digits is summed only where those of six are, so that to ask for these is enough."""

_POSTGRESQL_DROP = """
        DELETE FROM stretches WHERE of_table = '{name}' AND stretch = substr({row}.{id}, 1, 6);
        IF FOUND THEN
            DELETE FROM stretches WHERE of_table = '{name}'
                AND stretch IN (substr({row}.{id}, 1, 5), substr({row}.{id}, 1, 4));
            DELETE FROM {sums}
                WHERE stretch IN (substr({row}.{id}, 1, 6), substr({row}.{id}, 1, 5), substr({row}.{id}, 1, 4));
        END IF;"""

_POSTGRESQL_FUNCTION = """CREATE OR REPLACE FUNCTION {name}_drop_sums() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            DELETE FROM stretches WHERE of_table = '{name}';
            DELETE FROM {sums};
            RETURN NULL;
        END IF;
        IF TG_OP <> 'INSERT' THEN {old}
        END IF;
        IF TG_OP <> 'DELETE' THEN {new}
        END IF;
        RETURN NULL;
    END $$"""
"""With the rights of whoever made the tables: a role that may write rows, by hand for instance, may know no sums. The
deletion waits for whoever keeps sums of that stretch just now, and then finds them: each statement in it sees
what was committed before it began, unless the writer asked for a stricter isolation than the usual one."""


class _Sums(NamedTuple):
    """Sums by the name that their stretches have, and the table of the rows that they are made of."""

    name: str
    table: str
    id: str
    sums: str


def _sqlite(kept: Sequence[_Sums]) -> tuple[str, ...]:
    return tuple(
        _SQLITE_TRIGGER.format(**one._asdict(), what=what, event=event, row=row)
        for one in kept
        for what, event, row in (
            ("added", "INSERT", "NEW"),
            ("changed", "UPDATE", "OLD"),
            ("moved", f"UPDATE OF {one.id}", "NEW"),
            ("deleted", "DELETE", "OLD"),
        )
    )


def _postgresql(kept: Sequence[_Sums]) -> tuple[str, ...]:
    statements: list[str] = []
    for one in kept:
        old, new = (_POSTGRESQL_DROP.format(**one._asdict(), row=row) for row in ("OLD", "NEW"))
        statements += [
            _POSTGRESQL_FUNCTION.format(**one._asdict(), old=old, new=new),
            f"""CREATE TRIGGER {one.name}_sums_changed AFTER INSERT OR UPDATE OR DELETE ON {one.table}
                FOR EACH ROW EXECUTE FUNCTION {one.name}_drop_sums()""",
            f"""CREATE TRIGGER {one.name}_sums_emptied AFTER TRUNCATE ON {one.table}
                FOR EACH STATEMENT EXECUTE FUNCTION {one.name}_drop_sums()""",
        ]
    return tuple(statements)


def _dropping(*kept: _Sums) -> Mapping[str, tuple[str, ...]]:
    return {"sqlite": _sqlite(kept), "postgresql": _postgresql(kept)}


DROPPING_SUMS = _dropping(
    _Sums("decisions", "decisions", "decision_id", "decision_sums"),
    _Sums("outcomes", "outcomes", "outcome_id", "outcome_sums"),
)
DROPPING_ADVISED_SUMS = _dropping(
    _Sums("advised_decisions", "decisions", "decision_id", "advised_decision_sums"),
    _Sums("advised_outcomes", "outcomes", "outcome_id", "advised_outcome_sums"),
)
