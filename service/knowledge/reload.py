"""Changed while running: catalog, prompts and `[decision]` are read anew when their files change, or on SIGHUP."""

import asyncio
import contextlib
import hashlib
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from service.contract.errors import ConfigurationError
from service.contract.settings import Settings
from service.decide.pipeline import Knowledge
from service.logs.lines import log_defect

POLL_SECONDS = 2.0
"""How often the files are looked at: a ConfigMap takes up to a minute to reach a pod, two seconds more are nothing."""

RELOADABLE = ("decision", "catalog", "prompts")
"""Sections that take effect without a restart; the others are about sockets, processes and connections."""


class ReloadStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the last change: `problem` says why it was refused, and then the last good one is in use.

    `needs_restart` names sections that differ in the file from what runs.
    """

    reloads: int = 0
    refused: int = 0
    problem: str | None = None
    needs_restart: list[str] = []
    last_at: datetime | None = None


class Reloader:
    """Watches `files(settings)`; hands what was read and validated as a whole to `adopt`."""

    def __init__(
        self,
        settings: Settings,
        *,
        read_settings: Callable[[], Settings],
        read_knowledge: Callable[[Settings], Knowledge],
        files: Callable[[Settings], list[Path]],
        adopt: Callable[[Knowledge], None],
        poll_seconds: float = POLL_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.status = ReloadStatus()
        self._settings = settings
        self._read_settings = read_settings
        self._read_knowledge = read_knowledge
        self._files = files
        self._adopt = adopt
        self._poll_seconds = poll_seconds
        self._now = now
        self._seen = self._digest()
        self._wake = asyncio.Event()
        self._forced = False
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("pointsman.reload")

    def start(self) -> None:
        """Begins to watch, and to listen to SIGHUP where that is possible (in the main thread, on Unix)."""
        self._task = asyncio.create_task(self._watch())
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.nudge)

    async def aclose(self) -> None:
        """Stops watching."""
        if self._task is None:
            return
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        self._task.cancel()
        await asyncio.wait({self._task})

    def nudge(self) -> None:
        """Reads everything anew now, changed or not."""
        self._forced = True
        self._wake.set()

    async def look(self) -> None:
        """Looks once: reads and adopts what changed, or refuses it and keeps what is in use."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        digest = await asyncio.to_thread(self._digest)
        if digest == self._seen and not self._forced:
            return
        self._forced = False
        try:
            settings, knowledge = await asyncio.to_thread(self._read)
        except ConfigurationError as error:
            self._seen = digest
            self.status = msgspec.structs.replace(
                self.status, refused=self.status.refused + 1, problem=str(error), last_at=self._now()
            )
            self._log.error("reload refused, the last good one stays", problem=str(error))
            return
        if await asyncio.to_thread(self._digest) != digest:
            self.nudge()  # it changed while it was being read, perhaps half of it before and half after
            return
        self._seen = digest
        waiting = [
            name
            for name in Settings.__struct_fields__
            if name not in RELOADABLE and getattr(settings, name) != getattr(self._settings, name)
        ]
        self._settings = msgspec.structs.replace(
            self._settings, **{name: getattr(settings, name) for name in RELOADABLE}
        )
        self._adopt(knowledge)
        self.status = msgspec.structs.replace(
            self.status,
            reloads=self.status.reloads + 1,
            problem=None,
            needs_restart=waiting,
            last_at=self._now(),
        )
        versions = knowledge.versions
        self._log.info("reloaded", catalog=versions.catalog, prompt=versions.prompt, needs_restart=waiting)

    def _read(self) -> tuple[Settings, Knowledge]:
        settings = self._read_settings()
        return settings, self._read_knowledge(settings)

    def _digest(self) -> bytes:
        """Of what stands in the files now, through whatever links; a file that is not there counts as such."""
        sums = hashlib.blake2b(digest_size=16)
        for path in self._files(self._settings):
            sums.update(f"\0{path}\0".encode(errors="surrogateescape"))
            try:
                sums.update(path.read_bytes())
            except OSError as error:
                sums.update(f"\0{error.errno}".encode())
        return sums.digest()

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - a defect here must not end the watching, and is logged
                log_defect(self._log, error)
