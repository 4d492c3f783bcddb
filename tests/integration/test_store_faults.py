"""SQLite files that cannot be used, at the start and later."""

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from service.contract.errors import StoreUnavailableError
from service.store import Store
from service.store.schema import metadata
from tests.support.store_fixtures import OpenStore, a_decision, an_outcome, until

QUICK = {"patience_seconds": 0.2, "retry_seconds": (0.05, 0.2), "probe_seconds": 0.1}


async def test_a_missing_directory_is_told_and_found_later(tmp_path: Path, open_store: OpenStore) -> None:
    """The store starts all the same, says why it does not record, keeps decisions, and records once it can."""
    folder = tmp_path / "later"
    store = await open_store(f"sqlite:///{folder}/store.db", **QUICK)
    assert not store.status.recording
    assert "cannot be opened" in str(store.status.problem)
    assert str(folder) in str(store.status.problem)
    store.decisions.add(a_decision(decision_id="1"))
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        await store.outcomes.record([an_outcome()])
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        await store.decisions.newest(limit=1)
    folder.mkdir()
    await until(lambda: store.status.recording and store.status.buffered == 0)
    assert [stored.decision_id for stored in await store.decisions.newest(limit=9)] == ["1"]
    assert (await store.outcomes.record([an_outcome()]))[0].state == "new"


def below_a_file(folder: Path) -> Path:
    """A path that no permission makes possible; root may write anywhere else."""
    (folder / "file").write_text("")
    return folder / "file" / "store.db"


def a_folder(folder: Path) -> Path:
    """A folder where the file should be."""
    (folder / "store.db").mkdir()
    return folder / "store.db"


def no_database(folder: Path) -> Path:
    """Somebody else's file."""
    (folder / "store.db").write_text("This is not a database, but it is long enough to be taken for one. " * 100)
    return folder / "store.db"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(below_a_file, "cannot be opened", id="below a regular file"),
        pytest.param(a_folder, "cannot be opened", id="a folder"),
        pytest.param(no_database, "not a SQLite database", id="another kind of file"),
    ],
)
async def test_an_impossible_file_is_told(
    tmp_path: Path, open_store: OpenStore, make: Callable[[Path], Path], said: str
) -> None:
    """Whatever stands at the path, the status says what is wrong with it in words, and nothing is overwritten."""
    path = make(tmp_path)
    before = path.read_bytes() if path.is_file() else b""
    store = await open_store(f"sqlite:///{path}", **QUICK)
    assert said in str(store.status.problem)
    assert before == (path.read_bytes() if path.is_file() else b"")


async def test_a_database_locked_at_the_start_is_used_later(sqlite_url: str, open_store: OpenStore) -> None:
    """Another process holds the file at the start: the status says locked, and recording begins when it lets go."""
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("CREATE TABLE theirs (a)")
    other.execute("BEGIN EXCLUSIVE")
    store = await open_store(sqlite_url, **QUICK)
    assert "locked" in str(store.status.problem)
    other.execute("ROLLBACK")
    other.close()
    await until(lambda: store.status.recording)
    assert (await store.outcomes.record([an_outcome()]))[0].state == "new"


async def test_a_database_locked_later_fails_in_bounded_time(sqlite_url: str, open_store: OpenStore) -> None:
    """A writer elsewhere that never ends makes reports fail in words and decisions wait; reading goes on."""
    store = await open_store(sqlite_url, **QUICK)
    await store.outcomes.record([an_outcome(decision_id="d")])
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailableError, match="locked by another process"):
            await store.outcomes.record([an_outcome()])
    assert not store.status.recording
    assert len(await store.outcomes.of_decision("d")) == 1
    assert not store.status.recording, "reading does not prove that writing works"
    store.decisions.add(a_decision(decision_id="1"))
    other.execute("ROLLBACK")
    other.close()
    await until(lambda: store.status.recording and store.status.buffered == 0)
    assert len(await store.decisions.newest(limit=9)) == 1


def remove_files(folder: Path) -> None:
    """The database, its log and its index."""
    for file in folder.iterdir():
        file.unlink()


