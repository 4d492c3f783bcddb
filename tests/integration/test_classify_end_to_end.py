"""From a POST, or from a shell, to a decision: real processes, real sockets, terminals and pipes."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.fake_behaviours import hang, prose, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenService
from tests.support.service_process import POINTSMAN, pointsman, process_environ

TASK = "Repair the flaky login test"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
HEAVY = ("litestar", "uvicorn", "aiosqlite", "asyncpg")
CORE = ("sqlalchemy", "numpy", "service.core")


def with_model(fake: FakeEndpoint, **more: str) -> dict[str, str]:
    """The environment that points to a fake endpoint."""
    return {"POINTSMAN_LOCAL_MODEL__ENDPOINT": fake.url, "POINTSMAN_LOCAL_MODEL__MODEL": "m", **more}


def test_with_no_configuration_the_forecast_decides(bare_environ: Mapping[str, str]) -> None:
    """`pointsman classify` on a bare machine decides, with nothing on stderr, and remembers it in the user's home."""
    for _ in range(2):
        ended = pointsman("classify", TASK, "--json", environ={**bare_environ, "POINTSMAN_STORE__URL": ""})
        assert (ended.code, ended.stderr) == (0, "")
        assert ended.document["source"] == "forecast"
        assert ended.document["worthwhile"] is True
    assert list(Path(bare_environ["HOME"]).rglob("pointsman.db"))


def test_a_server_and_a_process_decide_alike(open_service: OpenService, bare_environ: Mapping[str, str]) -> None:
    """`--server` and deciding in-process give the same choice and the same plan."""
    service = open_service(POINTSMAN_SERVER__TOKEN="sesame")
    here = pointsman("classify", TASK, "--json", environ=bare_environ).document
    environ = {**bare_environ, "POINTSMAN_SERVER__TOKEN": "sesame"}
    there = pointsman("classify", TASK, "--json", "--server", service.url, environ=environ).document
    for key in ("agent_type", "model", "plan", "reason", "versions"):
        assert there[key] == here[key]
    refused = pointsman("classify", TASK, "--json", "--server", service.url, environ=bare_environ)
    assert (refused.code, refused.document["type"]) == (1, "urn:pointsman:unauthorized")


IMPORTS = """
import json, sys
from service.cli import main
try:
    main()
except SystemExit:
    pass
sys.stderr.write(json.dumps(sorted(sys.modules)))
"""


def imported(environ: Mapping[str, str], *arguments: str) -> list[str]:
    """The modules that a command has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *arguments],
        env=process_environ(environ),
        cwd=environ["HOME"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules: list[str] = json.loads(done.stderr.splitlines()[-1])
    return modules


def test_a_decision_needs_no_web_framework(bare_environ: Mapping[str, str]) -> None:
    """`pointsman classify` does not wait for the parts that only the server needs."""
    modules = imported({**bare_environ, "POINTSMAN_STORE__URL": "sqlite://"}, "classify", TASK, "--json")
    assert "service.decide.pipeline" in modules
    assert not [name for name in modules if name.partition(".")[0] in {"litestar", "uvicorn"}]
    assert "service.commands.show" not in modules


def test_asking_a_server_needs_no_core(open_service: OpenService, bare_environ: Mapping[str, str]) -> None:
    """With `--server` neither the database nor the forecast is imported."""
    modules = imported(bare_environ, "classify", TASK, "--json", "--server", open_service().url)
    assert not [name for name in modules if name in {*HEAVY, *CORE}]


def test_ctrl_c_is_130(bare_environ: Mapping[str, str], fake_endpoint: FakeEndpoint) -> None:
    """SIGINT while a model is silent ends the command at once, with 130 and no traceback."""
    fake_endpoint.always(hang())
    process = subprocess.Popen(
        [*POINTSMAN, "classify", TASK],
        env=process_environ({**bare_environ, **with_model(fake_endpoint)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=bare_environ["HOME"],
    )
    fake_endpoint.wait_for(lambda fake: len(fake.chats) == 1, seconds=30)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (130, "")
    assert stderr.strip() == "interrupted"


def on_terminal(environ: Mapping[str, str], *arguments: str) -> str:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*POINTSMAN, *arguments],
        env=process_environ({**environ, "TERM": "xterm-256color"}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=environ["HOME"],
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65_536):
            shown += chunk
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    process.wait(30)
    return shown.decode()


@pytest.mark.parametrize("arguments", [("classify", TASK), ("check",), ("catalog",)], ids=lambda value: value[0])
def test_colour_is_only_for_a_terminal(bare_environ: Mapping[str, str], arguments: tuple[str, ...]) -> None:
    """A terminal gets colour, unless NO_COLOR is set; a pipe never does."""
    environ = {**bare_environ, "POINTSMAN_CLI__PRESET": ""}
    assert ANSI.search(on_terminal(environ, *arguments))
    assert "\x1b" not in on_terminal({**environ, "NO_COLOR": "1"}, *arguments)
    assert "\x1b" not in pointsman(*arguments, environ={**environ, "TERM": "xterm-256color"}).stdout


def test_no_hostile_text_reaches_a_terminal(bare_environ: Mapping[str, str], fake_endpoint: FakeEndpoint) -> None:
    """What a model writes into its reason cannot move the cursor, set a title or change colours of the terminal."""
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31mred \u202etxet [red]markup"
    fake_endpoint.always(verdict("claude", "claude-opus-4-8", reason=hostile))
    environ = {**bare_environ, **with_model(fake_endpoint)}
    shown = ANSI.sub("", on_terminal(environ, "classify", TASK, "--explain"))
    assert "[red]markup" in shown
    for char in ("\x1b", "\x07", "\x9b", "\u202e"):
        assert char not in shown


@pytest.mark.parametrize("arguments", [("--json",), ()], ids=["json", "table"])
def test_a_reader_who_leaves_is_no_defect(bare_environ: Mapping[str, str], arguments: tuple[str, ...]) -> None:
    """A pipe that is closed at its other end, as by `| head`, brings no traceback."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [*POINTSMAN, "classify", TASK, *arguments],
        env=process_environ(bare_environ),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=bare_environ["HOME"],
    )
    os.close(writing)
    os.close(reading)
    _, stderr = process.communicate(timeout=30)
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
    assert process.returncode == 1


