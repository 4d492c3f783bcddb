"""How soon is a new outcome in the forecast, with a long history and while outcomes keep coming?

    OPENBLAS_NUM_THREADS=1 python -m tests.load.fresh [--outcomes N] [--rate N] [--seconds N] [--backend B …]

A database is filled with so many outcomes of the packaged catalog's candidates, six labels each; the service's core
starts over it, learns, and is then given outcomes through the way in that HTTP uses: a few by themselves, then at a
steady rate, a tenth of a second's at a time. Of each it is measured how long it takes from the answer until a forecast
rests on it. Prints the load of the machine as well: what others do on it counts.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import structlog

from service.base.ids import uuid7
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.outcome import Outcome
from service.contract.settings import CliSettings, Settings, StoreSettings
from service.core import Core
from service.store import Store
from tests.support.postgres import PostgresServer

COLUMNS = (*("seq", "outcome_id", "recorded_at", "change", "attempt", "agent_type", "model", "solved", "body"),)
PROMISED_SECONDS = 5.0
SINGLE = 5


def outcome(rng: random.Random, task: str) -> Outcome:
    """One as schedulers report it."""
    agent_type, model = rng.choice(KEYS)
    return Outcome(
        agent_type=agent_type,
        model=model,
        solved=rng.random() < 0.6,
        cost_usd=round(rng.random(), 3),
        labels={f"key{k}": str(rng.randrange(200)) for k in range(6)},
        task_id=task,
    )


KEYS = [candidate.key[:2] for candidate in load_catalog(DEFAULT_CATALOG).candidates]


def history(count: int, now: Any) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - as the driver wants it
    """Rows of the table, two outcomes a task."""
    rng = random.Random(0)
    for i in range(1, count + 1):
        one = outcome(rng, f"old-{i // 2}")
        body = json.dumps({
            "agent_type": one.agent_type, "model": one.model, "solved": one.solved, "cost_usd": one.cost_usd,
            "labels": one.labels, "task_id": one.task_id,
        })  # fmt: skip
        yield (i, uuid7(), now, i, 1, one.agent_type, one.model, one.solved, body)


async def fill(url: str, count: int) -> None:
    """A database with so many outcomes."""
    store = Store(url)
    await store.start()
    await store.aclose()
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
            marks = ", ".join("?" * len(COLUMNS))
            database.executemany(
                f"INSERT INTO outcomes ({', '.join(COLUMNS)}) VALUES ({marks})",
                history(count, "2026-01-01T00:00:00.000000Z"),
            )
        database.close()
        return
    connection = await asyncpg.connect(url)
    records = history(count, datetime.now(UTC))
    await connection.copy_records_to_table("outcomes", records=records, columns=list(COLUMNS))
    await connection.close()


class Watch:
    """When each change was answered, and when a forecast first rested on it."""

    def __init__(self, core: Core) -> None:
        self._learner = core.learner
        self._answered: list[tuple[int, float]] = []
        self.rounds: list[float] = []
        self.waited: list[float] = []
        self.lag: list[float] = []

    @property
    def cursor(self) -> int:
        """Up to which change was read."""
        return self._learner._cursor

    def answered(self, change: int) -> None:
        """Everything up to this change was just answered."""
        self._answered.append((change, time.monotonic()))

    async def follow(self) -> None:
        """Nothing is read while it learns, so that what was read is what a new version rests on."""
        version = self._learner.report.version
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            now = time.monotonic()
            self.lag.append(now - before - 0.005)
            if self._learner.report.version == version:
                continue
            version, known = self._learner.report.version, self.cursor
            self.rounds.append(now)
            self.waited += [now - then for change, then in self._answered if change <= known]
            self._answered = [one for one in self._answered if one[0] > known]

    async def none_left(self) -> None:
        """Until every change that was answered is in the forecast."""
        while self._answered:  # noqa: ASYNC110 - learning has no event
            await asyncio.sleep(0.01)


async def measure(url: str, count: int, rate: int, seconds: float) -> None:
    """Prints the figures of one database."""
    core = Core(Settings(store=StoreSettings(url=url), cli=CliSettings(preset="")), environ={})
    begun = time.monotonic()
    await core.start()
    watch = Watch(core)
    started = time.monotonic() - begun
    while watch.cursor < count or core.learner.report.outcomes == 0:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.2)
    print(f"  starts in {started:.2f} s, has read and learned all after {time.monotonic() - begun:.0f} s", flush=True)
    await asyncio.sleep(5)
    rng, change = random.Random(1), count
    following = asyncio.create_task(watch.follow())
    for n in range(SINGLE):
        await core.outcomes.record([outcome(rng, f"one-{n}")])
        watch.answered(change := change + 1)
        await watch.none_left()
        await asyncio.sleep(2.5)
    print(f"  one at a time: {_spread(watch.waited)}", flush=True)
    watch.waited, watch.rounds, watch.lag = [], [], []
    first, end, sent = time.monotonic(), time.monotonic() + seconds, 0
    spent = time.process_time()
    while time.monotonic() < end:
        due = int((time.monotonic() - first + 0.1) * rate) - sent
        tasks = [core.outcomes.record([outcome(rng, f"new-{(sent + j) // 2}")]) for j in range(due)]
        await asyncio.gather(*tasks)
        sent += due
        watch.answered(change := change + due)
        await asyncio.sleep(max(0.0, first + sent / rate - 0.1 - time.monotonic()))
    taken = time.monotonic() - first
    spent = time.process_time() - spent
    await watch.none_left()
    following.cancel()
    gaps = np.diff(watch.rounds)
    lag = np.quantile(watch.lag, [0.5, 0.99]) * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"  {sent / taken:.0f} a second for {taken:.0f} s: {_spread(watch.waited)}; {len(watch.rounds)} rounds, "
        f"longest between two {gaps.max(initial=0):.2f} s;\n  "
        f"the event loop late by {lag[0]:.1f} ms (p50), {lag[1]:.1f} ms (p99), "
        f"{spent / taken:.2f} of a core, peak {peak:.0f} MB",
        flush=True,
    )
    await core.aclose()


def _spread(waited: list[float]) -> str:
    p50, p95, most = np.quantile(waited, [0.5, 0.95, 1.0])
    kept = "kept" if most < PROMISED_SECONDS else "NOT KEPT"
    return f"in the forecast after {p50:.2f} s (p50), {p95:.2f} s (p95), {most:.2f} s at most ({kept})"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=700)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--backend", nargs="*", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    for backend in options.backend:
        with ExitStack() as stack:
            if backend == "sqlite":
                url = f"sqlite:///{Path(stack.enter_context(tempfile.TemporaryDirectory())) / 'store.db'}"
            else:
                server = stack.enter_context(PostgresServer())
                url = server.url(server.create_database())
            asyncio.run(fill(url, options.outcomes))
            load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
            print(f"{backend}, {options.outcomes:,} outcomes, load of the machine before {load}", flush=True)
            asyncio.run(measure(url, options.outcomes, options.rate, options.seconds))


if __name__ == "__main__":
    main()
