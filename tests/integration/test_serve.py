"""`pointsman serve` as a real process: start, signals, logs, and what arrives on a real socket."""

import json
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.fake_behaviours import hang, slow, status, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.faults import program_faults
from tests.support.http_fixtures import OpenService
from tests.support.service_process import ServiceProcess, pointsman

TASK = "Repair-the-flaky-login-test"
SECRETS = ("sesame-token", "sk-model-key")


def with_model(fake: FakeEndpoint) -> dict[str, str]:
    """The environment that points to a fake endpoint."""
    return {"POINTSMAN_LOCAL_MODEL__ENDPOINT": fake.url, "POINTSMAN_LOCAL_MODEL__MODEL": "m"}


def exchange(service: ServiceProcess, request: bytes, *, seconds: float = 20.0) -> bytes:
    """Sends raw bytes and reads until the service closes the connection, or nothing comes for a moment."""
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port or 80), timeout=seconds) as connection:
        received = b""
        try:
            connection.sendall(request)
            while chunk := connection.recv(65_536):
                received += chunk
                connection.settimeout(0.5)
        except OSError:
            pass
        return received


def test_it_serves_and_ends_in_good_order(open_service: OpenService) -> None:
    """It prints its address, answers, and ends with 0 on SIGTERM; stdout holds the address and nothing else."""
    service = open_service()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", service.url)
    with service.client() as client:
        assert client.post("/v1/classify", json={"instructions": TASK}).status_code == 200
    assert service.stop() == 0
    assert service.process.stdout is not None
    assert service.process.stdout.read() == ""


def test_ctrl_c_is_130(open_service: OpenService) -> None:
    """SIGINT ends it in good order too, with the exit code for that."""
    service = open_service()
    service.signal(signal.SIGINT)
    assert service.wait() == 130


def test_what_is_in_flight_is_answered(open_service: OpenService, fake_endpoint: FakeEndpoint) -> None:
    """A request under way when SIGTERM comes gets its answer; catches a shutdown that drops requests."""
    fake_endpoint.always(slow(verdict("claude", "claude-opus-4-8"), 1.0))
    service = open_service(**with_model(fake_endpoint))
    with service.client() as client, ThreadPoolExecutor() as pool:
        asked = pool.submit(client.post, "/v1/classify", json={"instructions": TASK})
        fake_endpoint.wait_for(lambda fake: len(fake.chats) == 1)
        service.signal()
        response = asked.result(20)
    assert (response.status_code, response.json()["source"]) == (200, "local_model")
    assert service.wait() == 0


def test_who_still_waits_at_the_end_is_answered(open_service: OpenService, fake_endpoint: FakeEndpoint) -> None:
    """A task whose deadline lies far behind the end of the service gets its 200 by the forecast: catches a 500 for all
    who wait for a classifier when the time for a shutdown is over."""
    fake_endpoint.always(hang())
    service = open_service(
        POINTSMAN_SERVER__SHUTDOWN_SECONDS="2", POINTSMAN_LOCAL_MODEL__TIMEOUT_SECONDS="60", **with_model(fake_endpoint)
    )
    task = {"instructions": TASK, "deadline_ms": 60_000}
    with ThreadPoolExecutor(2) as pool, service.client() as one, service.client() as batch:
        asked = [
            pool.submit(one.post, "/v1/classify", json=task),
            pool.submit(batch.post, "/v1/classify/batch", json={"tasks": [{**task, "name": "another"}]}),
        ]
        fake_endpoint.wait_for(lambda fake: len(fake.chats) == 2)
        assert service.stop() == 0
        single, several = (answer.result() for answer in asked)
    assert (single.status_code, several.status_code) == (200, 200)
    for decision in (single.json(), several.json()["results"][0]):
        assert (decision["source"], decision["degraded"]) == ("forecast", True)
    assert not [line for line in service.log_lines if line["level"] == "error"]


