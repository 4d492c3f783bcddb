"""Reading a SQLite file that may not be written."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from service.store.address import Address
from service.store.connections import create_reader


class Reader:
    """Connections that only read, made anew where the file changed in a way that they would not see.

    Beside a write-ahead log they follow whoever writes. Without one nobody does, and the file counts as immutable until
    it changes or a log appears; a call that reads just then may fail, or see a part of the change.
    """

    def __init__(self, address: Address, patience_seconds: float, retire: Callable[[AsyncEngine], None]) -> None:
        """`retire` closes connections in the background, when their transactions end."""
        self._address = address
        self._patience = patience_seconds
        self._retire = retire
        self._engine: AsyncEngine | None = None
        self._seen: tuple[int, ...] | None = None

    def engine(self) -> AsyncEngine:
        """For one transaction that begins now."""
        seen = self._state()
        if self._engine is None or seen != self._seen:
            if self._engine is not None:
                self._retire(self._engine)
            self._engine = create_reader(self._address, self._patience, immutable=seen is not None)
            self._seen = seen
        return self._engine

    async def aclose(self) -> None:
        """Closes every connection."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    def _state(self) -> tuple[int, ...] | None:
        """What an immutable file is known by; None beside a write-ahead log."""
        path = self._address.path or Path()
        with suppress(OSError):
            os.stat(f"{path}-wal")  # noqa: PTH116 - before each call
            return None
        with suppress(OSError):
            found = os.stat(path)  # noqa: PTH116 - before each call
            return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        return ()
