"""The lock beside a SQLite file: one machine or pod at a time, however a process ends."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from service.store.ownership import OwnedElsewhereError, Ownership, this_machine


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where a database would be; the lock needs none."""
    return tmp_path / "pointsman.db"


@contextmanager
def owning(database: Path, machine: str) -> Generator[Ownership]:
    """An owner that lets go at the end."""
    ownership = Ownership(database, machine=machine)
    try:
        yield ownership
    finally:
        ownership.release()


async def test_processes_of_one_machine_share_the_file(database: Path) -> None:
    """SQLite keeps them apart by itself; each may come and go."""
    with ExitStack() as stack:
        owners = [stack.enter_context(owning(database, "a")) for _ in range(3)]
        for owner in owners:
            await owner.take()
        owners[0].release()
        await owners[0].take()
        await owners[1].take()


async def test_another_machine_is_refused_by_name_until_the_last_has_gone(database: Path) -> None:
    """It is told who has it and what to do; when nobody is left it gets the file, and the first is refused."""
    with owning(database, "a") as first, owning(database, "a") as second, owning(database, "b") as other:
        await first.take()
        await second.take()
        first.release()
        with pytest.raises(OwnedElsewhereError, match=r"uses this SQLite file.*several need PostgreSQL") as raised:
            await other.take()
        assert os.uname().nodename in str(raised.value)
        second.release()
        await other.take()
        with pytest.raises(OwnedElsewhereError):
            await first.take()


async def test_the_file_of_a_killed_process_is_free_at_once(database: Path) -> None:
    """The kernel releases the lock; what the dead one wrote down does not count."""
    code = (
        "import asyncio, sys, time; from pathlib import Path; from service.store.ownership import Ownership\n"
        "asyncio.run(Ownership(Path(sys.argv[1]), machine='dead').take()); print('taken', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, database], stdout=subprocess.PIPE) as process:  # noqa: ASYNC220 - nothing else runs here
        assert process.stdout is not None
        assert process.stdout.readline() == b"taken\n"
        with owning(database, "a") as ownership:
            with pytest.raises(OwnedElsewhereError):
                await ownership.take()
            process.kill()
            process.wait()
            await ownership.take()


async def test_a_lock_that_nobody_signed_belongs_to_another(database: Path) -> None:
    """A restore, or a process on a full disk, holds it without a name."""
    with database.with_name("pointsman.db.lock").open("a") as file, owning(database, "a") as ownership:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(OwnedElsewhereError, match="another machine uses"):
            await ownership.take()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OwnedElsewhereError, match="locked"):
            await ownership.take()


async def test_a_lock_file_that_was_removed_is_made_anew(database: Path) -> None:
    """Nobody holds a lock on a file that the next one does not find."""
    with owning(database, "a") as first, owning(database, "b") as second:
        await first.take()
        lock = database.with_name("pointsman.db.lock")
        lock.unlink()
        first.release()
        await first.take()
        assert msgspec.json.decode(lock.read_bytes())["machine"] == "a"
        with pytest.raises(OwnedElsewhereError):
            await second.take()


async def test_where_no_lock_can_be_made_sqlite_says_what_is_wrong(tmp_path: Path) -> None:
    """A missing folder is none of its business."""
    with owning(tmp_path / "missing" / "pointsman.db", "a") as ownership:
        await ownership.take()


def test_this_machine_is_told_by_its_kernel_and_its_pod() -> None:
    """The same for each process here, and another in a namespace of its own, as a pod has one."""
    assert this_machine() == this_machine()
    code = "from service.store.ownership import this_machine; print(this_machine())"
    same = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert same == this_machine()
    pod = subprocess.run(
        ["unshare", "--uts", "--map-root-user", "--user", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    if pod.returncode != 0:
        pytest.skip(f"needs namespaces: {pod.stderr[-200:]}")
    assert pod.stdout.strip().split()[0] == this_machine().split()[0]
    assert pod.stdout.strip() != this_machine()
