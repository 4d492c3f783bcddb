"""A caller that goes away stops costing anything but what cannot be stopped safely."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.contract.catalog import Candidate
from service.decide.sharing import CallerLeftError, SharedCalls
from tests.support.builders import pipeline, task
from tests.support.fake_behaviours import hang, slow
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.faults import good
from tests.support.http_fixtures import OpenService
from tests.support.plain_http import PlainClient
from tests.support.scripted_classifier import ScriptedClassifier, chooses
from tests.support.service_process import ServiceProcess

PATIENCE_SECONDS = 5.0
"""Far below the deadline of these requests, which is a minute."""

BODY = json.dumps({"instructions": "Fix the login", "deadline_ms": 60_000}).encode()


async def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, "did not get there in time"
        await asyncio.sleep(0.01)


def _depth(service: ServiceProcess) -> int:
    with service.client() as client:
        depth: int = client.get("/v1/status").json()["queue_depth"]
    return depth


@pytest.fixture
def service(open_service: OpenService, fake_endpoint: FakeEndpoint, catalog_file: Path) -> ServiceProcess:
    """A service whose classifier is the fake endpoint."""
    return open_service(
        POINTSMAN_LOCAL_MODEL__ENDPOINT=fake_endpoint.url,
        POINTSMAN_LOCAL_MODEL__MODEL="fake-model",
        POINTSMAN_LOCAL_MODEL__TIMEOUT_SECONDS="60",
        POINTSMAN_CATALOG__PATH=str(catalog_file),
        POINTSMAN_CLI__PRESET="",
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/classify", BODY, id="one"),
        pytest.param(
            "/v1/classify/batch",
            json.dumps({"tasks": [json.loads(BODY), {"instructions": "Add a page", "deadline_ms": 60_000}]}).encode(),
            id="batch",
        ),
    ],
)
async def test_the_request_to_the_model_ends_with_its_caller(
    service: ServiceProcess, fake_endpoint: FakeEndpoint, path: str, body: bytes
) -> None:
    """Who hangs up leaves nothing waiting: would catch a handler that listens to its classifier only, for a minute."""
    fake_endpoint.always(hang())
    count = 2 if b"tasks" in body else 1
    async with PlainClient(service.url) as client:
        await client.send("POST", path, body)
        await _until(lambda: len(fake_endpoint.chats) == count)
        assert _depth(service) == count
    await _until(lambda: fake_endpoint.left_early == count)
    await _until(lambda: _depth(service) == 0)
    with service.client() as reader:
        metrics = reader.get("/metrics").text
        assert f'pointsman_http_requests_total{{method="POST",route="{path}",status="499"}} 1.0' in metrics
        assert "pointsman_decisions_total{" not in metrics
        assert reader.get("/v1/status").json()["classifiers"][0]["breaker"]["state"] == "closed"
    assert not [line for line in service.log_lines if line["event"] == "defect"]


async def test_a_shared_classification_goes_on_for_who_stays(
    service: ServiceProcess, fake_endpoint: FakeEndpoint
) -> None:
    """One of two who ask the same hangs up, the other gets the one answer: would catch one who ends it for all."""
    fake_endpoint.always(slow(good(), 0.8))
    async with PlainClient(service.url) as leaver, PlainClient(service.url) as stayer:
        await leaver.send("POST", "/v1/classify", BODY)
        await _until(lambda: len(fake_endpoint.chats) == 1)
        await stayer.send("POST", "/v1/classify", BODY)
        await _until(lambda: _depth(service) == 2)
        leaver.close()
        answer = await stayer.read(time.perf_counter())
    assert (answer.status, answer.json["source"], len(fake_endpoint.chats)) == (200, "local_model", 1)


async def test_the_program_ends_with_its_caller(open_service: OpenService, tmp_path: Path, catalog_file: Path) -> None:
    """The classifying program and its child are killed: would catch programs that run on for nobody, 20 s each."""
    pids = tmp_path / "pids"
    program = tmp_path / "program.sh"
    program.write_text(f"#!/bin/sh\nsleep 600 &\necho $$ $! > {pids}.new\nmv {pids}.new {pids}\nwait\n")
    program.chmod(0o700)
    service = open_service(POINTSMAN_CLI__COMMAND=json.dumps([str(program)]), POINTSMAN_CATALOG__PATH=str(catalog_file))
    async with PlainClient(service.url) as client:
        await client.send("POST", "/v1/classify", BODY)
        await _until(pids.exists)
    started = [int(pid) for pid in pids.read_text().split()]
    try:
        await _until(lambda: not any(_alive(pid) for pid in started))
    finally:
        for pid in started:
            if _alive(pid):
                os.kill(pid, signal.SIGKILL)
    assert _depth(service) == 0


async def test_a_program_under_way_ends_with_the_service(
    open_service: OpenService, tmp_path: Path, catalog_file: Path
) -> None:
    """SIGTERM in the middle of a classification leaves neither program nor daemon nor working directory, and its
    caller is answered: would catch programs that outlive the service, and an exit that waits for them."""
    pids, temp = tmp_path / "pids", tmp_path / "temp"
    temp.mkdir()
    program = tmp_path / "program.sh"
    program.write_text(
        f"#!/bin/sh\ntrap '' TERM\nsetsid sleep 600 &\necho $$ $! > {pids}.new\nmv {pids}.new {pids}\nwait\nsleep 600\n"
    )
    program.chmod(0o700)
    service = open_service(
        POINTSMAN_CLI__COMMAND=json.dumps([str(program)]),
        POINTSMAN_CLI__TIMEOUT_SECONDS="120",
        POINTSMAN_CATALOG__PATH=str(catalog_file),
        POINTSMAN_SERVER__SHUTDOWN_SECONDS="2",
        TMPDIR=str(temp),
    )
    async with PlainClient(service.url) as client:
        await client.send("POST", "/v1/classify", BODY)
        await _until(pids.exists)
        started = [int(pid) for pid in pids.read_text().split()]
        try:
            service.signal()
            answer = await client.read(time.perf_counter())
            assert await asyncio.to_thread(service.wait, 20.0) == 0
            assert not any(_alive(pid) for pid in started)
        finally:
            for pid in started:
                if _alive(pid):
                    os.kill(pid, signal.SIGKILL)
    assert (answer.status, answer.json["source"]) == (200, "forecast")
    assert list(temp.iterdir()) == []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


async def test_a_connection_that_waited_serves_again(service: ServiceProcess, fake_endpoint: FakeEndpoint) -> None:
    """Listening for the end takes nothing from the next request: would catch a listener that waits on for the end of a
    connection and swallows what the next request says."""
    fake_endpoint.always(slow(good(), 0.05))
    async with PlainClient(service.url) as client:
        for number in range(5):
            answer = await client.ask("POST", "/v1/classify", {"instructions": f"Fix page {number}"})
            assert (answer.status, answer.json["source"]) == (200, "local_model")


async def test_nothing_is_listened_for_where_nothing_is_waited_for() -> None:
    """Without a classifier, and with an answer kept from before, the caller is not watched: the fast path is free."""

    def never() -> Any:  # noqa: ANN401 - it has no value
        raise AssertionError("the caller was watched")

    assert (await pipeline().decide(task(), left=never)).source == "forecast"
    with_classifier = pipeline(ScriptedClassifier(chooses()))
    await with_classifier.decide(task())
    assert (await with_classifier.decide(task(), left=never)).cached


async def test_a_shared_call_tells_who_left_from_who_ran_out_of_time() -> None:
    """The one is CallerLeftError, the other None: would catch an answer that is made, logged and counted for nobody."""

    async def never() -> Candidate:
        await asyncio.Event().wait()
        raise AssertionError

    calls, left = SharedCalls[Candidate](), asyncio.get_running_loop().create_future()
    assert await calls.share("key", never, timeout_seconds=0.01, left=left) is None
    left.set_result(None)
    with pytest.raises(CallerLeftError):
        await calls.share("key", never, timeout_seconds=5.0, left=left)
    await asyncio.sleep(0)
    assert len(calls) == 0
