"""The folder of logs: one sub-folder an execution, each with its `stdout.log`."""

import contextlib
import fcntl
import os
import shutil
import socket
import time
import uuid
from pathlib import Path

from service.ids import is_uuid
from service.runner.stream_json import LogFile, StreamJson, has_result
from service.settings import ExecutionSettings

CHUNK = 64 * 1024


class LogFolder:
    """`<folder>/<execution_id>/stdout.log`. `claim` finds out whether this process has the folder to itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._lock: int | None = None
        self.owner = f"{socket.gethostname()}:{self.folder}"

    @property
    def alone(self) -> bool:
        """Whether no other living process on this machine uses the folder."""
        return self._lock is not None

    def claim(self) -> None:
        """Takes the folder where nobody has it; otherwise this process goes by a name of its own."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
            else:
                self._lock = descriptor
                return
        self.owner = f"{self.owner}:{uuid.uuid4().hex[:8]}"

    def release(self) -> None:
        """Gives the folder back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def path(self, execution_id: str) -> Path:
        """Where its log lies, or would; the id has been checked to be one."""
        return self.folder / execution_id / "stdout.log"

    def open(self, execution_id: str) -> LogFile:
        """Raises OSError where it cannot be written."""
        return LogFile(self.path(execution_id))

    def read(self, execution_id: str, position: int) -> bytes:
        """What stands from `position` on, at most 64 KiB; nothing where there is no log (any more)."""
        try:
            with self.path(execution_id).open("rb") as file:
                file.seek(position)
                return file.read(CHUNK)
        except OSError:
            return b""

    def close_with_result(self, lines: StreamJson, execution_id: str, why: str) -> None:
        """Gives a log without one its `result` line. Raises OSError."""
        path = self.path(execution_id)
        if path.exists() and has_result(path):
            return
        log = self.open(execution_id)
        try:
            usage = {"input_tokens": 0, "output_tokens": 0}
            log.write(lines.result(why, subtype="error_during_execution", duration_ms=0, usage=usage))
        finally:
            log.close()

    def rotate(self, settings: ExecutionSettings, live: frozenset[str]) -> None:
        """Removes the oldest logs beyond `keep`, and those older than `keep_days`; never one that is live."""
        try:
            found = sorted(entry.name for entry in self.folder.iterdir() if is_uuid(entry.name))
        except OSError:
            return
        ended = [name for name in found if name not in live]
        oldest = time.time() - settings.keep_days * 86_400
        surplus = max(0, len(ended) - settings.keep)
        for index, name in enumerate(ended):
            with contextlib.suppress(OSError):
                if index < surplus or (self.folder / name).stat().st_mtime < oldest:
                    shutil.rmtree(self.folder / name)