def test_a_terminal_that_knows_no_unicode(bare_environ: Mapping[str, str]) -> None:
    """Where stdout cannot carry a character, it becomes `?`, and JSON stays UTF-8."""
    environ = {**bare_environ, "PYTHONIOENCODING": "latin-1", "POINTSMAN_CLI__PRESET": ""}
    checked = pointsman("check", environ=environ)
    assert checked.code == 0
    assert checked.stdout.startswith("? catalog: ")
    decided = pointsman("classify", "x", "--agent-type", "é", "--json", environ=environ)
    assert "é" in decided.document["failures"][0]["detail"]


def test_arguments_that_are_not_utf8(bare_environ: Mapping[str, str]) -> None:
    """Bytes that are no text in an argument are a problem and not a traceback."""
    done = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"service", b"classify", b"\xff\xfe", b"--json"],
        env=process_environ(bare_environ),
        cwd=bare_environ["HOME"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["type"] == "urn:pointsman:invalid-request"
    assert b"Traceback" not in done.stderr


def decide(client: httpx.Client, **fields: object) -> dict[str, Any]:
    """A decision of a service."""
    response = client.post("/v1/classify", json={"instructions": TASK, **fields})
    assert response.status_code == 200, response.text
    decision: dict[str, Any] = response.json()
    return decision


def test_it_degrades_and_recovers(open_service: OpenService, fake_endpoint: FakeEndpoint) -> None:
    """While the model server is away decisions are degraded and answered, and `answering_with` tells the truth at each
    moment; when it is back they are the model's again, without a restart."""
    fake_endpoint.always(verdict("claude", "claude-opus-4-8"))
    service = open_service(**with_model(fake_endpoint), POINTSMAN_DECISION__CACHE_SECONDS="0")
    with service.client() as client:

        def answering_with() -> str:
            return str(client.get("/v1/status").json()["answering_with"])

        assert answering_with() == "local_model"
        assert decide(client)["source"] == "local_model"
        fake_endpoint.stop()
        degraded = [decide(client, deadline_ms=1500) for _ in range(4)]
        assert {(one["source"], one["degraded"]) for one in degraded} == {("forecast", True)}
        assert answering_with() == "forecast"
        fake_endpoint.start()
        until = time.monotonic() + 40
        while (decision := decide(client, deadline_ms=2000))["degraded"] and time.monotonic() < until:
            time.sleep(0.2)
        assert (decision["source"], decision["degraded"]) == ("local_model", False)
        assert answering_with() == "local_model"


def test_a_server_that_ignores_json_object(open_service: OpenService, fake_endpoint: FakeEndpoint) -> None:
    """A server that answers prose whatever is asked for costs two questions, and the forecast decides."""
    fake_endpoint.always(prose())
    service = open_service(**with_model(fake_endpoint))
    with service.client() as client:
        decision = decide(client)
    assert (decision["source"], decision["degraded"]) == ("forecast", True)
    assert decision["failures"][0]["problem"] == "no-json"
    assert [request.json["response_format"] for request in fake_endpoint.chats] == [{"type": "json_object"}] * 2


def test_a_program_answers_where_no_endpoint_is_set(open_service: OpenService, tmp_path: Path) -> None:
    """Any command may classify; it sees the task on stdin and none of the service's own settings."""
    script, seen = tmp_path / "chooser", tmp_path / "seen"
    script.write_text(
        f'#!/bin/sh\n(env; cat) > {seen}\necho \'I take {{"agent_type": "claude", "model": "claude-opus-4-8"}}\'\n'
    )
    script.chmod(0o755)
    service = open_service(POINTSMAN_CLI__COMMAND=json.dumps([str(script)]), POINTSMAN_SERVER__TOKEN="sesame")
    with service.client() as client:
        decision = decide(client)
        assert client.get("/v1/status").json()["answering_with"] == "cli"
    assert (decision["source"], decision["model"], decision["degraded"]) == ("cli", "claude-opus-4-8", False)
    assert TASK in seen.read_text()
    assert "sesame" not in seen.read_text()
    assert "POINTSMAN_" not in seen.read_text()
