"""The tables as this version of the service uses them; `migrations.py` makes them.

A newer service may have added columns and tables: every statement names its columns, and nothing here is complete.
"""

import zlib
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    LargeBinary,
    MetaData,
    Row,
    Select,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]


def sortable(moment: datetime) -> str:
    """RFC 3339 text of one width, which sorts by time and reads well: how SQLite keeps a time."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class UtcTime(TypeDecorator[datetime]):
    """Takes times with a zone and gives them in UTC: `timestamptz` in PostgreSQL, `sortable` text in SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=True) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401 - as the base class
        if value is None or dialect.name == "postgresql":
            return value
        return sortable(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ANN401, ARG002 - as above
        if value is None:
            return None
        return (value if isinstance(value, datetime) else datetime.fromisoformat(value)).astimezone(UTC)


metadata = MetaData()

schema_version = Table(
    "schema_version",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("applied_at", UtcTime, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", Text, primary_key=True),
    Column("decided_at", UtcTime, nullable=False),
    Column("task_id", Text),
    Column("agent_type", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("degraded", Boolean, nullable=False),
    Column("body", Text, nullable=False),
    Column("explanation", Text, nullable=False),
    Column("packed", LargeBinary),
    Column("kind", Text),
    Column("effort", Text),
    Column("failures", BigInteger),
    Column("plan_p_solve", Double),
    Column("plan_cost_usd", Double),
    Column("classifying_usd", Double),
    Column("agreed", Boolean),
    Column("loss_usd", Double),
    Column("request", Text),
    Column("advised_by", Text),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("outcome_id", Text, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    Column("withdrawn_at", UtcTime),
    Column("change", BigInteger, nullable=False),
    Column("decision_id", Text),
    Column("attempt", BigInteger, nullable=False),
    Column("agent_type", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("solved", Boolean, nullable=False),
    Column("body", Text, nullable=False),
    Column("context", Text),
    Column("origin", Text),
    Column("kind", Text),
    Column("effort", Text),
    Column("step", BigInteger),
    Column("p_solve", Double),
    Column("cost_usd", Double),
    Column("chosen_by", Text),
    Column("advised_by", Text),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("name", Text, primary_key=True),
    Column("cursor", BigInteger, nullable=False),
    Column("saved_at", UtcTime, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

executions = Table(
    "executions",
    metadata,
    Column("execution_id", Text, primary_key=True),
    Column("task_id", Text),
    Column("name", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("owner", Text, nullable=False),
    Column("tokens_in", BigInteger, nullable=False),
    Column("tokens_out", BigInteger, nullable=False),
    Column("cost_usd", Double, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("exit_reason", Text),
    Column("seen_at", UtcTime),
    Column("request_digest", Text),
)

stretches = Table(
    "stretches",
    metadata,
    Column("of_table", Text, primary_key=True),
    Column("stretch", Text, primary_key=True),
    Column("summed_by", Text, nullable=False),
    Column("begun_at", UtcTime, nullable=False),
    Column("kept_at", UtcTime),
)
"""Stretches of time (stretches.py) whose sums are kept since `kept_at`, or are being made. Triggers of the database
delete a stretch with its sums whenever a row of it comes, changes or goes, whoever does that (see migrations.py)."""

decision_sums = Table(
    "decision_sums",
    metadata,
    Column("stretch", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("agent_type", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("effort", Text),
    Column("n", BigInteger, nullable=False),
    Column("known", BigInteger, nullable=False),
    Column("degraded", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("plan_p_solve", Double, nullable=False),
    Column("plan_cost_usd", Double, nullable=False),
    Column("classifying_usd", Double, nullable=False),
    Column("compared", BigInteger, nullable=False),
    Column("agreed", BigInteger, nullable=False),
    Column("loss_usd", Double, nullable=False),
)

outcome_sums = Table(
    "outcome_sums",
    metadata,
    Column("stretch", Text, nullable=False),
    Column("agent_type", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("effort", Text),
    Column("kind", Text),
    Column("step", BigInteger),
    Column("chosen_by", Text),
    Column("n", BigInteger, nullable=False),
    Column("solved", BigInteger, nullable=False),
    Column("priced", BigInteger, nullable=False),
    Column("cost_usd", Double, nullable=False),
    Column("promised", BigInteger, nullable=False),
    Column("expected", Double, nullable=False),
    Column("kept", BigInteger, nullable=False),
)

advised_decision_sums = Table(
    "advised_decision_sums",
    metadata,
    Column("stretch", Text, nullable=False),
    Column("advised_by", Text, nullable=False),
    Column("compared", BigInteger, nullable=False),
    Column("agreed", BigInteger, nullable=False),
)

advised_outcome_sums = Table(
    "advised_outcome_sums",
    metadata,
    Column("stretch", Text, nullable=False),
    Column("advised_by", Text, nullable=False),
    Column("chosen_by", Text),
    Column("n", BigInteger, nullable=False),
    Column("solved", BigInteger, nullable=False),
)


EXPLAINED = (decisions.c.explanation, decisions.c.packed)
"""Both are needed to read an explanation."""


def explanation_of(row: AnyRow) -> bytes:
    """The JSON of it; `packed` is empty where an older version of the service wrote it, or the column was not there."""
    return row.explanation.encode() if row.packed is None else zlib.decompress(row.packed)


def storable(text: str) -> str:
    """`text` as every database takes it: PostgreSQL has no NUL in text, and neither takes half a surrogate pair."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def storable_or_none(text: str | None) -> str | None:
    """`storable`, where there may be none."""
    return None if text is None else storable(text)
