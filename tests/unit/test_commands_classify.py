"""`pointsman classify`: every field of a request has an option, and each way of ending its exit code."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_fixtures import Command
from tests.support.fake_behaviours import hang, raw, status, verdict
from tests.support.fake_endpoint import FakeEndpoint

FLAGS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "name": (("--name", "N"), {"name": "N"}),
    "task id": (("--task-id", "t"), {"task_id": "t"}),
    "labels": (("--label", "repo=a=b", "--label", "team="), {"labels": {"repo": "a=b", "team": ""}}),
    "pair": (("--agent-type", "claude", "--model", "opus"), {"agent_type": "claude", "model": "opus"}),
    "kind": (("--kind", "testing"), {"kind": "testing"}),
    "objective": (("--objective", "quality"), {"objective": "quality"}),
    "value": (("--value-usd", "2.5"), {"value_usd": 2.5}),
    "deadline": (("--deadline-ms", "500"), {"deadline_ms": 500}),
    "strict": (("--strict",), {"strict": True}),
    "explain": (("--explain",), {"explain": True}),
    "allow-list": (
        ("--only-agent-type", "claude", "--only-agent-type", "x"),
        {"require": {"agent_types": ["claude", "x"]}},
    ),
    "exclude": (
        ("--exclude", "claude", "--exclude", "gemini/flash"),
        {"require": {"exclude": [{"agent_type": "claude"}, {"agent_type": "gemini", "model": "flash"}]}},
    ),
    "exclude an effort": (
        ("--exclude", "codex/gpt@2026@high", "--exclude", "codex/gpt@"),
        {
            "require": {
                "exclude": [
                    {"agent_type": "codex", "model": "gpt@2026", "effort": "high"},
                    {"agent_type": "codex", "model": "gpt@"},
                ]
            }
        },
    ),
    "inputs": (("--input", "image", "--input", "pdf"), {"require": {"inputs": ["image", "pdf"]}}),
    "context": (("--context-tokens", "9"), {"require": {"context_tokens": 9}}),
    "local only": (("--local-only",), {"require": {"local_only": True}}),
    "most": (("--max-cost-usd", "0.5"), {"require": {"max_cost_usd": 0.5}}),
}


@pytest.mark.parametrize(("arguments", "fields"), FLAGS.values(), ids=FLAGS)
def test_each_field_has_an_option(
    command: Command, fake_endpoint: FakeEndpoint, arguments: tuple[str, ...], fields: dict[str, Any]
) -> None:
    """An option ends up in the request as the field that it stands for, and nothing else does."""
    fake_endpoint.always(raw(b"{}", status=500))
    command("classify", "Fix it", *arguments, "--server", fake_endpoint.base_url)
    [request] = fake_endpoint.requests
    assert request.path == "/v1/classify"
    assert request.json == {"instructions": "Fix it", **fields}


def test_a_decision_is_shown(command: Command) -> None:
    """The choice, who chose, why, the plan and why not the others are there at one look; the exit code is 0."""
    ended = command("classify", "Fix it", "--only-agent-type", "claude", "--objective", "quality")
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.startswith("claude / ")
    for shown in ("by forecast", "plan", "if that fails", "not eligible", "gemini / flash", "decision 0"):
        assert shown in ended.stdout


def test_json_is_one_document(command: Command) -> None:
    """`--json` prints the contract's document and nothing else."""
    ended = command("classify", "Fix it", "--json")
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.document["source"] == "forecast"
    assert "explanation" not in ended.document
    assert "explanation" in command("classify", "Fix it", "--json", "--explain").document


@pytest.mark.parametrize("way", ["argument", "dash", "file", "request", "request from stdin"])
def test_instructions_come_in_every_way(
    command: Command, fake_endpoint: FakeEndpoint, tmp_path: Path, way: str
) -> None:
    """TEXT, `-`, `--file F`, `--request F` and `--request -` all carry the instructions as they are."""
    text = "Fix it\n  – soon\n"
    file = tmp_path / "task"
    request = json.dumps({"instructions": text})
    file.write_text(text if way == "file" else request)
    arguments, stdin = {
        "argument": ((text,), ""),
        "dash": (("-",), text),
        "file": (("--file", str(file)), ""),
        "request": (("--request", str(file)), ""),
        "request from stdin": (("--request", "-"), request),
    }[way]
    fake_endpoint.always(verdict("claude", "opus"))
    ended = command(
        "classify",
        *arguments,
        "--json",
        "--explain",
        stdin=stdin,
        POINTSMAN_LOCAL_MODEL__ENDPOINT=fake_endpoint.url,
        POINTSMAN_LOCAL_MODEL__MODEL="m",
    )
    assert ended.code == 0
    assert text.strip() in ended.document["explanation"]["prompt"]


