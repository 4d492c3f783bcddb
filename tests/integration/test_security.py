"""What a stranger, a log line, or a look at the process table is told: no secret, and nothing that acts."""

import base64
import inspect
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.api.edge import Edge
from tests.support.fake_behaviours import status
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenService
from tests.support.plain_http import PlainClient
from tests.support.service_process import ServiceProcess, pointsman

TOKEN = "token-0123456789abcdef"
KEY = "sk-0123456789abcdef"
PASSWORD = "pw-0123456789abcdef"
GOOGLE = "gk-0123456789abcdef"
BASIC = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
SECRETS = (TOKEN, KEY, PASSWORD, BASIC)


def test_the_token_is_compared_in_constant_time() -> None:
    """The edge compares by `hmac.compare_digest` and by nothing else: would catch `==`, whose time tells how much of a
    guess is right."""
    assert "compare_digest" in Edge._known.__code__.co_names
    compared = [line for line in inspect.getsource(Edge._known).splitlines() if "_token" in line]
    assert [line.strip().startswith("return hmac.compare_digest(") for line in compared] == [True]


async def test_no_secret_shows_anywhere(
    open_service: OpenService, fake_endpoint: FakeEndpoint, catalog_file: Path, tmp_path: Path
) -> None:
    """Not in an answer, an error, a log line, a metric, the arguments of any process, nor a child's environment.

    Would catch: a key in argv, the whole environment handed to the program, an error body that echoes the request's
    headers, a settings dump in the log.
    """
    seen = tmp_path / "seen"
    program = tmp_path / "program.sh"
    program.write_text(
        f"#!/bin/sh\ncat >/dev/null\ntr '\\0' '\\n' </proc/$$/environ >{seen}\n"
        f"cat /proc/[0-9]*/cmdline >{seen}.arguments 2>/dev/null\n"
        'echo "I was given $GEMINI_API_KEY" >&2\nexit 1\n'
    )
    program.chmod(0o700)
    service = open_service(
        POINTSMAN_SERVER__TOKEN=TOKEN,
        POINTSMAN_SERVER__LOG_LEVEL="debug",
        POINTSMAN_LOCAL_MODEL__ENDPOINT=fake_endpoint.url.replace("http://", f"http://user:{PASSWORD}@"),
        POINTSMAN_LOCAL_MODEL__MODEL="fake-model",
        POINTSMAN_LOCAL_MODEL__API_KEY=KEY,
        POINTSMAN_CLI__COMMAND=json.dumps([str(program)]),
        POINTSMAN_CLI__ENVIRONMENT='["GEMINI_API_KEY"]',
        POINTSMAN_CATALOG__PATH=str(catalog_file),
        GEMINI_API_KEY=GOOGLE,
        SOMETHING_ELSE="not-for-programs",
    )
    fake_endpoint.choose(lambda request: status(401, json.dumps(request.headers)))
    texts: list[str] = []
    with service.client() as client:
        bodies = ({"instructions": "Fix it", "explain": True}, {"instructions": "Fix it", "strict": True}, {"x": 1})
        paths = ("/v1/status", "/v1/catalog", "/metrics", "/schema/openapi.json", "/v1/nothing", "/v1/decisions")
        texts += [client.post("/v1/classify", json=body).text for body in bodies]
        texts += [client.get(path).text for path in paths]
        client.headers["Authorization"] = f"Bearer {TOKEN}x"
        texts.append(client.get("/v1/status").text)
    arguments = Path(f"/proc/{service.process.pid}/cmdline").read_text()  # noqa: ASYNC240 - /proc does not wait
    child, of_all = seen.read_text(), Path(f"{seen}.arguments").read_text(errors="replace")  # noqa: ASYNC240 - the same
    assert str(program) in of_all
    for place in (*texts, service.log_text, arguments, of_all, child):
        for secret in SECRETS:
            assert secret not in place
    for place in (*texts, service.log_text, arguments, of_all):
        assert GOOGLE not in place
    assert f"GEMINI_API_KEY={GOOGLE}" in child, "what the operator names is what the program sees"
    assert "SOMETHING_ELSE" not in child
    assert "POINTSMAN_" not in child


@pytest.mark.parametrize("command", [("check",), ("check", "--json"), ("catalog",), ("classify", "Fix it", "--json")])
def test_no_command_prints_a_secret(
    bare_environ: Mapping[str, str], fake_endpoint: FakeEndpoint, command: tuple[str, ...]
) -> None:
    """Neither stdout nor stderr of a command holds one: would catch a `check` that shows the settings it has read."""
    fake_endpoint.choose(lambda request: status(500, json.dumps(request.headers)))
    ended = pointsman(
        *command,
        environ={
            **bare_environ,
            "POINTSMAN_SERVER__TOKEN": TOKEN,
            "POINTSMAN_LOCAL_MODEL__API_KEY": KEY,
            "POINTSMAN_LOCAL_MODEL__ENDPOINT": fake_endpoint.url.replace("http://", f"http://user:{PASSWORD}@"),
            "POINTSMAN_LOCAL_MODEL__MODEL": "fake-model",
            "POINTSMAN_CLI__PRESET": "",
        },
    )
    assert ended.code in {0, 1}, ended.stderr
    for secret in SECRETS:
        assert secret not in ended.stdout + ended.stderr


async def test_a_log_line_acts_on_no_terminal(service_plain: ServiceProcess) -> None:
    """A task id with control characters stays one and the same, and is written so that a terminal does not obey it:
    would catch C1 controls and marks that turn text around, which JSON leaves as they are."""
    task_id = "\x9b2J\x7f\u202eid\u2028\x1b[31m"
    async with PlainClient(service_plain.url) as client:
        answer = await client.ask("POST", "/v1/classify", {"instructions": "Fix it", "task_id": task_id})
    assert answer.status == 200
    assert [line["task_id"] for line in service_plain.log_lines if line["event"] == "decided"] == [task_id]
    assert {c for c in service_plain.log_text if not c.isprintable()} <= {"\n"}


@pytest.fixture
def service_plain(open_service: OpenService) -> ServiceProcess:
    """A service without a classifier that logs each decision."""
    return open_service(POINTSMAN_CLI__PRESET="")