async def test_a_file_deleted_under_us_swallows_nothing(tmp_path: Path, open_store: OpenStore) -> None:
    """Once the file is gone nothing more is acknowledged into the void; a new one is made and used.

    The defect it catches: an open connection writes to a deleted file for ever, without an error.
    """
    path = tmp_path / "store.db"
    store = await open_store(f"sqlite:///{path}", **QUICK, flush_seconds=60)
    await store.outcomes.record([an_outcome(decision_id="before")])
    remove_files(tmp_path)
    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        await store.outcomes.record([an_outcome(decision_id="lost")])
    await until(lambda: store.status.recording)
    assert (await store.outcomes.record([an_outcome(decision_id="after")]))[0].state == "new"
    again = await open_store(f"sqlite:///{path}")
    assert len(await again.outcomes.of_decision("after")) == 1


async def test_tables_that_vanish_are_made_again(store_url: str, open_store: OpenStore) -> None:
    """A database that was dropped and created anew under a running service is migrated again."""
    store = await open_store(store_url, **{**QUICK, "patience_seconds": 1.0})

    async def drop(connection: object) -> None:
        for table in metadata.sorted_tables:
            await connection.exec_driver_sql(f"DROP TABLE {table.name}")  # type: ignore[attr-defined]

    await store._database.run(drop, mode="write")
    with pytest.raises(StoreUnavailableError):
        await store.outcomes.record([an_outcome()])
    await until(lambda: store.status.recording)
    assert (await store.outcomes.record([an_outcome()]))[0].state == "new"


FULL_DISK = """
import asyncio, os, resource, sys
from service.contract.errors import StoreUnavailableError
from service.store import Store, StoreLimits
from tests.support.store_fixtures import a_decision, an_outcome

async def main():
    store = Store(sys.argv[1], StoreLimits(probe_seconds=0.1, retry_seconds=(0.05, 0.2)))
    await store.start()
    acknowledged = 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    try:
        while True:
            await store.outcomes.record([an_outcome(labels={"text": "x" * 300}) for _ in range(100)])
            acknowledged += 100
    except StoreUnavailableError as error:
        print(error)
    store.decisions.add(a_decision(decision_id="1", prompt=os.urandom(500_000).hex()))
    await asyncio.sleep(0.6)
    print(store.status.recording, store.status.buffered, store.status.dropped, "disk is full" in store.status.problem)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    async with asyncio.timeout(20):
        while store.status.buffered or not store.status.recording:
            await asyncio.sleep(0.01)
    print((await store.outcomes.record([an_outcome()]))[0].state)
    assert len([o async for o in store.outcomes.export()]) == acknowledged + 1 > 100
    assert len(await store.decisions.newest(limit=9)) == 1
    await store.aclose()

asyncio.run(main())
"""


async def test_a_full_disk_is_told_and_survived(sqlite_url: str) -> None:
    """Where no file may grow (RLIMIT_FSIZE, in a process of its own) reports fail in words, decisions wait, what was
    acknowledged is kept, and all goes on once there is room.
    """
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-c", FULL_DISK, sqlite_url],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.stderr.count("Traceback") == 0, done.stderr
    full, status, later = done.stdout.splitlines()
    assert full.startswith("the store is not available: the disk is full")
    assert status == "False 1 0 True"
    assert later == "new"


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path, None, None]:
    """A file system of two megabytes."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs (run as root)")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(path: Path) -> None:
    """Writes until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(os.urandom(4096))


async def test_a_really_full_disk_is_told_and_survived(small_disk: Path, open_store: OpenStore) -> None:
    """The same on a file system without a free block: it says that the disk is full, and works when there is room."""
    patient = {**QUICK, "patience_seconds": 5.0}  # a thousand outcomes may take a moment on a busy machine
    store = await open_store(f"sqlite:///{small_disk / 'store.db'}", **patient)
    filler = small_disk / "filler"
    fill(filler)
    with pytest.raises(StoreUnavailableError, match=r"the disk is full$"):
        await store.outcomes.record([an_outcome(labels={"text": "x" * 300}) for _ in range(1000)])
    assert "the disk is full" in str(store.status.problem)
    filler.unlink()
    await until(lambda: store.status.recording)
    assert (await store.outcomes.record([an_outcome()]))[0].state == "new"
    await store.aclose()


