"""Changes of the schema, in order. They only add, so that an older service goes on working over a newer schema.

A migration that has shipped is never edited: a change is a new one, whose columns are nullable or have a default.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.contract.errors import StoreUnavailableError
from service.store.database import STILL, Database
from service.store.dropping import DROPPING_ADVISED_SUMS, DROPPING_SUMS
from service.store.schema import schema_version

MIGRATION_SECONDS = 600.0
"""An index over some ten million rows takes minutes."""

TYPES = {
    "sqlite": {
        "id": "TEXT",
        "time": "TEXT",
        "integer": "INTEGER",
        "double": "REAL",
        "bytes": "BLOB",
        "true": "1",
        "cost_in_body": "json_extract(body, '$.cost_usd')",
    },
    "postgresql": {
        "id": 'TEXT COLLATE "C"',  # by bytes, whatever the database's locale: ids must sort as they do in Python
        "time": "TIMESTAMPTZ",
        "integer": "BIGINT",
        "double": "DOUBLE PRECISION",
        "bytes": "BYTEA",
        "true": "true",
        "cost_in_body": "CAST(CAST(body AS json) ->> 'cost_usd' AS DOUBLE PRECISION)",
    },
}


@dataclass(frozen=True, slots=True)
class Migration:
    """`{id}`, `{time}`, `{integer}`, `{double}` and `{bytes}` in a statement become the database's types, `{true}` its
    word for it, and `{cost_in_body}` the cost that an outcome's JSON tells. `own` are statements of one database, after
    those of both."""

    number: int
    statements: tuple[str, ...]
    own: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


MIGRATIONS = (
    Migration(
        1,
        (
            """CREATE TABLE decisions (
                decision_id {id} NOT NULL PRIMARY KEY, decided_at {time} NOT NULL, task_id TEXT,
                agent_type TEXT NOT NULL, model TEXT NOT NULL, source TEXT NOT NULL, degraded BOOLEAN NOT NULL,
                body TEXT NOT NULL, explanation TEXT NOT NULL)""",
            "CREATE INDEX decisions_by_task ON decisions (task_id, decision_id)",
            "CREATE INDEX decisions_by_agent ON decisions (agent_type, decision_id)",
            """CREATE TABLE outcomes (
                seq {integer} NOT NULL PRIMARY KEY, outcome_id {id} NOT NULL UNIQUE, recorded_at {time} NOT NULL,
                withdrawn_at {time}, change {integer} NOT NULL UNIQUE, decision_id {id}, attempt {integer} NOT NULL,
                agent_type TEXT NOT NULL, model TEXT NOT NULL, solved BOOLEAN NOT NULL, body TEXT NOT NULL)""",
            """CREATE UNIQUE INDEX outcomes_one_per_attempt ON outcomes (decision_id, attempt)
                WHERE withdrawn_at IS NULL""",
            "CREATE INDEX outcomes_by_decision ON outcomes (decision_id, seq)",
            """CREATE TABLE executions (
                execution_id {id} NOT NULL PRIMARY KEY, task_id TEXT, name TEXT NOT NULL, model TEXT NOT NULL,
                state TEXT NOT NULL, created_at {time} NOT NULL, owner TEXT NOT NULL, tokens_in {integer} NOT NULL,
                tokens_out {integer} NOT NULL, cost_usd {double} NOT NULL, started_at {time}, ended_at {time},
                exit_reason TEXT, seen_at {time})""",
            "CREATE INDEX executions_by_task ON executions (task_id, created_at)",
            "CREATE INDEX executions_open ON executions (owner) WHERE ended_at IS NULL",
        ),
    ),
    Migration(
        2,
        (
            "ALTER TABLE outcomes ADD COLUMN context TEXT",
            "ALTER TABLE outcomes ADD COLUMN origin TEXT",
            """CREATE UNIQUE INDEX outcomes_one_per_origin ON outcomes (origin)
                WHERE origin IS NOT NULL AND withdrawn_at IS NULL""",
            """CREATE TABLE snapshots (
                name {id} NOT NULL PRIMARY KEY, cursor {integer} NOT NULL, saved_at {time} NOT NULL,
                body {bytes} NOT NULL)""",
        ),
    ),
    Migration(
        3,
        (
            *(
                f"ALTER TABLE decisions ADD COLUMN {column}"
                for column in (
                    "kind TEXT",
                    "effort TEXT",
                    "failures {integer}",
                    "plan_p_solve {double}",
                    "plan_cost_usd {double}",
                    "classifying_usd {double}",
                    "agreed BOOLEAN",
                    "loss_usd {double}",
                    "request TEXT",
                )
            ),
            *(
                f"ALTER TABLE outcomes ADD COLUMN {column}"
                for column in (
                    "kind TEXT",
                    "effort TEXT",
                    "step {integer}",
                    "p_solve {double}",
                    "cost_usd {double}",
                    "chosen_by TEXT",
                )
            ),
            "UPDATE outcomes SET cost_usd = {cost_in_body}",
            "CREATE INDEX decisions_by_model ON decisions (model, decision_id)",
            "CREATE INDEX decisions_by_source ON decisions (source, decision_id)",
            "CREATE INDEX decisions_by_kind ON decisions (kind, decision_id)",
            "CREATE INDEX decisions_degraded ON decisions (decision_id) WHERE degraded = {true}",
            # What a page filters by, in the order in which it shows: the wide rows themselves are not read.
            """CREATE INDEX decisions_facts ON decisions (
                decision_id, agent_type, model, source, kind, degraded, failures)""",
            # What a report adds up. The first six digits of an id are 4.7 hours; within them the rows are sorted as
            # they are grouped, so that SQLite adds them up without sorting, in a tenth of the time.
            """CREATE INDEX decisions_sums ON decisions (
                substr(decision_id, 1, 6), source, agent_type, model, effort, failures, degraded, plan_p_solve,
                plan_cost_usd, classifying_usd, agreed, loss_usd, decision_id)""",
            """CREATE INDEX outcomes_sums ON outcomes (
                substr(outcome_id, 1, 6), agent_type, model, effort, kind, step, chosen_by, withdrawn_at, solved,
                p_solve, cost_usd, outcome_id)""",
        ),
    ),
    Migration(
        4,
        (
            "ALTER TABLE executions ADD COLUMN request_digest TEXT",
            "ALTER TABLE decisions ADD COLUMN packed {bytes}",
        ),
    ),
    Migration(
        5,
        (
            """CREATE TABLE stretches (
                of_table TEXT NOT NULL, stretch {id} NOT NULL, summed_by TEXT NOT NULL, begun_at {time} NOT NULL,
                kept_at {time}, PRIMARY KEY (of_table, stretch))""",
            """CREATE TABLE decision_sums (
                stretch {id} NOT NULL, source TEXT NOT NULL, agent_type TEXT NOT NULL, model TEXT NOT NULL, effort TEXT,
                n {integer} NOT NULL, known {integer} NOT NULL, degraded {integer} NOT NULL, first {integer} NOT NULL,
                plan_p_solve {double} NOT NULL, plan_cost_usd {double} NOT NULL, classifying_usd {double} NOT NULL,
                compared {integer} NOT NULL, agreed {integer} NOT NULL, loss_usd {double} NOT NULL)""",
            """CREATE TABLE outcome_sums (
                stretch {id} NOT NULL, agent_type TEXT NOT NULL, model TEXT NOT NULL, effort TEXT, kind TEXT,
                step {integer}, chosen_by TEXT, n {integer} NOT NULL, solved {integer} NOT NULL,
                priced {integer} NOT NULL, cost_usd {double} NOT NULL, promised {integer} NOT NULL,
                expected {double} NOT NULL, kept {integer} NOT NULL)""",
            "CREATE INDEX decision_sums_by_stretch ON decision_sums (stretch)",
            "CREATE INDEX outcome_sums_by_stretch ON outcome_sums (stretch)",
            # One decision in 32, drawn by the random end of its id: those that a baseline is estimated from.
            """CREATE INDEX decisions_drawn ON decisions (decision_id)
                WHERE failures = 0 AND substr(decision_id, 33) < '0800'""",
        ),
        own=DROPPING_SUMS,
    ),
    Migration(
        6,
        (
            "ALTER TABLE decisions ADD COLUMN advised_by TEXT",
            "ALTER TABLE outcomes ADD COLUMN advised_by TEXT",
            # Sums of their own, and no column of those before: a replica of the version before, which goes on making
            # these, would leave it empty.
            """CREATE TABLE advised_decision_sums (
                stretch {id} NOT NULL, advised_by TEXT NOT NULL, compared {integer} NOT NULL,
                agreed {integer} NOT NULL)""",
            """CREATE TABLE advised_outcome_sums (
                stretch {id} NOT NULL, advised_by TEXT NOT NULL, chosen_by TEXT, n {integer} NOT NULL,
                solved {integer} NOT NULL)""",
            "CREATE INDEX advised_decision_sums_by_stretch ON advised_decision_sums (stretch)",
            "CREATE INDEX advised_outcome_sums_by_stretch ON advised_outcome_sums (stretch)",
            """CREATE INDEX advised_decisions_sums ON decisions (
                substr(decision_id, 1, 6), advised_by, agreed, source, decision_id)
                WHERE advised_by <> source""",
            """CREATE INDEX advised_outcomes_sums ON outcomes (
                substr(outcome_id, 1, 6), advised_by, chosen_by, withdrawn_at, solved, outcome_id)
                WHERE advised_by IS NOT NULL""",
        ),
        own=DROPPING_ADVISED_SUMS,
    ),
)


async def prepare(
    database: Database, clock: Callable[[], datetime], migrations: Sequence[Migration] = MIGRATIONS
) -> bool:
    """Makes it ready: whether all of it is. False where it may only be read, and has every table already: then its
    `problem` says why nothing is written, and another try may find it writable.

    Raises StoreUnavailableError.
    """
    try:
        await migrate(database, clock, migrations)
    except StoreUnavailableError:
        if not database.unwritable:
            raise
        if not database.ready:
            await _look(database, migrations[-1].number)
        return False
    database.ready = True
    return True


async def _look(database: Database, needed: int) -> None:
    async def version(connection: AsyncConnection) -> int:
        return (await connection.execute(select(func.max(schema_version.c.version)))).scalar() or 0

    refused = database.problem or ""
    try:
        present = await database.run(version, mode="look")
    except StoreUnavailableError:
        database.refuse(refused)
    if present < needed:
        database.refuse(
            f"{refused}, and an older version ({present}) is there, which can be read only once it is migrated"
        )
    database.opened_for_reading(refused)


async def migrate(
    database: Database, clock: Callable[[], datetime], migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Brings the schema up to date, all or nothing, in one transaction under a lock of its own.

    It also proves that writing works where there was nothing to do: SQLite begins a transaction that is to write in a
    file that may not be written. Replicas that start at once wait for one another. A schema that is newer than
    `migrations` is left as it is.
    Raises StoreUnavailableError.
    """
    dialect = "postgresql" if database.backend == "postgresql" else "sqlite"
    types = TYPES[dialect]

    async def bring_up_to_date(connection: AsyncConnection) -> None:
        await connection.execute(
            text(
                "CREATE TABLE IF NOT EXISTS schema_version "
                "(version {integer} NOT NULL PRIMARY KEY, applied_at {time} NOT NULL)".format_map(types)
            )
        )
        present = (await connection.execute(select(func.max(schema_version.c.version)))).scalar() or 0
        for migration in migrations:
            if migration.number <= present:
                continue
            for statement in (*migration.statements, *migration.own.get(dialect, ())):
                await connection.execute(text(statement.format_map(types)))
            await connection.execute(insert(schema_version).values(version=migration.number, applied_at=clock()))
        await connection.execute(STILL)

    await database.run(bring_up_to_date, mode="migration", limit_seconds=MIGRATION_SECONDS)
