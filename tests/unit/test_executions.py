"""Executions over a store in memory and a fake endpoint: states, queue, cancel, follow, what a crash leaves."""

import asyncio
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.base.clock import Clocks
from service.base.ids import uuid7
from service.contract.errors import NotFoundError, OverloadedError, StoreUnavailableError
from service.contract.execution import Execution
from service.executions.executions import Executions
from service.executions.local_runner import LocalRunner, RunResult
from service.executions.stream_json import StreamJson, result_of
from service.store import Store
from tests.support.builders import HandClock
from tests.support.execution_fixtures import OpenExecutions, a_task, left, reached
from tests.support.fake_behaviours import deltas, events, over_and_over, sse, status, streamed, until_told
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.store_fixtures import OpenStore, until
from tests.support.stream_reader import read_transcript

BEGUN = events(*deltas("Hel", "lo", finish_reason=None, usage=None), done=False)
REST = events(*deltas("!"))
WORKING = sse(BEGUN, end=over_and_over(b": beat\n\n", pause=0.02))
"""Says something and then works on without end."""
ENDED = ("succeeded", "failed", "cancelled", "interrupted")


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    """A store in memory."""
    return await open_store("sqlite://")


async def followed(executions: Executions, execution_id: str) -> bytes:
    """All that a follower gets."""
    return b"".join([chunk async for chunk in executions.log(execution_id, follow=True)])


def left_open(executions: Executions, owner: str | None = None, *, seen_ago: float = 0.0, **more: object) -> Execution:
    """A running execution as a process that died leaves it in the store."""
    then = datetime.now(UTC) - timedelta(seconds=seen_ago)
    return Execution(
        execution_id=uuid7(),
        task_id=None,
        name="",
        model="fake-model",
        state="running",
        created_at=then,
        owner=executions.logs.owner if owner is None else owner,
        seen_at=then,
    )