def test_options_win_over_the_request(command: Command, fake_endpoint: FakeEndpoint, tmp_path: Path) -> None:
    """What an option says replaces that field; labels and limits are merged; the rest stays as it was written."""
    file = tmp_path / "request.json"
    file.write_text(
        '{"labels": {"a": "1", "b": "1"}, "objective": "economy", "require": {"context_tokens": 5},'
        ' "fleet": {"claude": {"slots": 1}}}'
    )
    fake_endpoint.always(raw(b"{}", status=500))
    arguments = ("--request", str(file), "--label", "b=2", "--objective", "quality", "--local-only")
    command("classify", "TEXT", *arguments, "--server", fake_endpoint.base_url)
    assert fake_endpoint.requests[0].json == {
        "labels": {"a": "1", "b": "2"},
        "objective": "quality",
        "require": {"context_tokens": 5, "local_only": True},
        "fleet": {"claude": {"slots": 1}},
        "instructions": "TEXT",
    }


WRONG: dict[str, tuple[tuple[str, ...], str | bytes, str]] = {
    "empty": (("",), "", "$.instructions"),
    "empty stdin": (("-",), "", "$.instructions"),
    "stdin not UTF-8": (("-",), b"\xff\xfe", "UTF-8"),
    "model alone": (("x", "--model", "opus"), "", "needs `agent_type`"),
    "deadline": (("x", "--deadline-ms", "5"), "", "$.deadline_ms"),
    "value": (("x", "--value-usd", "0"), "", "$.value_usd"),
    "request no JSON": (("--request", "-"), "{", "JSON"),
    "request a list": (("--request", "-"), "[]", "expected `object`"),
    "request labels": (("--request", "-", "--label", "a=b"), '{"instructions": "x", "labels": 7}', "$.labels"),
    "request fleet": (("--request", "-"), '{"instructions": "x", "fleet": {"a": {"slots": "1"}}}', "$.fleet.a.slots"),
    "nobody may": (("x", "--only-agent-type", "nobody"), "", "can take this task"),
}


@pytest.mark.parametrize(("arguments", "stdin", "says"), WRONG.values(), ids=WRONG)
def test_a_problem_is_exit_code_1(command: Command, arguments: tuple[str, ...], stdin: str | bytes, says: str) -> None:
    """A problem is told on stderr, or printed as its document with `--json`; the exit code is 1 either way."""
    told = command("classify", *arguments, stdin=stdin)
    assert (told.code, told.stdout) == (1, "")
    assert says in told.stderr
    printed = command("classify", *arguments, "--json", stdin=stdin)
    assert (printed.code, printed.stderr) == (1, "")
    assert printed.document["type"].startswith("urn:pointsman:")
    assert says in printed.document["detail"]


MISUSE: dict[str, tuple[str, ...]] = {
    "nothing to do": (),
    "text and file": ("x", "--file", "f"),
    "no such file": ("--file", "/no/such/file"),
    "no such request": ("--request", "/no/such/file"),
    "label without a value": ("x", "--label", "repo"),
    "label without a key": ("x", "--label", "=x"),
    "objective": ("x", "--objective", "cheap"),
    "value": ("x", "--value-usd", "much"),
    "value not a number": ("x", "--value-usd", "nan"),
    "cost without end": ("x", "--max-cost-usd", "inf"),
    "unknown option": ("x", "--nothing"),
    "two texts": ("x", "y"),
    "no such configuration": ("x", "--config", "/no/such/file"),
}


@pytest.mark.parametrize("arguments", MISUSE.values(), ids=MISUSE)
def test_misuse_is_exit_code_2(command: Command, arguments: tuple[str, ...]) -> None:
    """Wrong usage or configuration is told on stderr, and the exit code is 2."""
    ended = command("classify", *arguments)
    assert (ended.code, ended.stdout) == (2, "")
    assert "Error: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_misspelt_setting_names_the_nearest(command: Command) -> None:
    """An unknown key of the environment is exit code 2, with the nearest known one."""
    ended = command("classify", "x", POINTSMAN_LOCAL_MODEL__ENDPIONT="http://127.0.0.1:1/v1")
    assert ended.code == 2
    assert "endpoint" in ended.stderr


def test_a_server_is_asked(command: Command, fake_endpoint: FakeEndpoint) -> None:
    """`--server` sends the request with the configured token, to a URL with or without a slash at its end."""
    document = command("classify", "Fix it", "--json").document
    fake_endpoint.always(raw(json.dumps(document).encode()))
    for url in (fake_endpoint.base_url, f"{fake_endpoint.base_url}/"):
        ended = command("classify", "x", "--json", "--server", url, POINTSMAN_SERVER__TOKEN="sesame")
        assert (ended.code, ended.document) == (0, document)
    assert [request.path for request in fake_endpoint.requests] == ["/v1/classify"] * 2
    assert {request.headers["authorization"] for request in fake_endpoint.requests} == {"Bearer sesame"}


