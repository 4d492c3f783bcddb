"""A real `pointsman` as a process: the service on a free port, or one command run to its end."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

ROOT = Path(__file__).parents[2]
POINTSMAN = (sys.executable, "-m", "service")
START_SECONDS = 30.0
SETTLE_SECONDS, SETTLE_TRIES = 0.05, 20
_ADDRESS = re.compile(r"Pointsman listens on (http://\S+)\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """What stands on stdout, as the one JSON document that it must be."""
        parsed: dict[str, Any] = json.loads(self.stdout)
        return parsed


def pointsman(
    *arguments: str,
    environ: Mapping[str, str],
    stdin: str | bytes = "",
    cwd: Path | None = None,
    seconds: float = 60.0,
) -> Ended:
    """Runs one command to its end; `environ` is all it sees besides where Python finds the package."""
    done = subprocess.run(
        [*POINTSMAN, *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=seconds,
        check=False,
        cwd=cwd or environ.get("HOME"),
        env=process_environ(environ),
    )
    return Ended(
        code=done.returncode, stdout=done.stdout.decode(errors="replace"), stderr=done.stderr.decode(errors="replace")
    )


def process_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ`, with the checkout on Python's path, and a database that nobody else has unless it names one."""
    return {"POINTSMAN_STORE__URL": "sqlite://", **environ, "PYTHONPATH": str(ROOT)}


class ServiceProcess:
    """`pointsman serve` on a free port of 127.0.0.1; its log goes to `log_file`. A context manager."""

    def __init__(
        self,
        environ: Mapping[str, str],
        log_file: Path,
        arguments: Sequence[str] = ("--port", "0"),
        program: Sequence[str] = POINTSMAN,
    ) -> None:
        self._environ = environ
        self._program = program
        self._arguments = arguments
        self._log_file = log_file
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.token = environ.get("POINTSMAN_SERVER__TOKEN", "")

    def __enter__(self) -> Self:
        """Starts it."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kills it, where it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process, once started."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Returns when it has printed its address and is ready; RuntimeError with its log where it is not."""
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, "serve", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=process_environ(self._environ),
                cwd=self._environ.get("HOME"),
            )
        assert self._process.stdout is not None
        watchdog = threading.Timer(START_SECONDS, self._process.kill)
        watchdog.start()
        try:
            found = _ADDRESS.match(self._process.stdout.readline())
            if found is None:
                raise RuntimeError(f"pointsman serve did not start: {self._log_file.read_text()[-2000:]}")
            self.url = found[1]
            # The socket listens already: a request waits until the application has started.
            httpx.get(f"{self.url}/readyz", timeout=START_SECONDS, trust_env=False).raise_for_status()
        finally:
            watchdog.cancel()

    def client(self, **options: Any) -> httpx.Client:  # noqa: ANN401 - httpx's own options
        """An HTTP client for it that sends its token, if it has one."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.Client(base_url=self.url, timeout=60.0, trust_env=False, headers=headers, **options)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Sends it a signal."""
        os.kill(self.process.pid, number)

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        """Ends it in good order; gives the exit code."""
        self.signal()
        return self.wait()

    @property
    def log_text(self) -> str:
        """All that it wrote to stderr so far; its log is written a few milliseconds after the event."""
        before = -1
        for _ in range(SETTLE_TRIES):
            size = self._log_file.stat().st_size
            if size == before:
                break
            before = size
            time.sleep(SETTLE_SECONDS)
        return self._log_file.read_text()

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """The lines of its log; each must be a JSON object."""
        return [json.loads(line) for line in self.log_text.splitlines()]
