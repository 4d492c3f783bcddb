"""Executions in SQLite and in PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from service.base.ids import uuid7
from service.contract.execution import Execution, ExecutionState
from tests.support.store_fixtures import OpenStore

NOW = datetime(2026, 3, 4, 5, 6, 7, 890, tzinfo=UTC)
WINDOW = timedelta(minutes=10)


def an_execution(*, task_id: str | None = None, owner: str = "replica-1", created_at: datetime = NOW) -> Execution:
    """One that was just asked for."""
    return Execution(
        execution_id=uuid7(),
        task_id=task_id,
        name="Fix a typo",
        model="m",
        state="queued",
        created_at=created_at,
        owner=owner,
    )


async def test_an_execution_is_kept_through_its_life(store_url: str, open_store: OpenStore) -> None:
    """From queued to its end each change is read as it was written, by every replica."""
    store, other = await open_store(store_url), await open_store(store_url)
    queued = await store.executions.create(an_execution(task_id="t"))
    assert await other.executions.get(queued.execution_id) == queued
    running = msgspec.structs.replace(queued, state="running", started_at=NOW, model="qwen")
    assert await store.executions.update(running)
    ended = msgspec.structs.replace(
        running,
        state="succeeded",
        ended_at=NOW + timedelta(seconds=3),
        tokens_in=2**53,
        tokens_out=7,
        cost_usd=0.125,
        exit_reason="stop \0",
    )
    assert await store.executions.update(ended)
    kept = msgspec.structs.replace(ended, exit_reason="stop \N{REPLACEMENT CHARACTER}")
    assert await other.executions.get(queued.execution_id) == kept


async def test_one_that_has_ended_never_changes(store_url: str, open_store: OpenStore) -> None:
    """When a cancellation and the natural end race, the first one stands; one that never was is refused too."""
    store = await open_store(store_url)
    queued = await store.executions.create(an_execution())
    ends = [
        msgspec.structs.replace(queued, state=state, ended_at=NOW) for state in ("cancelled", "succeeded", "failed")
    ]
    assert sum(await asyncio.gather(*(store.executions.update(end) for end in ends))) == 1
    assert not await store.executions.update(an_execution())


async def test_of_one_task_there_is_one_execution_in_a_window(store_url: str, open_store: OpenStore) -> None:
    """Asked twice at once, by two replicas, a task runs once; a while after it has succeeded it may run again."""
    store, other = await open_store(store_url), await open_store(store_url)
    for task_id in ("a", "b", "c"):
        both = await asyncio.gather(
            *(replica.executions.create(an_execution(task_id=task_id), window=WINDOW) for replica in (store, other))
        )
        assert both[0] == both[1]
        later = an_execution(task_id=task_id, created_at=NOW + 2 * WINDOW)
        assert await store.executions.create(later, window=WINDOW) == both[0]  # it is still under way
        succeeded = msgspec.structs.replace(both[0], state="succeeded", ended_at=NOW + WINDOW)
        assert await other.executions.update(succeeded)
        assert await store.executions.create(later, window=WINDOW) == succeeded
        later = msgspec.structs.replace(later, created_at=NOW + 2 * WINDOW + timedelta(seconds=1))
        assert await store.executions.same(later, window=WINDOW) is None
        assert await store.executions.create(later, window=WINDOW) == later


@pytest.mark.parametrize("state", ["failed", "cancelled", "interrupted"])
async def test_what_did_not_succeed_stands_in_nobodys_way(
    store_url: str, open_store: OpenStore, state: ExecutionState
) -> None:
    """To ask again after a failure is to try again, at once."""
    store = await open_store(store_url)
    first = await store.executions.create(an_execution(task_id="t"), window=WINDOW)
    assert await store.executions.update(msgspec.structs.replace(first, state=state, ended_at=NOW))
    again = an_execution(task_id="t")
    assert await store.executions.create(again, window=WINDOW) == again


async def test_another_request_is_another_execution(store_url: str, open_store: OpenStore) -> None:
    """Under one task_id each request has its own; one of before requests were told apart is taken for the same."""
    store = await open_store(store_url)
    old = await store.executions.create(an_execution(task_id="old"), window=WINDOW)
    of_old = msgspec.structs.replace(an_execution(task_id="old"), request_digest="a")
    assert await store.executions.create(of_old, window=WINDOW) == old
    made: dict[str, Execution] = {}
    for digest in "aba":
        wanted = msgspec.structs.replace(an_execution(task_id="t"), request_digest=digest)
        made.setdefault(digest, wanted)
        assert await store.executions.create(wanted, window=WINDOW) == made[digest]


async def test_they_are_listed_newest_first(store_url: str, open_store: OpenStore) -> None:
    """Page by page, all or those of one task."""
    store = await open_store(store_url)
    made = [await store.executions.create(an_execution(task_id=f"t{n % 2}")) for n in range(5)]
    newest = made[::-1]
    assert await store.executions.newest(limit=2) == newest[:2]
    assert await store.executions.newest(limit=9, before=newest[1].execution_id) == newest[2:]
    assert await store.executions.newest(limit=9, task_id="t1") == [made[3], made[1]]
    assert await store.executions.newest(limit=9, task_id="t1", before=made[3].execution_id) == [made[1]]
    assert await store.executions.newest(limit=9, task_id="none\0") == []


async def test_without_a_task_id_each_execution_is_its_own(store_url: str, open_store: OpenStore) -> None:
    """No task id, no idempotency."""
    store = await open_store(store_url)
    first = await store.executions.create(an_execution(), window=WINDOW)
    assert await store.executions.create(an_execution(), window=WINDOW) != first


async def test_a_replica_finds_what_it_left_open(store_url: str, open_store: OpenStore) -> None:
    """After a crash a replica finds its own open executions, and those of replicas that fell silent; no others."""
    store = await open_store(store_url, clock=lambda: NOW)
    mine = await store.executions.create(an_execution(owner="me"))
    ended = await store.executions.create(an_execution(owner="me"))
    await store.executions.update(msgspec.structs.replace(ended, state="failed", ended_at=NOW))
    alive = await store.executions.create(an_execution(owner="alive", created_at=NOW - timedelta(hours=2)))
    silent = await store.executions.create(an_execution(owner="silent", created_at=NOW - timedelta(hours=1)))
    await store.executions.mark_seen("alive")
    await store.executions.mark_seen("nobody")

    alive = msgspec.structs.replace(alive, seen_at=NOW)
    assert await store.executions.unfinished(owner="me") == [mine]
    assert await store.executions.unfinished(owner="me", unseen_since=NOW - timedelta(minutes=1)) == [silent, mine]
    assert await store.executions.unfinished(unseen_since=NOW - timedelta(minutes=1)) == [silent]
    assert await store.executions.unfinished() == [alive, silent, mine]
