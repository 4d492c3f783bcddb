"""Saves and restores Pointsman's SQLite database: `backup.py save|restore DATABASE FOLDER`. Standard library only.

`save` is SQLite's online backup, so that the service goes on writing; the copy is checked before it gets its name.
`restore` takes the newest copy, or the one that BACKUP names, and refuses while anybody has the database open.
"""

import contextlib
import fcntl
import os
import sqlite3
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

KEPT = 7
BUSY_SECONDS = 60


def save(database: Path, folder: Path) -> str:
    """Writes FOLDER/pointsman-<time>.db and removes all but the newest KEPT."""
    if not database.exists():
        sys.exit(f"{database} does not exist: nothing to save")
    moment = datetime.now(UTC)
    name = folder / f"pointsman-{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03}Z.db"
    part = name.with_suffix(".part")
    _copy(database, part)
    part.rename(name)
    for stale in [*_saved(folder)[:-KEPT], *folder.glob("pointsman-*.part")]:
        stale.unlink()
    return f"saved {name.name}, {name.stat().st_size} bytes; {len(_saved(folder))} kept"


def restore(database: Path, folder: Path) -> str:
    """Puts a copy in the place of DATABASE; what stood there stays beside it as DATABASE.before-restore."""
    wanted = os.environ.get("BACKUP", "")
    found = [folder / wanted] if wanted else _saved(folder)[-1:]
    if not found or not found[0].exists():
        sys.exit(f"no such backup in {folder}; there: {', '.join(path.name for path in _saved(folder)) or 'none'}")
    part = database.with_name(f"{database.name}.restoring")
    with _alone(database):
        _copy(found[0], part)
        if database.exists():
            _copy(database, database.with_name(f"{database.name}.before-restore"))
        for companion in ("-wal", "-shm"):
            database.with_name(database.name + companion).unlink(missing_ok=True)
        part.rename(database)
    return f"restored {found[0].name}"


@contextlib.contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Holds the lock that the service holds while it runs."""
    lock = database.with_name(f"{database.name}.lock")
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{database} is in use (see {lock.name}): scale the deployment to 0 first")
        yield


def _copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=rw", uri=True, timeout=BUSY_SECONDS)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")  # a copy is one file
        (result,) = new.execute("PRAGMA integrity_check").fetchone()
    if result != "ok":
        target.unlink()
        sys.exit(f"the copy of {source} is damaged: {result}")
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("pointsman-*.db"))


if __name__ == "__main__":
    _, what, *places = sys.argv
    print({"save": save, "restore": restore}[what](*map(Path, places)))
