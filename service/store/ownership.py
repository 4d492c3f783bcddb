"""Who may use a SQLite file: the processes of one machine, or of one pod, and no others.

SQLite's write-ahead log lives in memory that processes of one kernel share. Processes of one machine that use one file
on purpose (a service and commands beside it) are so kept apart by SQLite itself. Two pods on one claim are not: on two
nodes they damage the file, and on one node each would learn from what the other records while a scheduler takes them
for one. So a file beside the database names the machine that uses it, and a lock on that file, which the kernel
releases however a process ends, says that it still does.
"""

import asyncio
import errno
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

if sys.platform != "win32":
    import fcntl

TRIES, PAUSE_SECONDS = 20, 0.01
"""While another process writes down whose the file is, which takes microseconds."""


class OwnedElsewhereError(Exception):
    """Says who owns the file, and what to do."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the lock file."""

    machine: Annotated[str, msgspec.Meta(min_length=1)]
    """Processes with the same one share a kernel and a pod."""
    host: str
    """For people: in a pod its name."""
    since: datetime


_DECODER = msgspec.json.Decoder(Owner)
_ENCODER = msgspec.json.Encoder()


def this_machine() -> str:
    """The boot of this kernel and the namespace of its host name, which the containers of a pod share and no other
    pod has. Elsewhere than on Linux the host name alone.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/uts')}"  # noqa: PTH115 - it names no path
    except OSError:
        return platform.node() or "unknown"


class Ownership:
    """The lock beside one database file, held from `take` to `release`."""

    def __init__(self, database: Path, *, machine: str | None = None) -> None:
        self._path = database.with_name(f"{database.name}.lock")
        self._owner = Owner(machine=machine or this_machine(), host=platform.node(), since=datetime.now(UTC))
        self._file: int | None = None

    async def take(self) -> None:
        """Raises OwnedElsewhereError. Where no lock can be made (a folder that is missing or may not be written, a
        file system without locks) it does nothing: what is wrong with such a place SQLite says better.
        """
        if self._file is not None or sys.platform == "win32":
            return
        for _ in range(TRIES):
            try:
                if self._tried():
                    return
            except OSError:
                return
            await asyncio.sleep(PAUSE_SECONDS)
        raise OwnedElsewhereError(f"the file is locked ({self._path.name})")

    def release(self) -> None:
        """The file stays: to remove it would take it from under another process that has just opened it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _tried(self) -> bool:
        """Whether it is ours now; False where another process is about to say whose it is."""
        file = self._opened()
        try:
            if _locked(file, exclusive=True):
                self._write(file)
            # Nothing guards the step from the one lock to the other, so what stands there is read in any case.
            if not _locked(file, exclusive=False) or not self._same_file(file):
                return False
            owner = _read(file)
            if owner is None or owner.machine != self._owner.machine:
                raise OwnedElsewhereError(_refusal(owner))
            self._file, file = file, -1
            return True
        finally:
            if file != -1:
                os.close(file)

    def _opened(self) -> int:
        """Also where it is another user's or on a disk that may only be read: that is enough for a lock."""
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o660)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return os.open(self._path, os.O_RDONLY)

    def _write(self, file: int) -> None:
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, _ENCODER.encode(self._owner), 0)
        except OSError:  # a full disk, or another user's file: whoever comes finds no name, and the lock all the same
            pass

    def _same_file(self, file: int) -> bool:
        """Not one that was removed since it was opened, beside which another may have made a new one."""
        mine = os.fstat(file)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _locked(file: int, *, exclusive: bool) -> bool:
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: int) -> Owner | None:
    try:
        return _DECODER.decode(os.pread(file, 4096, 0))
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _refusal(owner: Owner | None) -> str:
    who = "another machine" if owner is None else f"{owner.host!r}, since {owner.since:%Y-%m-%d %H:%M} UTC,"
    return f"{who} uses this SQLite file, which belongs to one pod or machine at a time; several need PostgreSQL"
