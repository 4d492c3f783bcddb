"""Room on the disk of a SQLite file. To delete is to write, so some is set aside and given up when the disk is full."""

import contextlib
import os
from pathlib import Path

RESERVE_BYTES = 8 << 20
"""To delete a thousand decisions writes some 1 MiB, and a write-ahead log that found no room in the file may hold 4."""

PLENTY = 4 * RESERVE_BYTES
"""On a disk with less than this left nothing is set aside: it would only be full the sooner."""


class Room:
    """The file `<database>.reserve`; without a `database` (in memory, or on another host) there is nothing to do."""

    def __init__(self, database: Path | None) -> None:
        self._reserve = database and database.with_name(f"{database.name}.reserve")

    @property
    def scarce(self) -> bool:
        """Whether the file had better not grow any more."""
        free = self._free()
        return free is not None and free < RESERVE_BYTES

    def set_aside(self) -> None:
        """Makes the reserve where there is none and the disk has plenty."""
        free = self._free()
        if self._reserve is None or free is None or free < PLENTY:
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(self._reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(descriptor).st_size < RESERVE_BYTES:
                    os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)

    def give_up(self) -> None:
        """Gives the reserve's room to whoever writes next."""
        if self._reserve is not None:
            with contextlib.suppress(OSError):
                self._reserve.unlink(missing_ok=True)

    def _free(self) -> int | None:
        """Bytes that are left; None where nobody can say."""
        if self._reserve is None:
            return None
        try:
            disk = os.statvfs(self._reserve.parent)
        except OSError:
            return None
        return disk.f_bavail * disk.f_frsize
