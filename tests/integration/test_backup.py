"""The backup components' own programs: run while a real service writes, and restored into another."""

import os
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.base.ids import uuid7
from tests.support.kustomize import K8S, build, container, workloads
from tests.support.postgres import PostgresServer, find_binaries
from tests.support.service_process import ServiceProcess

SCRIPT = K8S / "components/backup-sqlite/backup.py"
OUTCOME = {"agent_type": "codex", "model": "gpt-5-mini", "solved": True, "cost_usd": 0.03}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The claim that holds the backups."""
    made = tmp_path / "backup"
    made.mkdir()
    return made


def test_a_sqlite_backup_made_while_the_service_writes_holds_all_that_was_acknowledged_before(
    bare_environ: Mapping[str, str], tmp_path: Path, folder: Path
) -> None:
    """Outcomes come all the while. After the database is lost, the restored one has every outcome whose answer came
    before the backup began, and the service goes on with it.
    """
    database = tmp_path / "pointsman.db"
    environ = {**bare_environ, "POINTSMAN_STORE__URL": f"sqlite:///{database}"}
    with _reporting(environ, tmp_path) as acknowledged:
        _wait(acknowledged, 30)
        before = set(acknowledged)
        said = _sqlite("pointsman-backup", database, folder)
        _wait(acknowledged, len(acknowledged) + 10)
    (made,) = folder.iterdir()
    assert made.name in said
    for path in tmp_path.glob("pointsman.db*"):
        path.unlink()
    assert made.name in _sqlite("pointsman-restore", database, folder)
    with ServiceProcess(environ, tmp_path / "after.log") as service, service.client() as client:
        assert before <= _withdrawable(client, acknowledged)
        assert client.post("/v1/outcomes", json=OUTCOME).status_code == 201


def test_seven_backups_are_kept_and_nothing_half_written(
    bare_environ: Mapping[str, str], tmp_path: Path, folder: Path
) -> None:
    """The oldest go, and so does what a killed job left; the one that BACKUP names is the one restored."""
    database = tmp_path / "pointsman.db"
    with ServiceProcess({**bare_environ, "POINTSMAN_STORE__URL": f"sqlite:///{database}"}, tmp_path / "log") as service:
        with service.client() as client:
            assert client.post("/v1/outcomes", json=OUTCOME).status_code == 201
        (folder / "pointsman-20260101T000000000Z.part").write_bytes(b"half")
        for _ in range(8):
            _sqlite("pointsman-backup", database, folder)
        assert service.stop() == 0
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 7
    assert all(name.endswith("Z.db") for name in names)
    assert names[2] in _sqlite("pointsman-restore", database, folder, BACKUP=names[2])
    assert (tmp_path / "pointsman.db.before-restore").exists()


@pytest.mark.parametrize("what", ["pointsman-backup", "pointsman-restore"])
def test_a_backup_of_nothing_and_a_restore_from_nothing_say_so(tmp_path: Path, folder: Path, what: str) -> None:
    """A message that names the place, and no empty file."""
    with pytest.raises(subprocess.CalledProcessError) as raised:
        _sqlite(what, tmp_path / "pointsman.db", folder)
    assert str(tmp_path) in raised.value.stderr
    assert not list(folder.iterdir())
    assert not (tmp_path / "pointsman.db").exists()


def test_a_damaged_backup_is_not_restored(tmp_path: Path, folder: Path) -> None:
    """What stands there stays."""
    database = tmp_path / "pointsman.db"
    database.write_bytes(b"")
    (folder / "pointsman-20260101T000000000Z.db").write_bytes(b"SQLite format 3\0" + b"\7" * 8192)
    with pytest.raises(subprocess.CalledProcessError):
        _sqlite("pointsman-restore", database, folder)
    assert database.read_bytes() == b""


@pytest.mark.skipif(find_binaries() is None, reason="needs PostgreSQL's programs (Debian: apt-get install postgresql)")
def test_a_dump_made_while_the_service_writes_is_restored_into_an_empty_database_and_over_a_full_one(
    bare_environ: Mapping[str, str],
    tmp_path: Path,
    folder: Path,
    postgres_server: PostgresServer,
    postgres_database: str,
) -> None:
    """Every outcome whose answer came before the dump began is in it; a restore over what is there replaces it."""
    environ = {**bare_environ, "POINTSMAN_STORE__URL": postgres_database}
    with _reporting(environ, tmp_path) as acknowledged:
        _wait(acknowledged, 30)
        before = set(acknowledged)
        assert "saved" in _postgresql("pointsman-backup", postgres_database, folder)
    other = postgres_server.create_database()
    try:
        for _ in range(2):
            assert "restored" in _postgresql("pointsman-restore", postgres_server.url(other), folder)
        found = postgres_server.run_sql("SELECT outcome_id FROM outcomes", database=other).split()
        assert before <= set(found)
        again = {**bare_environ, "POINTSMAN_STORE__URL": postgres_server.url(other)}
        with ServiceProcess(again, tmp_path / "after.log") as service, service.client() as client:
            assert client.post("/v1/outcomes", json=OUTCOME).status_code == 201
    finally:
        postgres_server.drop_database(other)


@contextmanager
def _reporting(environ: Mapping[str, str], folder: Path) -> Generator[list[str]]:
    """A service that is told outcomes for the length of the block; gives the ids that it acknowledged."""
    acknowledged: list[str] = []
    stop = threading.Event()

    def report(service: ServiceProcess) -> None:
        with service.client() as client:
            while not stop.is_set():
                answer = client.post("/v1/outcomes", json={**OUTCOME, "decision_id": uuid7()})
                assert answer.status_code == 201
                acknowledged.append(answer.json()["outcome_id"])

    with ServiceProcess(environ, folder / "service.log") as service:
        reporters = [threading.Thread(target=report, args=(service,)) for _ in range(3)]
        for reporter in reporters:
            reporter.start()
        try:
            yield acknowledged
        finally:
            stop.set()
            for reporter in reporters:
                reporter.join(30)
        assert service.stop() == 0


def _wait(acknowledged: list[str], number: int) -> None:
    for _ in range(600):
        if len(acknowledged) >= number:
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"only {len(acknowledged)} outcomes within 30 s")


def _withdrawable(client: httpx.Client, outcome_ids: list[str]) -> set[str]:
    """Those that are on record, found by withdrawing them."""
    return {each for each in outcome_ids if client.delete(f"/v1/outcomes/{each}").status_code < 300}


def _container(component: str, job: str) -> Mapping[str, Any]:
    return container(dict(workloads(build(f"components/{component}")))[f"CronJob/{job}"])


def _sqlite(job: str, database: Path, folder: Path, **environ: str) -> str:
    """What the job prints; its paths are put elsewhere, and Python is this one."""
    places = {
        "/scripts/backup.py": str(SCRIPT),
        "/var/lib/pointsman/pointsman.db": str(database),
        "/backup": str(folder),
    }
    arguments: list[str] = [places.get(str(word), str(word)) for word in _container("backup-sqlite", job)["args"]]
    return _run([sys.executable, *arguments], environ)


def _postgresql(job: str, url: str, folder: Path) -> str:
    job_container = _container("backup-postgresql", job)
    command = [*job_container["command"], *job_container["args"]]
    binaries = find_binaries()
    path = f"{binaries}:{os.environ['PATH']}"
    return _run(command, {"PATH": path, "DATABASE_URL": url, "FOLDER": str(folder), "BACKUP": ""})


def _run(command: list[str], environ: Mapping[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=dict(environ))
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout
