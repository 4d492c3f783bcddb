"""Executions when the process dies or the disk is full: real processes, a real file system."""

import os
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from service.executions.log_file import LogError, LogFile
from tests.support.fake_behaviours import deltas, events, hang, over_and_over, sse, streamed
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenService
from tests.support.service_process import ServiceProcess
from tests.support.store_fixtures import until
from tests.support.stream_reader import Transcript, read_transcript

PATH = "/v1/executions"
ENDED = {"succeeded", "failed", "cancelled", "interrupted"}


def service_with(fake: FakeEndpoint, open_service: OpenService, store: Path, logs: Path) -> ServiceProcess:
    """A service with a database and a log directory that outlast it."""
    return open_service(
        POINTSMAN_LOCAL_MODEL__ENDPOINT=fake.url,
        POINTSMAN_LOCAL_MODEL__MODEL="fake-model",
        POINTSMAN_STORE__URL=f"sqlite:///{store}",
        POINTSMAN_EXECUTIONS__LOG_DIR=str(logs),
        POINTSMAN_EXECUTIONS__MAX_CONCURRENCY="1",
    )


def begin(service: ServiceProcess) -> str:
    """The id of a new execution."""
    with service.client() as client:
        execution_id: str = client.post(PATH, json={"instructions": "x"}).raise_for_status().json()["execution_id"]
    return execution_id


async def ended(service: ServiceProcess, execution_id: str) -> tuple[str, str, str]:
    """State, exit reason and text, once it has ended."""
    with service.client() as client:
        await until(lambda: client.get(f"{PATH}/{execution_id}").json()["state"] in ENDED)
        document = client.get(f"{PATH}/{execution_id}").json()
    return document["state"], document["exit_reason"], document.get("text", "")


def log_of(service: ServiceProcess, execution_id: str) -> Transcript:
    """Its log as a reader of the format sees it."""
    with service.client() as client:
        answer = client.get(f"{PATH}/{execution_id}/stdout.log")
    assert answer.status_code == 200, answer.text
    return read_transcript(answer.content.splitlines())


async def test_killed_in_the_middle(fake_endpoint: FakeEndpoint, open_service: OpenService, tmp_path: Path) -> None:
    """kill -9 while one runs and one waits: the next start says interrupted of both, in store and log, at once."""
    fake_endpoint.always(sse(events(*deltas("Hel", "lo"), done=False), end=over_and_over(b": beat\n\n", pause=0.05)))
    before = service_with(fake_endpoint, open_service, tmp_path / "p.db", tmp_path / "logs")
    running, queued = begin(before), begin(before)
    log = tmp_path / "logs" / running / "stdout.log"
    await until(lambda: log.exists() and b'"lo"' in log.read_bytes())
    before.signal(signal.SIGKILL)
    before.wait()
    assert b'"type":"result"' not in log.read_bytes()
    after = service_with(fake_endpoint, open_service, tmp_path / "p.db", tmp_path / "logs")
    with after.client() as client:
        states = [client.get(f"{PATH}/{one}").json() for one in (running, queued)]
    assert [(one["state"], one["exit_reason"]) for one in states] == [("interrupted", "process-died")] * 2
    assert states[0]["text"] == "Hello"
    for one in (running, queued):
        assert log_of(after, one).result["is_error"] is True
    assert log_of(after, running).streamed == ["Hel", "lo"]
    fake_endpoint.always(streamed("Well"))
    assert await ended(after, begin(after)) == ("succeeded", "completed", "Well")


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A file system of 512 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount; test_a_log_that_cannot_grow_fails_the_run_alone needs no root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk(
    fake_endpoint: FakeEndpoint, open_service: OpenService, small_disk: Path, tmp_path: Path
) -> None:
    """The run fails as `log-not-writable`, ends on the server, and its log has whole lines and a result all the same;
    decisions go on, and so do executions once there is room."""
    fake_endpoint.then(sse(events(*deltas(*["x" * 1000] * 800), done=False), end=hang()))
    service = service_with(fake_endpoint, open_service, tmp_path / "p.db", small_disk)
    one = begin(service)
    state, reason, _ = await ended(service, one)
    assert (state, reason) == ("failed", "log-not-writable")
    fake_endpoint.wait_for(lambda fake: fake.left_early == 1)
    seen = log_of(service, one)
    assert len(seen.streamed) > 100
    assert (seen.result["exit_reason"], seen.result["is_error"]) == ("log-not-writable", True)
    assert "No space left on device" in seen.result["result"]
    with service.client() as client:
        assert client.post("/v1/classify", json={"instructions": "x"}).status_code == 200
        assert client.get("/v1/status").json()["executions"] == {"running": 0, "queued": 0}
    assert (await ended(service, begin(service)))[:2] == ("failed", "log-not-writable")
    (small_disk / one / "stdout.log").unlink()
    fake_endpoint.always(streamed("Well"))
    assert await ended(service, begin(service)) == ("succeeded", "completed", "Well")


def test_a_full_disk_has_room_for_the_last_line(small_disk: Path) -> None:
    """When not one more byte can be had, the last line still fits: fails if no room is kept for it."""
    log = LogFile(small_disk / "one" / "stdout.log")

    def fill() -> None:
        while True:
            log.write(b"x" * 4095 + b"\n")

    with pytest.raises(LogError, match="No space left"):
        fill()
    with pytest.raises(LogError):
        log.write(b"y\n")
    log.write_last(b"z" * 2000 + b"\n")
    log.close()
    assert (small_disk / "one" / "stdout.log").read_bytes().endswith(b"x\n" + b"z" * 2000 + b"\n")


async def test_a_log_directory_that_cannot_be(
    fake_endpoint: FakeEndpoint, open_service: OpenService, tmp_path: Path
) -> None:
    """Below a regular file: each execution fails with the reason, the service starts and decides."""
    fake_endpoint.always(streamed("Well"))
    (tmp_path / "file").write_text("")
    service = service_with(fake_endpoint, open_service, tmp_path / "p.db", tmp_path / "file" / "logs")
    one = begin(service)
    assert await ended(service, one) == ("failed", "log-not-writable", "")
    with service.client() as client:
        assert client.post("/v1/classify", json={"instructions": "x"}).status_code == 200
        assert client.get(f"{PATH}/{one}/stdout.log").status_code == 404
    assert any("Not a directory" in line.get("why", "") for line in service.log_lines)