async def test_one_runs_from_queued_to_succeeded(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """Queued at once, then running, then succeeded, in the store too, with tokens, times and no cost."""
    fake_endpoint.then(streamed("Hel", "lo", usage=(12, 3), model="really-this"))
    executions = await open_executions(store)
    created = await executions.create(a_task("t", name="n"))
    assert (created.state, created.task_id, created.name) == ("queued", "t", "n")
    await reached(executions, created.execution_id, "succeeded")
    await until(lambda: executions.running + executions.queued == 0)
    kept = await store.executions.get(created.execution_id)
    assert kept is not None
    assert (kept.state, kept.exit_reason, kept.model) == ("succeeded", "completed", "really-this")
    assert (kept.tokens_in, kept.tokens_out, kept.cost_usd) == (12, 3, 0.0)
    assert kept.started_at is not None
    assert kept.ended_at is not None
    assert kept.created_at <= kept.started_at <= kept.ended_at
    summary = await executions.summary(created.execution_id)
    assert summary is not None
    assert summary.text == "Hello"


async def test_a_failure_is_told(open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store) -> None:
    """A model server that refuses makes it `failed`, with the reason."""
    fake_endpoint.then(status(401))
    executions = await open_executions(store)
    created = await executions.create(a_task())
    ended = await reached(executions, created.execution_id, *ENDED)
    assert (ended.state, ended.exit_reason) == ("failed", "http-401")


async def test_the_queue_is_bounded(open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store) -> None:
    """So many run, so many wait in their order, and one more is refused; the place of one that ended is free."""
    fake_endpoint.always(WORKING)
    executions = await open_executions(store, max_concurrency=1, max_queued=2)
    ids = [(await executions.create(a_task(f"t{n}"))).execution_id for n in range(3)]
    await reached(executions, ids[0], "running")
    assert (executions.running, executions.queued) == (1, 2)
    with pytest.raises(OverloadedError) as caught:
        await executions.create(a_task())
    assert caught.value.retry_after_seconds >= 1
    assert (await executions.create(a_task("t1"))).execution_id == ids[1]  # a lost answer is asked for again
    await executions.cancel(ids[0])
    await reached(executions, ids[1], "running")
    assert (await executions.get(ids[2])).state == "queued"
    assert len(fake_endpoint.chats) == 2
    await executions.create(a_task())


async def test_created_at_once_no_more_than_the_bound(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """Of twenty that come at the same moment just as many are taken as there is room for."""
    fake_endpoint.always(WORKING)
    executions = await open_executions(store, max_concurrency=2, max_queued=3)
    got = await asyncio.gather(*(executions.create(a_task()) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(one, Execution) for one in got) == 5
    assert sum(isinstance(one, OverloadedError) for one in got) == 15


async def test_one_task_is_one_execution(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """The same task_id within the window, also at the same moment and after its end, is the same execution."""
    fake_endpoint.always(streamed("Hello"))
    executions = await open_executions(store)
    first, *others = await asyncio.gather(*(executions.create(a_task("t")) for _ in range(5)))
    assert {other.execution_id for other in others} == {first.execution_id}
    await reached(executions, first.execution_id, "succeeded")
    assert (await executions.create(a_task("t"))).execution_id == first.execution_id
    assert (await executions.create(a_task("u"))).execution_id != first.execution_id
    assert (await executions.create(a_task())).execution_id != (await executions.create(a_task())).execution_id


async def test_the_window_ends(open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store) -> None:
    """It begins when the execution has succeeded; after it the same request is a new one, and with none always."""
    fake_endpoint.always(streamed("Hello"))
    times = [datetime.now(UTC)]
    executions = await open_executions(store, idempotency_seconds=60, options={"clocks": Clocks(now=lambda: times[-1])})
    first = await executions.create(a_task("t"))
    times.append(times[0] + timedelta(seconds=100))
    assert (await executions.create(a_task("t"))).execution_id == first.execution_id
    times.append(times[0])
    await reached(executions, first.execution_id, "succeeded")
    times.append(times[0] + timedelta(seconds=59))
    assert (await executions.create(a_task("t"))).execution_id == first.execution_id
    times.append(times[0] + timedelta(seconds=61))
    assert (await executions.create(a_task("t"))).execution_id != first.execution_id
    none = await open_executions(store, folder="other", idempotency_seconds=0)
    assert (await none.create(a_task("v"))).execution_id != (await none.create(a_task("v"))).execution_id


async def test_a_failure_can_be_tried_again_at_once(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """The same request after a failure is a new execution, as soon as anybody can know of the failure."""
    fake_endpoint.then(status(500))
    fake_endpoint.always(streamed("Hello"))
    executions = await open_executions(store)
    first = await executions.create(a_task("t"))
    async for _ in executions.log(first.execution_id, follow=True):
        pass
    second = await executions.create(a_task("t"))
    assert second.execution_id != first.execution_id
    await reached(executions, second.execution_id, "succeeded")
    assert (await executions.create(a_task("t"))).execution_id == second.execution_id


@pytest.mark.parametrize(
    "more", [{"instructions": "Say goodbye."}, {"name": "n"}, {"labels": {"a": "b"}}, {"max_tokens": 5}], ids=str
)
async def test_another_request_is_another_execution(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store, more: dict[str, Any]
) -> None:
    """Whatever differs in it, its answer is another one: the scheduler's id alone does not make them the same."""
    fake_endpoint.always(streamed("Hello"))
    executions = await open_executions(store)
    first, other = await executions.create(a_task("t")), await executions.create(a_task("t", **more))
    assert other.execution_id != first.execution_id
    assert (await executions.create(a_task("t", **more))).execution_id == other.execution_id
    assert (await executions.create(a_task("t"))).execution_id == first.execution_id


async def test_closing_lets_what_runs_end(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """Within the grace what runs comes to its end; what waits is interrupted at once, and nothing more is taken."""
    told = threading.Event()
    fake_endpoint.then(sse(BEGUN, end=until_told(told, REST)))
    executions = await open_executions(store, max_concurrency=1)
    running, queued = [(await executions.create(a_task(str(n)))).execution_id for n in range(2)]
    await reached(executions, running, "running")
    closing = asyncio.create_task(executions.aclose(grace_seconds=60))
    assert (await reached(executions, queued, *ENDED)).state == "interrupted"
    with pytest.raises(OverloadedError):
        await executions.create(a_task())
    assert (await executions.create(a_task("0"))).execution_id == running
    told.set()
    await asyncio.gather(closing, executions.aclose())
    kept = await store.executions.get(running)
    assert kept is not None
    assert kept.state == "succeeded"


@pytest.mark.parametrize("hurried", [False, True])
async def test_the_grace_ends(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store, *, hurried: bool
) -> None:
    """What runs on beyond it, or until whoever closes is in a hurry, is interrupted."""
    fake_endpoint.always(WORKING)
    executions = await open_executions(store)
    one = (await executions.create(a_task())).execution_id
    await reached(executions, one, "running")
    closing = asyncio.create_task(executions.aclose(grace_seconds=600 if hurried else 0.05))
    if hurried:
        await asyncio.sleep(0)
        executions.hurry()
    await closing
    kept = await store.executions.get(one)
    assert kept is not None
    assert (kept.state, kept.exit_reason) == ("interrupted", "shutdown")


async def test_a_running_one_is_cancelled(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """It ends in the store, in the log and on the server; a second DELETE, also at once, changes nothing."""
    fake_endpoint.then(WORKING)
    executions = await open_executions(store)
    created = await executions.create(a_task())
    await reached(executions, created.execution_id, "running")
    await until(lambda: len(fake_endpoint.chats) == 1)
    one, two = await asyncio.gather(executions.cancel(created.execution_id), executions.cancel(created.execution_id))
    assert one.state == two.state == "cancelled"
    await left(fake_endpoint)
    again = await executions.cancel(created.execution_id)
    assert (again.state, again.exit_reason, again.ended_at) == ("cancelled", "cancelled", one.ended_at)
    end = result_of(executions.logs.path(created.execution_id))
    assert end is not None
    assert (end["exit_reason"], end["is_error"]) == ("cancelled", True)


async def test_a_queued_one_is_cancelled(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """It never reaches the server, its log is whole, and those behind it move up."""
    fake_endpoint.always(WORKING)
    executions = await open_executions(store, max_concurrency=1)
    first, second, third = [await executions.create(a_task()) for _ in range(3)]
    await reached(executions, first.execution_id, "running")
    following = asyncio.create_task(followed(executions, second.execution_id))
    assert (await executions.cancel(second.execution_id)).state == "cancelled"
    seen = read_transcript((await following).splitlines())
    assert seen.result["exit_reason"] == "cancelled"
    await executions.cancel(first.execution_id)
    await reached(executions, third.execution_id, "running")
    await until(lambda: len(fake_endpoint.chats) >= 2)  # it runs before its request has reached the server
    assert len(fake_endpoint.chats) == 2


async def test_cancelled_before_it_took_a_step(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """Cancelled in the very moment it was created, it is cancelled, and no slot is lost."""
    fake_endpoint.always(streamed("Hello"))
    executions = await open_executions(store, max_concurrency=1)
    for _ in range(3):
        created = await executions.create(a_task())
        assert (await executions.cancel(created.execution_id)).state == "cancelled"
    created = await executions.create(a_task())
    await reached(executions, created.execution_id, "succeeded")


async def test_what_ended_well_is_not_cancelled_any_more(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """A DELETE at any moment around the end: what the caller is told, the store and the log say the same."""
    fake_endpoint.always(streamed("Hello"))
    executions = await open_executions(store, max_concurrency=4)
    for yields in range(0, 120, 4):
        created = await executions.create(a_task())
        for _ in range(yields):
            await asyncio.sleep(0.0002)
        told = await executions.cancel(created.execution_id)
        kept = await store.executions.get(created.execution_id)
        end = result_of(executions.logs.path(created.execution_id))
        assert kept is not None
        assert end is not None
        assert told.state == kept.state
        assert (told.state == "succeeded") == (end["is_error"] is False)
    assert executions.running + executions.queued == 0


async def test_an_unknown_one_is_not_found(open_executions: OpenExecutions, store: Store) -> None:
    """Read, cancelled or followed."""
    executions = await open_executions(store)
    with pytest.raises(NotFoundError):
        await executions.get(uuid7())
    with pytest.raises(NotFoundError):
        await executions.cancel(uuid7())
    with pytest.raises(NotFoundError):
        await followed(executions, uuid7())


async def test_followers_see_it_as_it_grows(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """From before it begins to its last line, each follower gets the whole log, one that came late too."""
    fake_endpoint.always(streamed(*"abcdefgh", pause=0.02))
    executions = await open_executions(store, max_concurrency=1)
    first, second = [await executions.create(a_task()) for _ in range(2)]
    early = asyncio.create_task(followed(executions, second.execution_id))
    await reached(executions, first.execution_id, "succeeded")
    await reached(executions, second.execution_id, "running")
    late = asyncio.create_task(followed(executions, second.execution_id))
    seen = read_transcript((await early).splitlines())
    assert seen.streamed == list("abcdefgh")
    assert await late == await early == executions.logs.path(second.execution_id).read_bytes()
    assert await followed(executions, second.execution_id) == await early


async def test_a_slow_follower_holds_nobody_up(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """The run ends while one follower has taken nothing yet; it still gets all, although the log was rotated out."""
    fake_endpoint.then(streamed(*["x" * 50_000] * 20))
    executions = await open_executions(store)
    created = await executions.create(a_task())
    slow = executions.log(created.execution_id, follow=True)
    await reached(executions, created.execution_id, "running")
    first = await anext(slow)
    await reached(executions, created.execution_id, "succeeded")
    whole = executions.logs.path(created.execution_id).read_bytes()
    executions.logs.path(created.execution_id).unlink()
    assert first + b"".join([chunk async for chunk in slow]) == whole


async def test_a_follower_that_leaves_leaves_nothing(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """Its file is closed, and the run goes on."""
    fake_endpoint.then(WORKING)
    executions = await open_executions(store)
    created = await executions.create(a_task())
    await reached(executions, created.execution_id, "running")
    following = asyncio.create_task(followed(executions, created.execution_id))
    path = str(executions.logs.path(created.execution_id))

    def readers() -> int:
        """Descriptors on the log; one is the writer's."""
        return [os.path.realpath(one) for one in Path("/proc/self/fd").iterdir()].count(path)

    await until(lambda: readers() == 2)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert readers() == 1
    assert (await executions.get(created.execution_id)).state == "running"


async def test_a_folder_that_cannot_be_written_fails_that_one_alone(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store, tmp_path: Path
) -> None:
    """`log-not-writable`, nothing asked of the server, followers end, and the next one runs where it can."""
    (tmp_path / "logs").write_text("a file")
    executions = await open_executions(store)
    created = await executions.create(a_task())
    ended = await reached(executions, created.execution_id, *ENDED)
    assert (ended.state, ended.exit_reason) == ("failed", "log-not-writable")
    assert await followed(executions, created.execution_id) == b""
    assert fake_endpoint.chats == []
    (tmp_path / "logs").unlink()
    fake_endpoint.then(streamed("Hello"))
    created = await executions.create(a_task())
    assert (await reached(executions, created.execution_id, *ENDED)).state == "succeeded"


async def test_a_defect_fails_that_one_alone(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """Whatever a run raises it is `failed`, and its slot is free: fails if such a one stays `running` for good."""

    class Broken(LocalRunner):
        async def run(self, *given: object, **more: object) -> RunResult:
            raise ZeroDivisionError

    executions = await open_executions(store, max_concurrency=1)
    runner, executions._runner = executions._runner, object.__new__(Broken)
    broken = await executions.create(a_task(model="m"))
    ended = await reached(executions, broken.execution_id, *ENDED)
    assert (ended.state, ended.exit_reason) == ("failed", "internal")
    assert read_transcript((await followed(executions, broken.execution_id)).splitlines()).result["is_error"] is True
    executions._runner = runner
    fake_endpoint.then(streamed("Hello"))
    created = await executions.create(a_task())
    assert (await reached(executions, created.execution_id, *ENDED)).state == "succeeded"


async def test_closing_interrupts(open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store) -> None:
    """What runs and what waits ends as interrupted, followers see it, and no more is taken."""
    fake_endpoint.always(WORKING)
    executions = await open_executions(store, max_concurrency=1)
    ids = [(await executions.create(a_task())).execution_id for _ in range(2)]
    await reached(executions, ids[0], "running")
    await until(lambda: len(fake_endpoint.chats) == 1)
    following = [asyncio.create_task(followed(executions, one)) for one in ids]
    await asyncio.gather(executions.aclose(), executions.aclose())
    for one, follower in zip(ids, following, strict=True):
        kept = await store.executions.get(one)
        assert kept is not None
        assert (kept.state, kept.exit_reason) == ("interrupted", "shutdown")
        assert read_transcript((await follower).splitlines()).result["exit_reason"] == "shutdown"
    await left(fake_endpoint)
    with pytest.raises(OverloadedError):
        await executions.create(a_task())


async def test_a_crash_is_closed_at_the_next_start(open_executions: OpenExecutions, store: Store) -> None:
    """What this folder's last owner left open is interrupted, with a result line after what was written."""
    before = await open_executions(store)
    running, queued = left_open(before), left_open(before)
    for one in (running, queued):
        await store.executions.create(one)
    lines = StreamJson(running.execution_id, "fake-model")
    log = before.logs.open(running.execution_id)
    log.write(lines.init("/") + lines.delta("half"))
    log.write(b'{"type":"stream_ev')
    log.close()
    await before.aclose()
    after = await open_executions(store)
    for one in (running, queued):
        ended = await after.get(one.execution_id)
        assert (ended.state, ended.exit_reason) == ("interrupted", "process-died")
        end = result_of(after.logs.path(one.execution_id))
        assert end is not None
        assert end["exit_reason"] == "process-died"
    summary = await after.summary(running.execution_id)
    assert summary is not None
    assert (summary.text, summary.is_error) == ("half", True)


@pytest.mark.parametrize(
    ("reason", "is_error", "state"),
    [
        ("completed", False, "succeeded"),
        ("idle-timeout", True, "failed"),
        ("cancelled", True, "cancelled"),
        ("shutdown", True, "interrupted"),
    ],
)
async def test_an_end_in_the_log_counts(
    open_executions: OpenExecutions, store: Store, reason: str, state: str, *, is_error: bool
) -> None:
    """A process that died between the log's last line and the store's: the execution is what its log says."""
    before = await open_executions(store)
    open_one = left_open(before)
    await store.executions.create(open_one)
    log = before.logs.open(open_one.execution_id)
    usage = {"input_tokens": 7, "output_tokens": 2}
    lines = StreamJson(open_one.execution_id, "m")
    log.write(lines.result("x", exit_reason=reason, is_error=is_error, duration_ms=1, usage=usage))
    log.close()
    await before.aclose()
    after = await open_executions(store)
    ended = await after.get(open_one.execution_id)
    assert (ended.state, ended.exit_reason, ended.tokens_in, ended.tokens_out) == (state, reason, 7, 2)
    assert after.logs.path(open_one.execution_id).read_bytes().count(b'"type":"result"') == 1


async def test_one_that_was_kept_but_never_begun_is_closed(open_executions: OpenExecutions, store: Store) -> None:
    """A caller that was cancelled while the store wrote leaves no execution that is queued for ever."""
    executions = await open_executions(store)
    creating = asyncio.create_task(executions.create(a_task("t")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert executions.queued == 0
    async with asyncio.timeout(10):
        kept: list[Execution] = []
        while not kept or kept[0].ended_at is None:
            kept = await store.executions.newest(limit=1, task_id="t")
            await asyncio.sleep(0.01)
    assert kept[0].state == "interrupted"


async def test_lost_replicas_are_closed_by_others(open_executions: OpenExecutions, store: Store) -> None:
    """Of one not seen for a minute what it left open is interrupted, but only once the store has been there for a
    while: after an outage nobody has been seen, and all are alive."""
    clock = HandClock()
    executions = await open_executions(store, options={"clocks": Clocks(monotonic=clock)})
    lost, alive = left_open(executions, "lost", seen_ago=61), left_open(executions, "alive", seen_ago=30)
    for one in (lost, alive):
        await store.executions.create(one)
    await executions._upkeep.once()
    assert (await executions.get(lost.execution_id)).state == "running"
    clock.move(16)
    await executions._upkeep.once()
    assert (await executions.get(lost.execution_id)).state == "interrupted"
    assert (await executions.get(alive.execution_id)).state == "running"
    assert not executions.logs.path(lost.execution_id).exists()


async def test_two_processes_share_a_folder(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """The second goes by another name, takes nothing of the first for lost, and follows its logs."""
    fake_endpoint.always(streamed(*"abc", pause=0.05))
    first = await open_executions(store)
    created = await first.create(a_task())
    second = await open_executions(store)
    assert second.logs.owner != first.logs.owner
    seen = read_transcript((await followed(second, created.execution_id)).splitlines())
    assert seen.streamed == list("abc")
    assert (await reached(first, created.execution_id, *ENDED)).state == "succeeded"


async def test_another_replica_cancels(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """A DELETE that comes to another replica ends it where it runs."""
    fake_endpoint.then(WORKING)
    first, second = await open_executions(store), await open_executions(store, folder="other")
    created = await first.create(a_task())
    await reached(first, created.execution_id, "running")
    await until(lambda: len(fake_endpoint.chats) == 1)
    assert (await second.cancel(created.execution_id)).state == "cancelled"
    await left(fake_endpoint)
    assert (await reached(first, created.execution_id, *ENDED)).state == "cancelled"
    end = result_of(first.logs.path(created.execution_id))
    assert end is not None
    assert end["exit_reason"] == "cancelled"


async def test_the_store_may_be_away_when_it_ends(
    open_executions: OpenExecutions, open_store: OpenStore, fake_endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    """The run goes on and its end is told from memory; it is in the store once that is back, and not live any more."""
    folder, aside = tmp_path / "store", tmp_path / "aside"
    folder.mkdir()
    store = await open_store(f"sqlite:///{folder / 'store.db'}", retry_seconds=(0.02, 0.02), probe_seconds=0.05)
    fake_endpoint.then(streamed(*"abcdef", pause=0.05))
    executions = await open_executions(store)
    created = await executions.create(a_task())
    await reached(executions, created.execution_id, "running")
    folder.rename(aside)  # and so the database cannot be made anew
    assert (await reached(executions, created.execution_id, *ENDED)).state == "succeeded"
    with pytest.raises(StoreUnavailableError):
        await executions.create(a_task())
    assert (await executions.get(created.execution_id)).state == "succeeded"
    assert list(executions._runs) == [created.execution_id]
    aside.rename(folder)
    await until(lambda: not executions._runs)
    kept = await executions.get(created.execution_id)
    assert (kept.state, kept.exit_reason, kept.tokens_in) == ("succeeded", "completed", 10)


async def test_signs_of_life_are_given(
    open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store
) -> None:
    """While it is open its owner is seen again and again."""
    fake_endpoint.then(WORKING)
    executions = await open_executions(store)
    created = await executions.create(a_task())
    seen = set[datetime | None]()
    async with asyncio.timeout(10):
        while len(seen) < 4:
            kept = await store.executions.get(created.execution_id)
            seen.add(kept.seen_at if kept else None)
            await asyncio.sleep(0.01)


async def test_logs_are_rotated_out(open_executions: OpenExecutions, fake_endpoint: FakeEndpoint, store: Store) -> None:
    """Beyond `keep` the oldest log goes, soon after an execution has ended; its record stays."""
    fake_endpoint.always(streamed("Hello"))
    executions = await open_executions(store, keep=2)
    ids = list[str]()
    for _ in range(4):
        ids.append((await executions.create(a_task())).execution_id)
        await reached(executions, ids[-1], "succeeded")
    await until(lambda: [executions.logs.path(one).exists() for one in ids] == [False, False, True, True])
    assert (await executions.get(ids[0])).state == "succeeded"
    assert await executions.summary(ids[0]) is None