@pytest.mark.parametrize("url", ["", " ", "127.0.0.1:8080", "http://", "ftp://host", "http:// host"])
def test_a_server_that_is_no_address_is_wrong_usage(command: Command, url: str) -> None:
    """An empty `--server` comes of a variable that is not set: to decide here instead would be a silent surprise."""
    ended = command("classify", "x", "--server", url)
    assert (ended.code, ended.stdout) == (2, "")
    assert "--server" in ended.stderr
    assert "http://127.0.0.1:8080" in ended.stderr


def test_a_servers_problem_is_passed_on(command: Command, fake_endpoint: FakeEndpoint) -> None:
    """A problem document of a server is printed as it came, and the exit code is 1."""
    problem = {
        "type": "urn:pointsman:no-candidate-available",
        "title": "Nothing is available",
        "status": 503,
        "detail": "later",
        "excluded": [{"agent_type": "a", "model": "m", "effort": None, "why": "no slot"}],
        "wait_until": "2030-01-01T00:00:00Z",
    }
    fake_endpoint.always(raw(json.dumps(problem).encode(), status=503, content_type="application/problem+json"))
    printed = command("classify", "x", "--json", "--server", fake_endpoint.base_url)
    assert (printed.code, printed.document) == (1, problem)
    told = command("classify", "x", "--server", fake_endpoint.base_url)
    assert (told.code, told.stdout) == (1, "")
    for shown in ("Nothing is available: later", "a/m: no slot", "2030-01-01"):
        assert shown in told.stderr


@pytest.mark.parametrize("kind", ["refused", "not HTTP", "no URL", "prose", "other JSON", "hangs"])
def test_a_server_that_is_none_is_a_problem(command: Command, fake_endpoint: FakeEndpoint, kind: str) -> None:
    """A server that is away or is something else is exit code 1, and with `--json` still one JSON document."""
    behaviours = {
        "prose": raw(b"<html>", content_type="text/html"),
        "other JSON": raw(b"[[[]]]", status=404),
        "hangs": hang(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
        "not HTTP": hang(b"SSH-2.0-OpenSSH\r\n"),
    }
    url = {"refused": "http://127.0.0.1:9", "no URL": "http://[::1"}.get(kind, fake_endpoint.base_url)
    fake_endpoint.always(behaviours.get(kind, status(500)))
    arguments = ("classify", "x", "--json", "--server", url, "--deadline-ms", "20")
    if kind == "hangs":
        fake_endpoint.always(raw(b"", status=204))
    ended = command(*arguments)
    assert (ended.code, ended.document["type"], ended.document["status"]) == (1, "about:blank", 502)
    assert url in ended.document["detail"]


HOSTILE = "\x1b[31mred\x1b]0;owned\x07\x9b2J \u202etxet\u202c\u200b [bold]markup[/]"


def test_nothing_hostile_reaches_a_terminal(command: Command, fake_endpoint: FakeEndpoint) -> None:
    """Escape sequences, C1 controls and bidirectional marks in any string of a server's answer are not printed."""
    decision = command("classify", "x", "--json", "--only-agent-type", "claude", "--explain").document
    failure = {"source": HOSTILE, "problem": HOSTILE, "detail": HOSTILE}
    for key in ("decision_id", "agent_type", "model", "reason"):
        decision[key] = HOSTILE
    decision["failures"] = [failure]
    decision["plan"][0]["model"] = HOSTILE
    decision["excluded"] = [{"agent_type": HOSTILE, "model": HOSTILE, "effort": None, "why": HOSTILE}]
    decision["explanation"] = {HOSTILE: HOSTILE}
    problem = {"type": HOSTILE, "title": HOSTILE, "status": 502, "detail": HOSTILE, "failures": [failure]}
    for body, code in ((decision, 200), (problem, 502)):
        fake_endpoint.always(raw(json.dumps(body).encode(), status=code))
        for more in ((), ("--json",), ("--explain",)):
            ended = command("classify", "x", *more, "--server", fake_endpoint.base_url)
            printed = ended.stdout + ended.stderr
            assert "[bold]markup[/]" in printed
            assert [char for char in printed if not char.isprintable() and char != "\n"] == []
            if more == ("--json",):
                assert ended.document == body


def test_a_warning_goes_to_stderr(command: Command, tmp_path: Path) -> None:
    """What the log says, such as that nothing is recorded, never mixes with the document on stdout."""
    ended = command("classify", "x", "--json", POINTSMAN_STORE__URL=f"sqlite:///{tmp_path}/no/such/dir/x.db")
    assert ended.code == 0
    assert ended.document["source"] == "forecast"
    assert "warning: the store is not available" in ended.stderr
