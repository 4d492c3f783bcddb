"""Work that is done again and again beside the requests."""

import asyncio

from service.base.background import Background


async def test_a_round_that_raises_ends_no_other() -> None:
    """A defect is handed on, and the next round takes place all the same."""
    rounds: list[int] = []
    told: list[Exception] = []
    done = asyncio.Event()

    async def work() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise RuntimeError("first")
        done.set()

    background = Background(work, every_seconds=0.001, defect=told.append)
    background.start()
    await done.wait()
    await background.aclose()
    assert [str(error) for error in told] == ["first"]
    assert len(rounds) >= 2


async def test_without_a_rhythm_it_works_only_when_it_is_woken() -> None:
    """A wake that came before the start counts, and several before one round are one."""
    rounds = 0
    worked = asyncio.Event()

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        worked.set()

    def never(error: Exception) -> None:
        raise error

    background = Background(work, every_seconds=None, defect=never)
    background.wake()
    background.wake()
    background.start()
    await worked.wait()
    await asyncio.sleep(0)
    assert rounds == 1
    await background.aclose()


async def test_closing_waits_for_the_round_under_way() -> None:
    """What the round holds is given back before `aclose` returns; one that never started closes too."""
    held: list[str] = []
    begun = asyncio.Event()

    async def work() -> None:
        held.append("taken")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            held.clear()

    background = Background(work, every_seconds=0, defect=lambda _: None)
    background.start()
    await begun.wait()
    await background.aclose()
    assert held == []
    await Background(work, every_seconds=0, defect=lambda _: None).aclose()
