"""The folder of logs: one sub-folder an execution, each with its `stdout.log`."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import IO, Any

from service.base.ids import is_uuid
from service.contract.settings import ExecutionSettings
from service.executions.log_file import LogError, LogFile, is_written
from service.executions.stream_json import StreamJson, result_of

CHUNK = 64 * 1024


class LogFolder:
    """`<folder>/<execution_id>/stdout.log`.

    `owner` names the process that has the folder. The name lies in the folder, so that whoever has it next, after a
    crash and perhaps under another host name, goes by the same one and knows what was left open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.owner = f"process-{uuid.uuid4()}"
        self._lock: int | None = None

    def claim(self) -> None:
        """Takes the folder where no living process has it; otherwise this one keeps a name of its own."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / ".owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                name = os.pread(descriptor, 100, 0).decode("ascii", "replace")
                if not is_uuid(name):
                    name = str(uuid.uuid4())
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, name.encode(), 0)
            except OSError:
                os.close(descriptor)
                raise
            self.owner, self._lock = f"folder-{name}", descriptor

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def path(self, execution_id: str) -> Path:
        """Where its log lies, or would; the id has been checked to be one."""
        return self.folder / execution_id / "stdout.log"

    def open(self, execution_id: str) -> LogFile:
        """Raises LogError."""
        return LogFile(self.path(execution_id))

    def reader(self, execution_id: str) -> IO[bytes] | None:
        """To be read from its beginning, also after it was rotated out; None where there is none (yet)."""
        try:
            return self.path(execution_id).open("rb", buffering=0)
        except OSError:
            return None

    async def finish(self, execution_id: str, model: str, why: str) -> dict[str, Any] | None:
        """The `result` line that its log has; where it has none, it gets one that says `why`, and this is None.

        A log that cannot be written, or that another process writes, stays as it is.
        """
        with contextlib.suppress(OSError, LogError):
            return await asyncio.to_thread(self._finish, execution_id, model, why)
        return None

    def rotate(self, settings: ExecutionSettings) -> None:
        """Removes the oldest logs beyond `keep`, and those not written for `keep_days`; never one that is written,
        by whatever process."""
        try:
            found = sorted(entry.name for entry in self.folder.iterdir() if is_uuid(entry.name))
        except OSError:
            return
        oldest = time.time() - settings.keep_days * 86_400
        for index, name in enumerate(found):
            with contextlib.suppress(OSError):
                surplus = index < len(found) - settings.keep
                if (surplus or _written_at(self.path(name)) < oldest) and not is_written(self.path(name)):
                    shutil.rmtree(self.folder / name)

    def _finish(self, execution_id: str, model: str, why: str) -> dict[str, Any] | None:
        path = self.path(execution_id)
        if path.exists() and (found := result_of(path)) is not None:
            return found
        lines, log = StreamJson(execution_id, model), self.open(execution_id)
        try:
            usage = {"input_tokens": 0, "output_tokens": 0}
            end = lines.result(why, exit_reason=why, is_error=True, duration_ms=0, usage=usage)
            log.write_last((lines.init(str(self.folder)) if log.empty else b"") + end)
        finally:
            log.close()
        return None


def _written_at(path: Path) -> float:
    return (path if path.exists() else path.parent).stat().st_mtime
