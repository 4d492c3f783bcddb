"""Killed in the middle."""

import asyncio
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.support.store_fixtures import OpenStore, until

ROUNDS = 13
AT_ONCE = 2


async def test_what_was_acknowledged_survives_every_kill(store_url: str, open_store: OpenStore, tmp_path: Path) -> None:
    """After 26 processes, two at a time, were killed -9 at random moments, every id that one printed is on record.

    The defect it catches: an answer before the commit.
    """
    chance = random.Random(7)
    acknowledged: list[str] = []
    for number in range(ROUNDS):
        printed = [tmp_path / f"printed-{number}-{n}" for n in range(AT_ONCE)]
        recorders = [start_recorder(store_url, path) for path in printed]
        await until(partial(all_written, printed))
        for recorder in recorders:
            await asyncio.sleep(chance.uniform(0, 0.05))
            recorder.kill()
            await asyncio.to_thread(recorder.wait)
        for path in printed:
            # The last line counts only when it is whole.
            acknowledged += path.read_text().rpartition("\n")[0].split()

    store = await open_store(store_url)
    assert store.status.recording
    recorded = {kept.outcome_id async for kept in store.outcomes.export()}
    assert len(acknowledged) > ROUNDS * AT_ONCE
    assert len(set(acknowledged)) == len(acknowledged)
    assert set(acknowledged) - recorded == set()


def all_written(paths: list[Path]) -> bool:
    """Whether each recorder has had something acknowledged."""
    return all(path.stat().st_size for path in paths)


def start_recorder(store_url: str, printed: Path) -> "subprocess.Popen[bytes]":
    """Its output goes to a file: a pipe that is read in two ways loses what is buffered in between."""
    with printed.open("wb") as file:
        return subprocess.Popen([sys.executable, "-m", "tests.support.outcome_recorder", store_url], stdout=file)
