"""Triggers that drop the sums of a stretch of time in the transaction that changes a row of it.

The database does it, so that it holds for whoever writes: a replica of the version before, which knows no sums, a
command, a person. These statements have shipped with migration 5 and are never edited.

A sum is made in three transactions (see summing.py): the stretch is named, its rows are read, and the sums are kept if
the stretch is still named. A row that comes after the naming takes the name away, and so no sum is kept without it.
"""

_TABLES = (("decisions", "decision_id", "decision_sums"), ("outcomes", "outcome_id", "outcome_sums"))

_SQLITE_TRIGGER = """CREATE TRIGGER {table}_sums_{name} AFTER {event} ON {table}
    WHEN EXISTS (SELECT 1 FROM stretches WHERE of_table = '{table}' AND stretch = substr({row}.{id}, 1, 6))
    BEGIN
        DELETE FROM {sums}
            WHERE stretch IN (substr({row}.{id}, 1, 6), substr({row}.{id}, 1, 5), substr({row}.{id}, 1, 4));
        DELETE FROM stretches WHERE of_table = '{table}'
            AND stretch IN (substr({row}.{id}, 1, 6), substr({row}.{id}, 1, 5), substr({row}.{id}, 1, 4));
    END"""
"""A stretch of five or four digits is summed only where those of six are, so that to ask for these is enough."""

_POSTGRESQL_DROP = """
        DELETE FROM stretches WHERE of_table = '{table}' AND stretch = substr({row}.{id}, 1, 6);
        IF FOUND THEN
            DELETE FROM stretches WHERE of_table = '{table}'
                AND stretch IN (substr({row}.{id}, 1, 5), substr({row}.{id}, 1, 4));
            DELETE FROM {sums}
                WHERE stretch IN (substr({row}.{id}, 1, 6), substr({row}.{id}, 1, 5), substr({row}.{id}, 1, 4));
        END IF;"""

_POSTGRESQL_FUNCTION = """CREATE OR REPLACE FUNCTION {table}_drop_sums() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            DELETE FROM stretches WHERE of_table = '{table}';
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


def _sqlite() -> tuple[str, ...]:
    return tuple(
        _SQLITE_TRIGGER.format(table=table, id=identifier, sums=sums, name=name, event=event, row=row)
        for table, identifier, sums in _TABLES
        for name, event, row in (
            ("added", "INSERT", "NEW"),
            ("changed", "UPDATE", "OLD"),
            ("moved", f"UPDATE OF {identifier}", "NEW"),
            ("deleted", "DELETE", "OLD"),
        )
    )


def _postgresql() -> tuple[str, ...]:
    statements: list[str] = []
    for table, identifier, sums in _TABLES:
        old, new = (_POSTGRESQL_DROP.format(table=table, id=identifier, sums=sums, row=row) for row in ("OLD", "NEW"))
        statements += [
            _POSTGRESQL_FUNCTION.format(table=table, sums=sums, old=old, new=new),
            f"""CREATE TRIGGER {table}_sums_changed AFTER INSERT OR UPDATE OR DELETE ON {table}
                FOR EACH ROW EXECUTE FUNCTION {table}_drop_sums()""",
            f"""CREATE TRIGGER {table}_sums_emptied AFTER TRUNCATE ON {table}
                FOR EACH STATEMENT EXECUTE FUNCTION {table}_drop_sums()""",
        ]
    return tuple(statements)


DROPPING_SUMS = {"sqlite": _sqlite(), "postgresql": _postgresql()}
