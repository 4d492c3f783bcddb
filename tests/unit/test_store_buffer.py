"""The buffer of the decision log while nothing can be written."""

import msgspec
import pytest

from service.contract.errors import StoreUnavailableError
from service.store import Store, StoreLimits
from tests.support.store_fixtures import a_decision


def test_the_oldest_decisions_go_when_the_buffer_is_full() -> None:
    """Beyond `max_buffered` decisions the oldest are dropped and counted."""
    store = Store("sqlite://", StoreLimits(max_buffered=10))
    for _ in range(25):
        store.decisions.add(a_decision())
    assert store.status.buffered == 10
    assert store.status.dropped == 15


def test_the_buffer_is_bounded_in_bytes_too() -> None:
    """Decisions with long explanations cannot fill the memory: 40 of 100 kB each leave some 10 in a megabyte."""
    store = Store("sqlite://", StoreLimits(max_buffered_bytes=1 << 20))
    for _ in range(40):
        store.decisions.add(a_decision(prompt="x" * 100_000))
    assert store.status.buffered == 10
    assert store.status.dropped == 30


async def test_what_stays_in_a_full_buffer_is_the_newest() -> None:
    """After an outage that was longer than the buffer, the latest decisions are the ones on record."""
    store = Store("sqlite://", StoreLimits(max_buffered=2))
    ids = [f"{n}" for n in range(5)]
    for decision_id in ids:
        store.decisions.add(a_decision(decision_id=decision_id))
    await store.start()
    try:
        assert [stored.decision_id for stored in await store.decisions.newest(limit=10)] == ["4", "3"]
    finally:
        await store.aclose()


def test_what_cannot_be_encoded_costs_nobody_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Half a surrogate pair in a decision is logged and counted as dropped, never raised."""
    store = Store("sqlite://")
    store.decisions.add(a_decision(prompt="\ud800"))
    assert "a decision cannot be logged" in caplog.text
    assert (store.status.buffered, store.status.dropped) == (0, 1)


async def test_odd_values_in_an_explanation_are_kept_as_text() -> None:
    """A value that JSON does not know (a set of classes, say) is written as its text rather than lost."""
    store = Store("sqlite://")
    await store.start()
    try:
        logged = msgspec.structs.replace(a_decision(), explanation={"source": ValueError("from a library")})
        store.decisions.add(logged)
        found = await store.decisions.get(logged.decision.decision_id)
        assert found is not None
        assert isinstance(found.explanation, msgspec.Raw)
        assert msgspec.json.decode(found.explanation) == {"source": "from a library"}
    finally:
        await store.aclose()


async def test_before_the_start_calls_fail_in_words() -> None:
    """A store that was never started refuses with a StoreUnavailableError, and says so in its status."""
    store = Store("sqlite://")
    with pytest.raises(StoreUnavailableError, match="not connected yet"):
        await store.executions.get("x")
    assert not store.status.recording


async def test_decisions_that_cannot_be_written_at_shutdown_are_counted(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Closing while the database is away ends, and the decisions that are lost by it are in `dropped`."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('gone')}/missing/store.db", StoreLimits(patience_seconds=0.2))
    await store.start()
    store.decisions.add(a_decision())
    await store.aclose()
    assert (store.status.buffered, store.status.dropped) == (0, 1)
