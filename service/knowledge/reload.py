"""Changed while running: catalog, prompts, `[decision]`, `[verifier]`: read anew when a file changes or on SIGHUP."""

import asyncio
import contextlib
import hashlib
import signal
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec
import structlog

from service.base.background import Background
from service.base.clock import utc_now
from service.contract.errors import ConfigurationError
from service.contract.settings import Settings
from service.knowledge.knowledge import Knowledge, knowledge_files, read_knowledge
from service.logs.lines import log_defect

POLL_SECONDS = 2.0
"""How often the files are looked at: a ConfigMap takes up to a minute to reach a pod, two seconds more are nothing."""

RELOADABLE = ("decision", "verifier", "catalog", "prompts")
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
    """Watches settings, catalog and prompts; what was read and validated as a whole is handed to `adopt`."""

    def __init__(
        self,
        settings: Settings,
        adopt: Callable[[Knowledge], None],
        *,
        wake: Callable[[], None] = lambda: None,
        config_file: Path | None = None,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        """`wake` is called at each reload, refused or not: whoever asks for one wants what rests to be asked again.

        `reread` reads the settings anew, of which `config_file` is the file; without it they stay as they are.
        """
        self.status = ReloadStatus()
        self._settings = settings
        self._adopt = adopt
        self._wake = wake
        self._config_file = config_file
        self._reread = reread
        self._seen = self._digest()
        self._forced = False
        self._looking = asyncio.Lock()
        self._log = structlog.get_logger("pointsman.reload")
        self._background = Background(self.look, every_seconds=POLL_SECONDS, defect=partial(log_defect, self._log))

    def start(self) -> None:
        """Begins to watch, and to listen to SIGHUP where that is possible (in the main thread, on Unix)."""
        self._background.start()
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.nudge)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # `main` held back what came before

    async def aclose(self) -> None:
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        await self._background.aclose()

    def nudge(self) -> None:
        """Reads everything anew now, changed or not."""
        self._forced = True
        self._background.wake()

    async def look(self) -> None:
        """Looks once: reads and adopts what changed, or refuses it and keeps what is in use."""
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        digest = await asyncio.to_thread(self._digest)
        if digest == self._seen and not self._forced:
            return
        self._forced = False
        self._wake()
        try:
            settings, knowledge = await asyncio.to_thread(self._read)
        except ConfigurationError as error:
            self._seen = digest
            self._note(refused=self.status.refused + 1, problem=str(error))
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
        changed = {name: getattr(settings, name) for name in RELOADABLE}
        self._settings = msgspec.structs.replace(self._settings, **changed)
        self._adopt(knowledge)
        self._note(reloads=self.status.reloads + 1, problem=None, needs_restart=waiting)
        versions = knowledge.versions
        self._log.info("reloaded", catalog=versions.catalog, prompt=versions.prompt, needs_restart=waiting)

    def _note(self, **changes: object) -> None:
        self.status = msgspec.structs.replace(self.status, **changes, last_at=utc_now())

    def _read(self) -> tuple[Settings, Knowledge]:
        """The settings as their file says now, and the knowledge as its files do, for the endpoint that is in use."""
        settings = self._settings if self._reread is None else self._reread()
        return settings, read_knowledge(msgspec.structs.replace(settings, local_model=self._settings.local_model))

    def _digest(self) -> bytes:
        """Of what the files hold now, through whatever links; one that is not there counts as such."""
        sums = hashlib.blake2b(digest_size=16)
        own = [self._config_file] if self._config_file else []
        for path in [*own, *knowledge_files(self._settings)]:
            sums.update(f"\0{path}\0".encode(errors="surrogateescape"))
            try:
                sums.update(path.read_bytes())
            except OSError as error:
                sums.update(f"\0{error.errno}".encode())
        return sums.digest()