@pytest.fixture
def larger_disk(tmp_path: Path) -> Generator[Path, None, None]:
    """A file system of 48 megabytes, where something can be set aside."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs (run as root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_pruning_makes_room_on_a_full_disk(larger_disk: Path, open_store: OpenStore) -> None:
    """Something else fills the disk and stays: the oldest decisions go, and what is reported is recorded again and
    again, though not a block is free. The defect it catches: to delete needs room in the write-ahead log.
    """
    store = await open_store(f"sqlite:///{larger_disk / 'store.db'}", max_bytes=1 << 30, **QUICK)
    ids = [f"{number:05}" for number in range(4000)]
    for decision_id in ids:
        store.decisions.add(a_decision(decision_id=decision_id, prompt=os.urandom(400).hex()))
    await until(lambda: store.status.buffered == 0 and (larger_disk / "store.db.reserve").exists())
    await asyncio.to_thread(fill, larger_disk / "filler")
    recorded = 0
    for number in range(40):
        store.decisions.add(a_decision(decision_id=f"later-{number:02}", prompt=os.urandom(100_000).hex()))
        with contextlib.suppress(StoreUnavailableError):
            await store.outcomes.record([an_outcome(labels={"text": "x" * 300}) for _ in range(100)])
            recorded += 1
        await until(lambda: store.status.recording and store.status.buffered == 0)
    assert recorded > 30
    assert store.status.dropped == 0
    kept = [stored.decision_id for stored in await store.decisions.newest(limit=5000)]
    assert kept[:40] == [f"later-{number:02}" for number in reversed(range(40))]
    assert 900 < len(kept) < 4000
    assert kept[40:] == ids[::-1][: len(kept) - 40]
    await store.aclose()


async def test_nothing_is_set_aside_where_there_is_little(small_disk: Path, open_store: OpenStore) -> None:
    """A reserve of eight megabytes would fill a small disk."""
    store = await open_store(f"sqlite:///{small_disk / 'store.db'}", max_bytes=1 << 30, **QUICK)
    await asyncio.sleep(0.4)
    assert store.status.recording
    assert not (small_disk / "store.db.reserve").exists()


READ_ONLY = """
import asyncio, os, sys
from pathlib import Path
from service.contract.errors import StoreUnavailableError
from service.store import Store, StoreLimits
from tests.support.store_fixtures import a_decision, an_outcome

async def main():
    folder = Path(sys.argv[1])
    limits = StoreLimits(probe_seconds=0.05, retry_seconds=(0.05, 0.2), max_bytes=1 << 20)
    store = Store(f"sqlite:///{folder / 'store.db'}", limits)
    await store.start()
    await store.outcomes.record([an_outcome()])
    folder.chmod(0o555)
    for file in folder.iterdir():
        file.chmod(0o444)
    os.seteuid(65534)
    said, acknowledged = set(), 1
    for number in range(40):
        store.decisions.add(a_decision(decision_id=str(number)))
        try:
            await asyncio.gather(*(store.outcomes.since(0) for _ in range(8)))
            await store.outcomes.record([an_outcome()])
            acknowledged += 1
        except StoreUnavailableError as error:
            said.add(str(error))
        await asyncio.sleep(0.02)
    os.seteuid(0)
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    async with asyncio.timeout(20):
        while store.status.buffered or not store.status.recording:
            await asyncio.sleep(0.01)
    assert len([o async for o in store.outcomes.export()]) == acknowledged
    assert len(await store.decisions.newest(limit=99)) == 40
    print(said)
    await store.aclose()

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to become another user")
async def test_a_folder_that_becomes_read_only_is_survived(tmp_path: Path) -> None:
    """While it runs, the folder and its files may not be written any more: whatever is acknowledged is kept, what is
    not is told in words, and all goes on once they may be.
    """
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-c", READ_ONLY, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


async def test_a_closed_store_refuses(sqlite_url: str) -> None:
    """After closing, calls fail in words instead of opening the database again, and closing twice is fine."""
    store = Store(sqlite_url)
    await store.start()
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.outcomes.record([an_outcome()])
