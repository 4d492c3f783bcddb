"""What one decision takes in the store's file: `python -m tests.load.bench_log_size`.

The issues of the recorded tasks are decided by the shipped catalog, by the forecast alone and with a (fake) model that
is asked about each; with and without the explanations compressed.
"""

import asyncio
import logging
import sqlite3
import tempfile
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import structlog

from service.contract.decoding import convert_tree
from service.contract.settings import Settings
from service.contract.task import Task
from service.core import Core
from tests.support.fake_behaviours import verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.recorded_tasks import data_directory, read_lines

DECISIONS = 5000


async def decided(folder: Path, tasks: list[dict[str, Any]], local_model: dict[str, Any]) -> Path:
    """The database after so many decisions."""
    file = folder / "store.db"
    tree = {
        "store": {"url": f"sqlite:///{file}"},
        "cli": {"preset": ""},
        "local_model": local_model,
        "decision": {"cache_seconds": 600},
    }
    core = Core(convert_tree(tree, Settings), environ={})
    await core.start()
    for number in range(DECISIONS):
        given = tasks[number % len(tasks)]
        fields: dict[str, Any] = {name: given[name] for name in ("instructions", "name", "labels") if name in given}
        fields["task_id"] = f"task-{number}"
        fields["instructions"] = fields["instructions"][:200_000]
        await core.decide(msgspec.convert(fields, Task))
    await core.aclose()
    return file


def bytes_each(file: Path, *, plain: bool) -> float:
    """Bytes of the file for one decision; with `plain` as if nothing were compressed."""
    with closing(sqlite3.connect(file)) as database:
        if plain:
            rows = database.execute("SELECT decision_id, packed FROM decisions").fetchall()
            unpacked = [(zlib.decompress(packed).decode(), key) for key, packed in rows]
            database.executemany("UPDATE decisions SET packed = NULL, explanation = ? WHERE decision_id = ?", unpacked)
            database.commit()
        database.execute("VACUUM")
        (written,) = database.execute("SELECT count(*) FROM decisions").fetchone()
    return file.stat().st_size / int(written)


def main() -> None:
    """Prints one line for each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    directory = data_directory()
    if directory is None:
        raise SystemExit("needs the recorded tasks (POINTSMAN_DATA)")
    tasks = read_lines(directory / "swebench_dev.jsonl")
    characters = sum(len(task["instructions"]) for task in tasks) / len(tasks)
    print(f"{len(tasks)} issues of {characters:.0f} characters on average, {DECISIONS} decisions")
    with FakeEndpoint() as fake:
        fake.always(verdict("claude", "claude-opus-4-5"))
        model = {"endpoint": fake.url, "model": "fake-model"}
        for who, local_model in (("forecast", {}), ("local model", model)):
            with tempfile.TemporaryDirectory() as folder:
                file = asyncio.run(decided(Path(folder), tasks, local_model))
                packed, plain = bytes_each(file, plain=False), bytes_each(file, plain=True)
                print(f"{who}: {packed / 1000:.2f} KB each, {plain / 1000:.2f} KB where explanations are plain")


if __name__ == "__main__":
    main()
