"""Outcomes in SQLite and in PostgreSQL, by one replica and by several."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.base.ids import uuid7
from service.contract.outcome import Context, Outcome
from service.store import Store
from service.store.schema import outcomes
from tests.support.store_fixtures import OpenStore, an_outcome


async def states(store: Store, *batch: Outcome) -> list[str]:
    """Records a batch; gives what became of each."""
    return [recording.state for recording in await store.outcomes.record(batch)]


async def test_the_same_outcome_again_is_a_no_op(store_url: str, open_store: OpenStore) -> None:
    """The same attempt with the same body gives the id of the first; with another body it is a conflict."""
    store = await open_store(store_url)
    first = (await store.outcomes.record([an_outcome(decision_id="d")]))[0]
    again = (await store.outcomes.record([an_outcome(decision_id="d")]))[0]
    other = (await store.outcomes.record([an_outcome(decision_id="d", solved=False)]))[0]
    assert [first.state, again.state, other.state] == ["new", "same", "conflict"]
    assert first.outcome_id == again.outcome_id == other.outcome_id
    assert [kept.outcome for kept in await store.outcomes.of_decision("d")] == [an_outcome(decision_id="d")]


async def test_duplicates_inside_a_batch_are_told_apart(store_url: str, open_store: OpenStore) -> None:
    """Within one batch the first of an attempt counts; answers come in order."""
    store = await open_store(store_url)
    assert await states(
        store,
        an_outcome(decision_id="d"),
        an_outcome(decision_id="e"),
        an_outcome(decision_id="d"),
        an_outcome(decision_id="d", solved=False),
        an_outcome(decision_id="d", attempt=2, solved=False),
    ) == ["new", "new", "same", "conflict", "new"]
    assert await states(store) == []


async def test_the_order_of_labels_does_not_matter(store_url: str, open_store: OpenStore) -> None:
    """A body is compared by what it says, not by how its JSON was written."""
    store = await open_store(store_url)
    one = an_outcome(decision_id="d", labels={"repo": "r", "team": "t"})
    two = an_outcome(decision_id="d", labels={"team": "t", "repo": "r"})
    assert await states(store, one) == ["new"]
    assert await states(store, two) == ["same"]


async def test_without_a_decision_each_outcome_is_new(store_url: str, open_store: OpenStore) -> None:
    """History from before has no decision, and two equal attempts are two attempts."""
    store = await open_store(store_url)
    assert await states(store, an_outcome(), an_outcome()) == ["new", "new"]
    assert await states(store, an_outcome()) == ["new"]


async def test_a_withdrawn_outcome_stays_in_the_record(store_url: str, open_store: OpenStore) -> None:
    """Withdrawing marks it, twice is as good as once, and one that never was is False."""
    store = await open_store(store_url)
    recording = (await store.outcomes.record([an_outcome(decision_id="d")]))[0]
    assert await store.outcomes.withdraw(recording.outcome_id)
    marked = await store.outcomes.of_decision("d")
    assert await store.outcomes.withdraw(recording.outcome_id)
    assert await store.outcomes.of_decision("d") == marked
    assert marked[0].withdrawn_at is not None
    assert not await store.outcomes.withdraw("never was")
    assert not await store.outcomes.withdraw("a\0b")


async def test_after_a_withdrawal_the_attempt_can_be_reported_anew(store_url: str, open_store: OpenStore) -> None:
    """A wrong outcome is withdrawn and the right one recorded; both are on record, and only the right one stands."""
    store = await open_store(store_url)
    wrong = (await store.outcomes.record([an_outcome(decision_id="d")]))[0]
    await store.outcomes.withdraw(wrong.outcome_id)
    right = (await store.outcomes.record([an_outcome(decision_id="d", solved=False)]))[0]
    assert right.state == "new"
    assert await states(store, an_outcome(decision_id="d")) == ["conflict"]
    assert [kept.outcome_id for kept in await store.outcomes.of_decision("d")] == [wrong.outcome_id, right.outcome_id]
    assert [kept.outcome_id async for kept in store.outcomes.export()] == [right.outcome_id]


async def test_changes_are_read_from_a_cursor(store_url: str, open_store: OpenStore) -> None:
    """New outcomes and withdrawals by any replica come once each, in order, after the cursor, in pages."""
    store, other = await open_store(store_url), await open_store(store_url)
    recordings = await store.outcomes.record([an_outcome(decision_id=f"{n}") for n in range(5)])
    first = await other.outcomes.since(0, 3)
    second = await other.outcomes.since(first.cursor, 3)
    seen = [change.outcome_id for change in (*first.outcomes, *second.outcomes)]
    assert seen == [recording.outcome_id for recording in recordings]
    assert (await other.outcomes.since(second.cursor)).outcomes == []

    await store.outcomes.withdraw(seen[1])
    third = await other.outcomes.since(second.cursor)
    assert [(change.outcome_id, change.withdrawn_at is not None) for change in third.outcomes] == [(seen[1], True)]
    assert third.outcomes[0].seq <= second.cursor, "it had been given out before, so a learner takes it back"

    brief = (await store.outcomes.record([an_outcome()]))[0]
    await store.outcomes.withdraw(brief.outcome_id)
    fourth = await other.outcomes.since(third.cursor)
    assert [change.outcome_id for change in fourth.outcomes] == [brief.outcome_id]
    assert fourth.outcomes[0].seq > third.cursor, "it never was given out, so there is nothing to take back"


async def test_hostile_text_is_kept_as_it_came(store_url: str, open_store: OpenStore) -> None:
    """Quotes, NULs, right-to-left marks and SQL in labels, names and ids neither break the store nor change."""
    store = await open_store(store_url)
    hostile = "\0'); DROP TABLE outcomes; --\u202e\N{BOM}{}%s:x $1 ?"
    outcome = an_outcome(
        decision_id=hostile[:60], agent_type=hostile, labels={hostile: hostile, "\0": ""}, task_id=hostile
    )
    assert await states(store, outcome) == ["new"]
    assert await states(store, outcome) == ["same"]
    assert [kept.outcome for kept in await store.outcomes.of_decision(hostile[:60])] == [outcome]


async def test_large_batches_are_whole(store_url: str, open_store: OpenStore) -> None:
    """A thousand at once and more, with a conflict among them, are all answered in order."""
    store = await open_store(store_url)
    await store.outcomes.record([an_outcome(decision_id="700", solved=False)])
    recordings = await store.outcomes.record([an_outcome(decision_id=f"{n}") for n in range(2500)])
    assert [n for n, recording in enumerate(recordings) if recording.state != "new"] == [700]
    assert len([kept async for kept in store.outcomes.export()]) == 2500


async def test_what_a_newer_version_wrote_is_read(store_url: str, open_store: OpenStore) -> None:
    """Fields and values that this version does not know neither break the reading nor a repeated report."""
    store = await open_store(store_url)
    await store.outcomes.record([an_outcome(decision_id="d", attempt=1000)])

    async def as_newer(connection: AsyncConnection) -> None:
        newer = """UPDATE outcomes SET body = replace(replace(body, '"attempt":1000', '"attempt":1001'),
            '"solved":true', '"solved":true,"stars":5')"""
        await connection.exec_driver_sql(newer)

    await store._database.run(as_newer, mode="write")
    (kept,) = await store.outcomes.of_decision("d")
    assert kept.outcome.attempt == 1001
    assert kept.outcome.solved


@pytest.mark.parametrize(
    "body", ["{", "[]", "null", '{"solved":"maybe","agent_type":7}', '{"solved":true,"agent_type":7,"model":"m"}',
             '{"solved":true,"agent_type":"a","model":"m","labels":{"repo":1}}'],
)  # fmt: skip
async def test_a_damaged_row_stops_nothing(store_url: str, open_store: OpenStore, body: str) -> None:
    """It is left out and counted wherever outcomes are read; another report of its attempt is a conflict, as nothing
    tells that it was the same, and its neighbours are recorded.

    Would catch: one row of the right form and a wrong type, with which nobody learns anything any more.
    """
    store = await open_store(store_url)
    batch = [an_outcome(decision_id=name) for name in ("d1", "d2", "d3")]
    (first, *_) = await store.outcomes.record(batch)

    async def damage(connection: AsyncConnection) -> None:
        await connection.execute(update(outcomes).where(outcomes.c.decision_id == "d1").values(body=body))

    await store._database.run(damage, mode="write")
    changes = await store.outcomes.since(0)
    assert ([one.outcome.decision_id for one in changes.outcomes], changes.unreadable) == (["d2", "d3"], 1)
    assert await store.outcomes.of_decision("d1") == []
    assert len([one async for one in store.outcomes.export()]) == 2
    context = Context(agent_type="claude", model="opus")
    second = changes.outcomes[0].outcome_id
    await store.outcomes.complete({first.outcome_id: context, second: context})
    assert (await store.outcomes.of_decision("d2"))[0].context == context
    again = await store.outcomes.record([batch[0], an_outcome(decision_id="d4")])
    assert [(one.state, one.outcome_id == first.outcome_id) for one in again] == [("conflict", True), ("new", False)]
    assert await store.outcomes.withdraw(first.outcome_id)
    assert await states(store, batch[0]) == ["new"]


async def test_replicas_agree_on_one_outcome_per_attempt(store_url: str, open_store: OpenStore) -> None:
    """Of many reports of one attempt to three replicas at once exactly one is new, and all name the same outcome.

    The defect it catches: looking first and writing then, without a unique index.
    """
    replicas = [await open_store(store_url) for _ in range(3)]
    for attempt in range(1, 11):
        reports = [
            replica.outcomes.record([an_outcome(decision_id="d", attempt=attempt, solved=n % 2 == 0)])
            for n in range(4)
            for replica in replicas
        ]
        answers = [answer[0] for answer in await asyncio.gather(*reports)]
        assert sorted(answer.state for answer in answers) == ["conflict"] * 6 + ["new"] + ["same"] * 5
        assert len({answer.outcome_id for answer in answers}) == 1


async def test_a_reader_misses_nothing_while_replicas_write(store_url: str, open_store: OpenStore) -> None:
    """Whoever follows the changes while three replicas write and withdraw ends with exactly what stands.

    The defect it catches: numbers from a sequence, which become visible out of order, so that a follower who has
    seen 8 never sees a 7 that was committed later.
    """
    writers = [await open_store(store_url) for _ in range(3)]
    reader = await open_store(store_url)
    alive: set[str] = set()
    writing = True

    async def write(store: Store, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            recordings = await store.outcomes.record([an_outcome() for _ in range(chance.choice((1, 1, 40)))])
            if chance.random() < 0.3:
                await store.outcomes.withdraw(recordings[0].outcome_id)

    async def follow() -> None:
        cursor = 0
        while True:
            last_round = not writing
            changes = await reader.outcomes.since(cursor, 50)
            for change in changes.outcomes:
                if change.withdrawn_at is None:
                    assert change.outcome_id not in alive
                    alive.add(change.outcome_id)
                elif change.seq <= cursor:
                    alive.discard(change.outcome_id)  # not there where it was withdrawn between two pages
            cursor = changes.cursor
            if last_round and not changes.outcomes:
                return

    following = asyncio.create_task(follow())
    await asyncio.gather(*(write(store, seed) for seed, store in enumerate(writers)))
    writing = False
    await following
    assert alive == {kept.outcome_id async for kept in reader.outcomes.export()}
    assert len(alive) > 180


async def test_a_caller_who_leaves_breaks_nothing(store_url: str, open_store: OpenStore) -> None:
    """Callers that are cancelled in the middle leave a store that works, with every connection free.

    The defect it catches: cancelling the driver, which costs a connection each time.
    """
    store = await open_store(store_url)
    for n in range(40):
        report = asyncio.create_task(store.outcomes.record([an_outcome(decision_id=uuid7())]))
        reading = asyncio.create_task(store.outcomes.since(0))
        await asyncio.sleep(0.0002 * n)
        report.cancel()
        reading.cancel()
        await asyncio.wait({report, reading})
    assert await states(store, an_outcome()) == ["new"]
    assert store.status.recording


async def test_in_memory_a_caller_who_leaves_does_not_take_the_database_along(open_store: OpenStore) -> None:
    """In memory there is one connection, and it must outlive a cancelled caller: with it goes all that was recorded."""
    store = await open_store("sqlite://")
    await store.outcomes.record([an_outcome(decision_id="d")])
    for n in range(20):
        reading = asyncio.create_task(store.outcomes.since(0))
        await asyncio.sleep(0.0002 * n)
        reading.cancel()
        await asyncio.wait({reading})
    assert len(await store.outcomes.of_decision("d")) == 1


async def test_a_clock_that_runs_backwards_changes_no_order(store_url: str, open_store: OpenStore) -> None:
    """The order of outcomes is that of their commits, whatever the clock says."""
    moments = iter(datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=n) for n in range(100))
    store = await open_store(store_url, clock=lambda: next(moments))
    ids = [(await store.outcomes.record([an_outcome()]))[0].outcome_id for _ in range(5)]
    changes = await store.outcomes.since(0)
    assert [change.outcome_id for change in changes.outcomes] == ids
    assert changes.outcomes[0].recorded_at > changes.outcomes[-1].recorded_at
    assert [change.seq for change in changes.outcomes] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("again", [1, 2])
async def test_a_restart_gives_the_same_outcomes(store_url: str, open_store: OpenStore, again: int) -> None:
    """What was recorded is there after each restart, in the same order with the same numbers."""
    store = await open_store(store_url)
    await store.outcomes.record([an_outcome(decision_id=f"{n}") for n in range(10)])
    before = await store.outcomes.since(0)
    for _ in range(again):
        await store.aclose()
        store = await open_store(store_url)
    assert await store.outcomes.since(0) == before
