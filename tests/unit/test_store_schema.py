"""How values are written."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Dialect, make_url

from service.store.schema import UtcTime, storable

TIME = UtcTime()


def dialect_of(name: str) -> Dialect:
    """SQLAlchemy's own."""
    return make_url(f"{name}://").get_dialect()()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param("plain, ünïcode, 火", "plain, ünïcode, 火", id="as it is"),
        pytest.param("a\0b", "a\N{REPLACEMENT CHARACTER}b", id="NUL"),
        pytest.param("a\ud800b", "a?b", id="half a surrogate pair"),
    ],
)
def test_text_is_made_fit_for_every_database(given: str, kept: str) -> None:
    """PostgreSQL takes no NUL and nobody takes half a surrogate pair, so neither reaches a statement."""
    assert storable(given) == kept


def test_times_in_sqlite_sort_as_text_and_come_back_in_utc() -> None:
    """Whatever the zone of the caller, the written text sorts by time and is read as the same moment in UTC."""
    dialect = dialect_of("sqlite")
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    later = datetime(2026, 1, 1, 21, 34, 5, 1, tzinfo=UTC)
    written = TIME.process_bind_param(moment, dialect)
    assert written == "2026-01-01T21:34:05.000000Z"
    assert written < TIME.process_bind_param(later, dialect)
    read = TIME.process_result_value(written, dialect)
    assert read == moment
    assert read is not None
    assert read.tzinfo is UTC


def test_no_time_stays_no_time() -> None:
    """A missing time is null in both databases, and null is read as missing."""
    for dialect in (dialect_of("sqlite"), dialect_of("postgresql")):
        assert TIME.process_bind_param(None, dialect) is None
        assert TIME.process_result_value(None, dialect) is None