IGNORING_CHILDREN = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "service", *sys.argv[1:]])
"""


def test_an_ignored_sigchld_is_not_inherited(
    bare_environ: Mapping[str, str], tmp_path: Path, catalog_file: Path
) -> None:
    """Started by one who ignores the ends of its children, it still learns how a program ended: catches a classifier
    whose every good answer is an unknown exit status, and pids that go to strangers before they are waited for."""
    program = program_faults(tmp_path)["good"]
    environ = {
        **bare_environ,
        "POINTSMAN_CLI__COMMAND": json.dumps(program),
        "POINTSMAN_CATALOG__PATH": str(catalog_file),
    }
    started = (sys.executable, "-c", IGNORING_CHILDREN)
    with ServiceProcess(environ, tmp_path / "serve.log", program=started) as service, service.client() as client:
        decision = client.post("/v1/classify", json={"instructions": TASK}).json()
    assert (decision["source"], decision["failures"]) == ("cli", [])


def test_decisions_outlive_a_restart(open_service: OpenService, tmp_path: Path) -> None:
    """A decision made just before SIGTERM is in the log of the next process."""
    store = {"POINTSMAN_STORE__URL": f"sqlite:///{tmp_path / 'store.db'}"}
    first = open_service(**store)
    with first.client() as client:
        decision = client.post("/v1/classify", json={"instructions": TASK}).json()
    assert first.stop() == 0
    with open_service(**store).client() as client:
        assert client.get(f"/v1/decisions/{decision['decision_id']}").json()["decision"] == decision


def test_a_busy_port_is_misuse(open_service: OpenService, bare_environ: Mapping[str, str]) -> None:
    """A port that is taken is exit code 2, in one line that says so."""
    port = str(httpx.URL(open_service().url).port)
    ended = pointsman("serve", "--port", port, environ=bare_environ)
    assert (ended.code, ended.stdout) == (2, "")
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


BAD: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "host": (("--host", "no.such.host.invalid"), {}, "cannot listen on no.such.host.invalid"),
    "port": (("--port", "70000"), {}, "70000"),
    "key": ((), {"POINTSMAN_SERVER__PROT": "1"}, "`port`"),
    "value": ((), {"POINTSMAN_SERVER__PORT": "eighty"}, "POINTSMAN_SERVER__PORT"),
    "catalog": ((), {"POINTSMAN_CATALOG__PATH": "/no/such/catalog.toml"}, "/no/such/catalog.toml"),
    "prompts": ((), {"POINTSMAN_PROMPTS__PATH": "/no/such/folder"}, "/no/such/folder"),
    "store": ((), {"POINTSMAN_STORE__URL": "mysql://root:secret@db/x"}, "sqlite:///PATH"),
    "endpoint": (
        (),
        {"POINTSMAN_LOCAL_MODEL__ENDPOINT": "127.0.0.1:11434", "POINTSMAN_LOCAL_MODEL__MODEL": "m"},
        "endpoint",
    ),
    "model missing": ((), {"POINTSMAN_LOCAL_MODEL__ENDPOINT": "http://127.0.0.1:1/v1"}, "local_model.model"),
    "file missing": (("--config", "/no/such/file.toml"), {}, "/no/such/file.toml"),
}


@pytest.mark.parametrize(("arguments", "environ", "says"), BAD.values(), ids=BAD)
def test_a_bad_configuration_is_misuse(
    bare_environ: Mapping[str, str], arguments: tuple[str, ...], environ: dict[str, str], says: str
) -> None:
    """What cannot be served with is exit code 2, in words that name the place and no secret; nothing is printed."""
    ended = pointsman("serve", "--port", "0", *arguments, environ={**bare_environ, **environ})
    assert (ended.code, ended.stdout) == (2, "")
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr


def test_its_log_is_json_and_holds_no_text(open_service: OpenService, fake_endpoint: FakeEndpoint) -> None:
    """Each log line is a JSON object; a request's lines share its id; task text, labels and secrets are in none."""
    service = open_service(
        **with_model(fake_endpoint),
        POINTSMAN_SERVER__TOKEN=SECRETS[0],
        POINTSMAN_LOCAL_MODEL__API_KEY=SECRETS[1],
        POINTSMAN_SERVER__LOG_LEVEL="debug",
    )
    fake_endpoint.then(verdict("claude", "claude-opus-4-8", reason=TASK), status(500, f"{TASK} {SECRETS[1]}"))
    body = {"instructions": TASK, "name": TASK, "labels": {"repo": TASK}, "task_id": "the-task-id"}
    with service.client() as client:
        decisions = [
            client.post("/v1/classify", json={**body, "name": f"{TASK}{i}"}, headers={"X-Request-Id": f"request-{i}"})
            for i in range(2)
        ]
        client.post("/v1/classify", content=json.dumps(TASK))
        client.post("/v1/classify/batch", json={"tasks": [body, {TASK: TASK}]})
        client.get(f"/v1/decisions?task_id={TASK}")
        client.get(f"/{TASK}")
        client.get("/v1/status", headers={"Authorization": f"Bearer {TASK}"})
        client.get("/healthz", headers={"X-Request-Id": "a-probe"})
    assert service.stop() == 0
    lines = service.log_lines
    for number, decision in enumerate(decisions):
        mine = [line for line in lines if line.get("request_id") == f"request-{number}"]
        decided = next(line for line in mine if line["event"] == "decided")
        answered = next(line for line in mine if line["event"] == "answered")
        assert decided["decision_id"] == decision.json()["decision_id"]
        assert decided["task_id"] == "the-task-id"
        assert (answered["route"], answered["status"]) == ("/v1/classify", 200)
        assert {"timestamp", "level", "total_ms"} <= set(answered)
    assert not [line for line in lines if line.get("request_id") == "a-probe"]  # probes would drown the rest
    for secret in (TASK, *SECRETS):
        assert secret not in service.log_text


