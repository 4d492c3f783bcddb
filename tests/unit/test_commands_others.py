"""`pointsman check`, `catalog`, `outcomes` and the command itself."""

import importlib
import json
import pkgutil
import tomllib
from pathlib import Path

import pytest

import service
from service import commands
from service.cli import COMMANDS
from tests.support.command_fixtures import Command
from tests.support.deciding import speaks
from tests.support.fake_behaviours import answer, hang_after_headers, models, slow, status
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_exchange import Behaviour

ROOT = Path(__file__).parents[2]


def with_model(fake: FakeEndpoint, model: str = "fake-model", **more: str) -> dict[str, str]:
    """The environment that points to a fake endpoint."""
    return {"POINTSMAN_LOCAL_MODEL__ENDPOINT": fake.url, "POINTSMAN_LOCAL_MODEL__MODEL": model, **more}


def a_verdict(usage: tuple[int, int] | None) -> Behaviour:
    """A good answer with these token counts."""
    return answer({"agent_type": "claude", "model": "opus"}, usage=usage)


def test_the_version_stands_in_both_places() -> None:
    """The package and pyproject.toml name the same version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == service.__version__


def test_every_command_is_listed() -> None:
    """What stands in service/commands with a `command` is listed under its name."""
    found = {
        info.name: module.command
        for info in pkgutil.iter_modules(commands.__path__)
        if hasattr(module := importlib.import_module(f"service.commands.{info.name}"), "command")
    }
    assert set(found) <= set(COMMANDS)
    for name, command in found.items():
        assert command.name == name


def test_help_lists_the_commands(command: Command) -> None:
    """`--help` and `-h` list every command and the exit codes."""
    for flag in ("--help", "-h"):
        ended = command(flag)
        assert ended.code == 0
        assert all(name in ended.stdout for name in COMMANDS)
        assert "130 interrupted" in ended.stdout


def test_version_is_told(command: Command) -> None:
    """`--version` says which version this is."""
    assert service.__version__ in command("--version").stdout


@pytest.mark.parametrize("arguments", [("clasify",), ("--nothing",), ("catalog", "x")], ids=lambda value: value[0])
def test_unknown_commands_are_misuse(command: Command, arguments: tuple[str, ...]) -> None:
    """What is no command is exit code 2."""
    assert command(*arguments).code == 2


def test_the_catalog_is_shown(command: Command) -> None:
    """Every candidate with its published figures, as a table and as the document that the service answers."""
    ended = command("catalog")
    assert ended.code == 0
    for shown in ("claude / opus", "70%", "$0.800", "gemini / flash"):
        assert shown in ended.stdout
    document = command("catalog", "--json").document
    assert [agent["agent_type"] for agent in document["agents"]] == ["claude", "gemini"]


def test_a_bad_catalog_is_misuse(command: Command, tmp_path: Path) -> None:
    """A wrong catalog names file and place; exit code 2."""
    file = tmp_path / "bad.toml"
    file.write_text('[[agent]]\ntype = "a"\n[[agent.model]]\nid = "m"\nsolve_rate = 2\n')
    for name in ("catalog", "check"):
        ended = command(name, POINTSMAN_CATALOG__PATH=str(file))
        assert (ended.code, ended.stdout) == (2, "")
        assert f"{file}: $.agent[0].model[0].solve_rate: " in ended.stderr


@pytest.mark.parametrize("name", ["check", "catalog"])
def test_an_endpoint_that_is_no_url_is_misuse(command: Command, name: str) -> None:
    """An endpoint that can never work is a wrong configuration, and not a defect."""
    ended = command(name, POINTSMAN_LOCAL_MODEL__ENDPOINT="localhost:11434", POINTSMAN_LOCAL_MODEL__MODEL="m")
    assert (ended.code, ended.stdout) == (2, "")
    assert "endpoint" in ended.stderr


def test_check_with_nothing_configured(command: Command) -> None:
    """With nothing configured the forecast answers, nothing is broken, and it is said why nobody else is asked."""
    ended = command("check", "--json")
    assert (ended.code, ended.document["ok"]) == (0, True)
    says = {finding["subject"]: finding["says"] for finding in ended.document["findings"]}
    assert says["answers"] == "the forecast"
    assert "no endpoint is set" in says["local model"]
    assert "switched off" in says["CLI"]
    assert "3 candidates of 2 agents" in says["catalog"]
    assert "recording" in says["store"]


def test_check_without_gemini(command: Command) -> None:
    """Where nothing is said about a CLI and gemini is not on PATH, that is said, and is no fault."""
    ended = command("check", POINTSMAN_CLI__PRESET="gemini", PATH="/nowhere")
    assert ended.code == 1
    assert "not-found" in ended.stdout


def test_check_of_a_model_that_works(command: Command, fake_endpoint: FakeEndpoint) -> None:
    """A model that works: what it chose, how long it took, its tokens, and that it answers."""
    fake_endpoint.always(a_verdict((2500, 30)))
    ended = command("check", **with_model(fake_endpoint))
    assert ended.code == 0
    assert "✓ local_model (fake-model): chose claude/opus in 0." in ended.stdout
    assert "2500 tokens in and 30 out" in ended.stdout
    assert "✓ answers: local_model (fake-model), then the forecast" in ended.stdout
    assert "!" not in ended.stdout
    assert "✗" not in ended.stdout


def test_check_of_a_protocol_that_is_not_spoken(command: Command, fake_endpoint: FakeEndpoint) -> None:
    """The server is asked by chat, which works; that it is not what was set is a warning."""
    fake_endpoint.always(speaks("chat"))
    ended = command("check", **with_model(fake_endpoint), POINTSMAN_LOCAL_MODEL__PROTOCOL="systemone")
    assert ended.code == 0
    assert '! protocol: the fastest is local_model.protocol = "chat"; "systemone", which is set' in ended.stdout


def test_check_of_an_endpoint_that_is_away(command: Command) -> None:
    """An endpoint that refuses is broken, in words; the forecast answers; exit code 1."""
    away = {"POINTSMAN_LOCAL_MODEL__ENDPOINT": "http://127.0.0.1:9/v1", "POINTSMAN_LOCAL_MODEL__MODEL": "m"}
    ended = command("check", **away)
    assert ended.code == 1
    assert "✗ local_model (m): connection-refused: cannot connect to http://127.0.0.1:9/v1" in ended.stdout
    assert "✓ answers: the forecast" in ended.stdout


def test_check_of_a_wrong_model_name(command: Command, fake_endpoint: FakeEndpoint) -> None:
    """A model that the server does not have: what it says, and which ones it offers."""
    fake_endpoint.always(status(404, '{"error": {"message": "model not found"}}'))
    fake_endpoint.serve_models(models("llama3.2:3b", "qwen3:8b"))
    ended = command("check", **with_model(fake_endpoint, "lama"))
    assert ended.code == 1
    assert "http-404" in ended.stdout
    assert "does not list 'lama'; it offers llama3.2:3b, qwen3:8b" in ended.stdout
    assert command("check", "--json", **with_model(fake_endpoint, "lama")).document["ok"] is False


def test_check_of_a_server_that_takes_any_name(command: Command, fake_endpoint: FakeEndpoint) -> None:
    """A server that answers under any name works, with a warning that it does not list this one."""
    fake_endpoint.always(a_verdict((2500, 30)))
    ended = command("check", **with_model(fake_endpoint, "lama"))
    assert ended.code == 0
    assert "! models: the server does not list 'lama'" in ended.stdout


@pytest.mark.parametrize("useful", [True, False], ids=["with a verdict", "without one"])
def test_check_of_a_server_that_cuts_the_prompt(command: Command, fake_endpoint: FakeEndpoint, useful: bool) -> None:
    """A server that counts far fewer tokens than were sent has cut the prompt: said also where its answer is of no use,
    and where two answers together count enough."""
    fake_endpoint.always(a_verdict((800, 30)) if useful else answer("Hm.", usage=(800, 30)))
    ended = command("check", **with_model(fake_endpoint))
    assert ended.code == (0 if useful else 1)
    assert "the server counted 800 prompt tokens" in ended.stdout
    assert "OLLAMA_CONTEXT_LENGTH" in ended.stdout


def test_check_of_a_server_that_counts_nothing(command: Command, fake_endpoint: FakeEndpoint) -> None:
    """Where no tokens are counted it is said that a cut cannot be seen."""
    fake_endpoint.always(a_verdict(None))
    ended = command("check", **with_model(fake_endpoint))
    assert ended.code == 0
    assert "does not count tokens" in ended.stdout


def test_check_of_a_slow_server(command: Command, fake_endpoint: FakeEndpoint) -> None:
    """A server that takes longer than it is given is waited for, and the warning says what to change."""
    fake_endpoint.then(slow(a_verdict((2500, 30)), 0.4))
    fake_endpoint.always(a_verdict((2500, 30)))
    ended = command("check", **with_model(fake_endpoint, POINTSMAN_LOCAL_MODEL__TIMEOUT_SECONDS="0.2"))
    assert ended.code == 0
    assert "longer than the 0.2 s it is given; raise its timeout_seconds" in ended.stdout


def test_check_of_a_program(command: Command, tmp_path: Path) -> None:
    """A configured program is run for real; one that is not there is broken; exit codes 0 and 1."""
    script = tmp_path / "chooser"
    script.write_text('#!/bin/sh\ncat > /dev/null\necho \'{"agent_type": "claude", "model": "haiku"}\'\n')
    script.chmod(0o755)
    works = command("check", POINTSMAN_CLI__COMMAND=json.dumps([str(script)]))
    assert works.code == 0
    assert "✓ cli (chooser): chose claude/haiku" in works.stdout
    assert "✓ answers: cli (chooser), then the forecast" in works.stdout
    missing = command("check", POINTSMAN_CLI__COMMAND='["/no/such/program"]')
    assert missing.code == 1
    assert "not-found" in missing.stdout


def test_check_shows_nothing_hostile(command: Command, fake_endpoint: FakeEndpoint) -> None:
    """Names and messages of a server are cleaned before they are shown."""
    fake_endpoint.always(status(500, "\x1b[31m\x9b2J\u202e oh"))
    fake_endpoint.serve_models(models("\x1b]0;owned\x07evil\u200b"))
    ended = command("check", **with_model(fake_endpoint))
    assert ended.code == 1
    assert [char for char in ended.stdout if not char.isprintable() and char != "\n"] == []


def test_check_of_a_store_that_is_away(command: Command, tmp_path: Path) -> None:
    """A database that cannot be used is broken: nothing would be recorded."""
    ended = command("check", POINTSMAN_STORE__URL=f"sqlite:///{tmp_path}/no/such/x.db")
    assert ended.code == 1
    assert "✗ store: nothing is being recorded" in ended.stdout


def test_check_survives_silence_of_the_list(command: Command, fake_endpoint: FakeEndpoint) -> None:
    """A server that has no list of models is not blamed for it."""
    fake_endpoint.always(a_verdict((2500, 30)))
    fake_endpoint.serve_models(hang_after_headers(404))
    assert command("check", **with_model(fake_endpoint)).code == 0


def test_outcomes_go_in_and_out(command: Command, tmp_path: Path) -> None:
    """What is imported is exported again; what is there already is left; a wrong line is named and stops nothing."""
    store = {"POINTSMAN_STORE__URL": f"sqlite:///{tmp_path}/store.db"}
    lines = [
        {"agent_type": "claude", "model": "opus", "solved": True, "decision_id": "d", "cost_usd": 0.5},
        {"agent_type": "claude", "model": "haiku", "solved": False, "labels": {"repo": "r"}},
    ]
    text = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    file = tmp_path / "history.jsonl"
    file.write_text(text)
    first = command("outcomes", "import", str(file), "--json", **store)
    assert (first.code, first.document) == (0, {"new": 2, "same": 0, "conflict": 0, "wrong": []})
    wrong = json.dumps({**lines[0], "solved": "x"})
    other = json.dumps({**lines[0], "solved": False})
    again = command("outcomes", "import", "-", stdin=f"{json.dumps(lines[0])}\n{wrong}\n{other}\n", **store)
    assert again.code == 1
    assert "0 recorded, 1 already there, 1 in conflict" in again.stdout
    assert "line 2: $.solved" in again.stderr
    exported = command("outcomes", "export", **store)
    assert exported.code == 0
    assert [json.loads(line) for line in exported.stdout.splitlines()] == [{**line, "attempt": 1} for line in lines]


def test_efforts_are_evaluated(command: Command, tmp_path: Path) -> None:
    """Tasks may name `agent/model@effort`, and a catalog made of them has the efforts apart."""
    low, high = "codex/gpt@low", "codex/gpt@high"
    outcomes = {low: {"solved": False, "cost_usd": 0.1}, high: {"solved": True, "cost_usd": 0.4}}
    file = tmp_path / "tasks.jsonl"
    file.write_text(json.dumps({"id": "1", "instructions": "Fix it", "outcomes": outcomes}))
    ended = command("evaluate", str(file), "--catalog-from-tasks", "--value-usd", "50", "--json")
    assert (ended.code, ended.stderr) == (0, "")
    found = json.loads(ended.stdout)
    assert found["policies"][0]["solve_rate"] == 1
    assert set(found["policies"][0]["first_choice"]) <= {low, high}
    assert {f"always:{low}", f"always:{high}"} <= {baseline["name"] for baseline in found["baselines"]}


def test_outcomes_of_no_file_are_misuse(command: Command) -> None:
    """A history that is not there is exit code 2."""
    assert command("outcomes", "import", "/no/such/file").code == 2


def test_outcomes_without_a_store_are_a_problem(command: Command, tmp_path: Path) -> None:
    """Where nothing can be recorded, that is a problem document and exit code 1."""
    line = json.dumps({"agent_type": "claude", "model": "opus", "solved": True})
    ended = command(
        "outcomes", "import", "-", "--json", stdin=line, POINTSMAN_STORE__URL=f"sqlite:///{tmp_path}/no/such/x.db"
    )
    assert (ended.code, ended.document["type"]) == (1, "urn:pointsman:store-unavailable")
