"""Records outcomes as fast as it can and prints the id of each one that was acknowledged, until it is killed.

`python -m tests.support.outcome_recorder URL`
"""

import asyncio
import itertools
import sys

from service.base.ids import uuid7
from service.contract.outcome import Outcome
from service.store import Store

CALLERS = 4


async def record(url: str) -> None:
    """Several callers at once, so that some are always in the middle of something."""
    store = Store(url)
    await store.start()

    async def call() -> None:
        for size in itertools.cycle((1, 1, 3, 1, 20)):
            batch = [Outcome(agent_type="a", model="m", solved=True, decision_id=uuid7()) for _ in range(size)]
            recordings = await store.outcomes.record(batch)
            sys.stdout.write("".join(f"{recording.outcome_id}\n" for recording in recordings))
            sys.stdout.flush()

    await asyncio.gather(*(call() for _ in range(CALLERS)))


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1]))