def head_of(path: str = "/healthz", *headers: str) -> bytes:
    """A GET request that asks for the connection to be closed."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]).encode()


def test_a_head_without_end_is_cut_off(open_service: OpenService) -> None:
    """A head of many megabytes is refused early; catches one that is piled up, which held every other request."""
    service = open_service()
    started = time.monotonic()
    answer = exchange(service, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 50_000_000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert time.monotonic() - started < 5
    many = exchange(service, b"GET /healthz HTTP/1.1\r\n" + b"X-A: a\r\n" * 500_000)
    assert many == b"" or many.startswith(b"HTTP/1.1 400 ")
    assert exchange(service, head_of("/healthz", "X-A: " + "a" * 30_000)).startswith(b"HTTP/1.1 200 ")


def test_a_kept_connection_counts_anew(open_service: OpenService) -> None:
    """The limit is for each head: a hundred requests of 2 KB each go over one connection, also all at once."""
    service = open_service()
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 2000 + b"\r\n\r\n"
    answer = exchange(service, request * 100 + head_of())
    assert answer.count(b"HTTP/1.1 200 OK") == 101


def test_a_body_may_be_longer_than_a_head(open_service: OpenService) -> None:
    """A body of a megabyte is no head, however it is cut into pieces; what follows it is a head again."""
    service = open_service()
    with service.client() as client:
        tasks = {"tasks": [{"instructions": "x" * 100_000}] * 10}
        assert client.post("/v1/classify/batch", json=tasks).status_code == 200
        body = json.dumps(tasks).encode()
        pieces = (body[start : start + 1000] for start in range(0, len(body), 1000))
        assert client.post("/v1/classify/batch", content=pieces).status_code == 200
        assert client.get("/healthz").status_code == 200


ODD: dict[str, tuple[bytes, bytes]] = {
    "no HTTP": (b"EHLO mail\r\n\r\n", b" 400 "),
    "TLS": (bytes.fromhex("160301020001000001fc0303") + b"\0" * 50, b" 400 "),
    "bad length": (b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b" 400 "),
    "length and chunks": (
        b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b" 400 ",
    ),
    "bad chunk": (
        b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
        b" 400 ",
    ),
    "raw bytes in the path": (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b" 40"),
    "escaped bytes in the path": (head_of("/%ff%fe%00"), b" 404 "),
    "climbing path": (head_of("/v1/../../etc/passwd"), b" 404 "),
    "whole URL": (head_of("http://evil.example/healthz"), b" 200 "),
    "HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", b" 200 "),
    "websocket": (
        head_of("/healthz").replace(b"Connection: close", b"Connection: Upgrade\r\nUpgrade: websocket"),
        b"HTTP/1.1 ",
    ),
}


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> ServiceProcess:
    """One process for tests that leave nothing behind."""
    home = tmp_path_factory.mktemp("home")
    service = ServiceProcess({"HOME": str(home), "PATH": "/usr/bin:/bin"}, home / "serve.log")
    service.start()
    return service


@pytest.fixture(scope="module", autouse=True)
def _ended(shared_service: ServiceProcess) -> object:
    yield
    shared_service.__exit__(None, None, None)


@pytest.mark.parametrize(("request_bytes", "expected"), ODD.values(), ids=ODD)
def test_odd_requests_do_no_harm(shared_service: ServiceProcess, request_bytes: bytes, expected: bytes) -> None:
    """What is no proper request is refused, never a 500, and the next one is answered."""
    answer = exchange(shared_service, request_bytes)
    assert expected in answer.partition(b"\r\n")[0] + b" "
    assert b" 500 " not in answer
    assert exchange(shared_service, head_of()).startswith(b"HTTP/1.1 200 ")


def test_a_caller_who_leaves_is_no_defect(open_service: OpenService) -> None:
    """A connection that is closed in the middle of a body is no 500 and no defect in the log."""
    service = open_service()
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(b'POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"instr')
        time.sleep(0.3)
    until = time.monotonic() + 10
    while "answered" not in service.log_text and time.monotonic() < until:
        time.sleep(0.02)
    assert service.stop() == 0
    [line] = [line for line in service.log_lines if line["event"] == "answered"]
    assert line["status"] == 400
    assert not [line for line in service.log_lines if line["level"] == "error"]


def test_many_callers_at_once(shared_service: ServiceProcess) -> None:
    """Fifty callers over real sockets all get their own decision."""
    ids: list[str] = []
    lock = threading.Lock()

    def ask(number: int) -> None:
        with shared_service.client() as client:
            for turn in range(4):
                response = client.post("/v1/classify", json={"instructions": f"Task {number} {turn}"})
                with lock:
                    ids.append(response.json()["decision_id"])

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(ask, range(50)))
    assert len(set(ids)) == 200
