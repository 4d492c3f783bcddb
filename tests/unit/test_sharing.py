"""Identical work is shared, and ends when nobody waits for it any more."""

import asyncio
import gc

import pytest

from service.decide.sharing import MAX_RECENT, Recent, SharedCalls
from tests.support.builders import HandClock


class Work:
    """Counts how often it began and how it ended; finishes when it is let go."""

    def __init__(self, result: object = "done") -> None:
        self.began = 0
        self.cancelled = 0
        self.go = asyncio.Event()
        self._result = result

    async def __call__(self) -> object:
        """The work."""
        self.began += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


async def start(count: int, calls: SharedCalls[object], work: Work, seconds: float = 5.0) -> list[asyncio.Task[object]]:
    """So many who wait for one call, all of them waiting."""
    tasks = [asyncio.create_task(calls.share("key", work, timeout_seconds=seconds)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_passengers_share_one_piece_of_work() -> None:
    """Ten who ask for the same at once cause one piece of work and get its one result."""
    calls, work = SharedCalls[object](), Work()
    tasks = await start(10, calls, work)
    assert len(calls) == 1
    work.go.set()
    assert await asyncio.gather(*tasks) == ["done"] * 10
    assert work.began == 1
    assert len(calls) == 0


async def test_different_keys_do_not_share() -> None:
    """Work is shared by its key and by nothing else."""
    calls, one, two = SharedCalls[object](), Work(1), Work(2)
    one.go.set()
    two.go.set()
    results = await asyncio.gather(calls.share("a", one, timeout_seconds=5), calls.share("b", two, timeout_seconds=5))
    assert list(results) == [1, 2]


async def test_the_work_goes_on_while_one_passenger_is_left() -> None:
    """One who goes away, also the one who began it, does not end it for the others."""
    calls, work = SharedCalls[object](), Work()
    first, second = await start(2, calls, work)
    first.cancel()
    await asyncio.sleep(0)
    work.go.set()
    assert await second == "done"
    assert work.cancelled == 0
    assert first.cancelled()


async def test_the_work_is_cancelled_when_the_last_passenger_leaves() -> None:
    """Nobody waits, nothing is spent: catches work that goes on for callers who are gone."""
    calls, work = SharedCalls[object](), Work()
    tasks = await start(3, calls, work)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert work.cancelled == 1
    assert len(calls) == 0


async def test_who_comes_after_the_last_one_left_begins_anew() -> None:
    """A call that is being cancelled is not joined."""
    calls, work, again = SharedCalls[object](), Work(), Work("again")
    (task,) = await start(1, calls, work)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    again.go.set()
    assert await calls.share("key", again, timeout_seconds=5) == "again"


async def test_an_exception_reaches_every_passenger() -> None:
    """What the work raises is raised to each, and the next one begins anew."""
    calls, work = SharedCalls[object](), Work(ValueError("no"))
    tasks = await start(3, calls, work)
    work.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(result) for result in results] == ["no"] * 3
    assert len(calls) == 0


async def test_who_runs_out_of_time_gets_none() -> None:
    """A passenger leaves at the end of its own time; the others stay."""
    calls, work = SharedCalls[object](), Work()
    (patient,) = await start(1, calls, work)
    assert await calls.share("key", work, timeout_seconds=0.01) is None
    work.go.set()
    assert await patient == "done"


async def test_no_failure_is_left_unlooked_at(caplog: pytest.LogCaptureFixture) -> None:
    """Work that fails after all have left warns about no exception that was never retrieved."""

    async def stubborn() -> object:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            raise ValueError("late") from None
        return None

    calls = SharedCalls[object]()
    assert await calls.share("key", stubborn, timeout_seconds=0.01) is None
    await asyncio.sleep(0.01)
    gc.collect()
    await asyncio.sleep(0)
    assert not caplog.records


async def test_closing_ends_the_work_and_tells_who_waits() -> None:
    """At shutdown passengers get None, so that they can still be answered; they are not cancelled themselves."""
    calls, work = SharedCalls[object](), Work()
    tasks = await start(2, calls, work)
    await calls.aclose()
    assert await asyncio.gather(*tasks) == [None, None]
    assert work.cancelled == 1


def test_recent_values_last_their_time() -> None:
    """A value is there for less than its seconds, and then it is not."""
    clock = HandClock()
    recent = Recent[int](lambda: 30.0, clock)
    recent.put("a", 1)
    clock.move(29.9)
    assert recent.get("a") == 1
    clock.move(0.1)
    assert recent.get("a") is None


def test_recent_values_are_bounded() -> None:
    """Beyond the limit the oldest go first, and one put again is the newest: memory stays flat."""
    recent = Recent[int](lambda: 30.0, HandClock())
    for key in (*range(MAX_RECENT), 0, MAX_RECENT):
        recent.put(key, key)
    assert [recent.get(key) for key in (0, 1, 2, MAX_RECENT)] == [0, None, 2, MAX_RECENT]
    assert len(recent._kept) == MAX_RECENT


def test_old_values_are_dropped_by_new_ones() -> None:
    """A value that nobody asks for again does not stay for ever."""
    clock = HandClock()
    recent = Recent[int](lambda: 30.0, clock)
    recent.put("a", 1)
    clock.move(30.0)
    recent.put("b", 2)
    assert list(recent._kept) == ["b"]


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_time_is_no_memory(seconds: float) -> None:
    """With 0 seconds nothing is kept."""
    recent = Recent[int](lambda: seconds, HandClock())
    recent.put("a", 1)
    assert recent.get("a") is None
