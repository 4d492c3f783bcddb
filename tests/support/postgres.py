"""A real PostgreSQL server for tests: started on a free port in two seconds, gone when the tests are."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

UNAVAILABLE = "needs PostgreSQL's initdb and postgres (Debian: apt-get install postgresql)"
PASSWORD = "correct horse/battery@staple"
"""With what has to be written as %XX in a URL."""
QUOTED_PASSWORD = "correct%20horse%2Fbattery%40staple"

_KEEPER = """
directory=$1; shift
trap '' INT TERM
"$@" >>"$directory/server.log" 2>&1 &
server=$!
read -r word || orphaned=yes
kill -s QUIT "$server" 2>/dev/null
wait "$server"
if [ -n "$orphaned" ]; then rm -rf "$directory"; fi
"""
"""Holds the server, and stops it when told to on stdin, or when that closes because the tests were killed."""


def find_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`: beside those on PATH, or Debian's."""
    found = shutil.which("postgres")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


class PostgresServer:
    """A context manager; `stop` and `start` in between make an outage, with the same address and data."""

    def __init__(self) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise RuntimeError(UNAVAILABLE)
        self._binaries = binaries
        # PostgreSQL refuses to run as root; Debian's package makes this user.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="pointsman-postgres-"))
        self.port = _free_port()
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._create()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def stopped(self) -> bool:
        """Whether `stop` was the last thing said to it."""
        return self._keeper is None

    def url(self, database: str = "postgres", *, password: str = QUOTED_PASSWORD) -> str:
        """A URL as an operator would write it; `password` as it stands in a URL."""
        return f"postgresql://pointsman:{password}@{self.address}/{database}"

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
            "max_connections": "100",
            "shared_buffers": "32MB",
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        server = [str(self._binaries / "postgres"), "-D", str(self._folder / "data"), *arguments]
        self._keeper = subprocess.Popen(
            ["sh", "-c", _KEEPER, "sh", str(self._folder), *server],
            stdin=subprocess.PIPE,
            user=self._user,
            cwd=self._folder,
            start_new_session=True,  # Ctrl-C is for pytest, which then stops the server
        )
        self._wait_until_ready()

    def stop(self) -> None:
        """At once, as a crash would: connections break, nothing is said to clients (`pg_ctl stop -m immediate`)."""
        if self._keeper is None or self._keeper.stdin is None:
            return
        self._keeper.communicate(b"stop\n", timeout=30)
        self._keeper = None

    def pause(self, *, on: bool) -> None:
        """Freezes every process of the server, or lets them go on: connections stay, and nobody answers."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP if on else signal.SIGCONT)

    def run_sql(self, *statements: str, database: str = "postgres") -> str:
        """Runs statements as the superuser, each for itself; gives what psql prints, bare."""
        commands = [part for statement in statements for part in ("-c", statement)]
        return self._run(
            "psql", "-h", str(self._folder), "-p", str(self.port), "-U", "pointsman", "-d", database, "-qAtX",
            "-v", "ON_ERROR_STOP=1", *commands,
        )  # fmt: skip

    def create_database(self) -> str:
        """A fresh, empty database; gives its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.run_sql(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def drop_database(self, name: str) -> None:
        """Removes it, whoever is connected."""
        self.run_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _create(self) -> None:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "-D", str(self._folder / "data"), "-U", "pointsman", "--pwfile", str(password), "-E", "UTF8",
            "--locale=C.UTF-8", "--auth-host=scram-sha-256", "--auth-local=trust",
        )  # fmt: skip

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                self.run_sql("SELECT 1")
            except subprocess.CalledProcessError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError((self._folder / "server.log").read_text()[-2000:])

    def _processes(self) -> Sequence[int]:
        postmaster = int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            user=self._user,
            cwd=self._folder,
            timeout=60,
        )
        return done.stdout.strip()

    def _remove(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
