"""Real agent CLIs classify for a real `pointsman serve`: gemini against its stand-in, claude and llm against the real
small model. What the programs themselves do is tested in test_real_clis.py; here it is the service around them."""

import json
import os
import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.agent_clis import AgentCli
from tests.support.gemini_stand_in import GeminiStandIn, gemini_stand_in
from tests.support.http_fixtures import SMALL_CATALOG, OpenService
from tests.support.llama_server import LlamaServer
from tests.support.service_process import pointsman

TASK = "Rename the function `foo` to `bar` in utils.py and update its two callers."
SECRET = "sk-of-this-test-only"
pytestmark = pytest.mark.timeout(400)  # on a machine with two cores that others use too

VERDICT_PROBLEMS = {"no-json", "wrong-shape", "ambiguous", "unknown-candidate", "ineligible-candidate"}
CHOICE = {"agent_type": "claude", "model": "claude-opus-4-8", "minutes": 30, "confidence": 0.9, "reason": "It fits."}


@pytest.fixture
def stand_in() -> Generator[GeminiStandIn]:
    """A stand-in for the Gemini API that names an eligible candidate."""
    with gemini_stand_in() as running:
        running.reply = json.dumps(CHOICE)
        yield running


def gemini_environ(cli: AgentCli, stand_in: GeminiStandIn) -> dict[str, str]:
    """What lets the service find gemini, and gemini the stand-in."""
    return {
        "PATH": cli.path,
        "GEMINI_API_KEY": SECRET,
        "GOOGLE_GEMINI_BASE_URL": stand_in.url,
        "POINTSMAN_CLI__TIMEOUT_SECONDS": "150",
    }


def claude_environ(cli: AgentCli, llama: LlamaServer) -> dict[str, str]:
    """What lets the service find claude, and claude the small model, which is stopped at the end of its first sentence:
    claude asks again and again for the rest of an answer that is cut off."""
    extra = {"stop_sequences": [".", "\n", "}"], "temperature": 0}
    return {
        "PATH": cli.path,
        "ANTHROPIC_API_KEY": SECRET,
        "ANTHROPIC_BASE_URL": llama.base_url,
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "48",
        "CLAUDE_CODE_EXTRA_BODY": json.dumps(extra),
        "POINTSMAN_CLI__PRESET": "claude",
        "POINTSMAN_CLI__TIMEOUT_SECONDS": "150",
        "POINTSMAN_CATALOG__PATH": str(SMALL_CATALOG),
    }


def decide(client: httpx.Client, **fields: object) -> dict[str, Any]:
    """A decision with time enough for a program on a shared machine."""
    response = client.post("/v1/classify", json={"instructions": TASK, "deadline_ms": 170_000, **fields}, timeout=180)
    assert response.status_code == 200, response.text
    decision: dict[str, Any] = response.json()
    return decision


def check_that_it_was_asked(decision: dict[str, Any]) -> None:
    """Its verdict was taken, or refused for what it said; its tokens are counted both ways."""
    problems = {failure["problem"] for failure in decision["failures"]}
    if decision["source"] == "cli":
        assert (decision["degraded"], problems) == (False, set())
    else:
        assert (decision["source"], decision["degraded"]) == ("forecast", True)
        assert problems <= VERDICT_PROBLEMS, decision["failures"]
    assert decision["usage"]["tokens_in"] > 200
    assert decision["usage"]["tokens_out"] > 0
    assert decision["timings_ms"]["cli"] > 0


def check_that_claude_was_asked(decision: dict[str, Any]) -> None:
    """As above; or the small model rambled to the limit, which makes claude exit with an error that says so."""
    last = decision["failures"][-1:]
    if last and last[0]["problem"] == "exit-status":
        assert "output token maximum" in last[0]["detail"]
        assert (decision["source"], decision["degraded"]) == ("forecast", True)
        assert decision["timings_ms"]["cli"] > 0
    else:
        check_that_it_was_asked(decision)


def test_gemini_is_the_default(open_service: OpenService, gemini_cli: AgentCli, stand_in: GeminiStandIn) -> None:
    """With nothing configured and gemini on PATH, gemini classifies: its verdict, its tokens, no secret in sight."""
    service = open_service(**gemini_environ(gemini_cli, stand_in))
    with service.client() as client:
        assert client.get("/v1/status").json()["answering_with"] == "cli"
        decision = decide(client)
        stored = client.get(f"/v1/decisions/{decision['decision_id']}").json()
    assert (decision["source"], decision["model"], decision["degraded"]) == ("cli", "claude-opus-4-8", False)
    assert (decision["reason"], decision["confidence"]) == ("It fits.", 0.9)
    assert decision["usage"] == {"tokens_in": 120, "tokens_out": 30, "cost_usd": 0.0}
    assert json.loads(stored["explanation"]["reply"]) == CHOICE
    [asked] = stand_in.asked
    assert TASK in asked.prompt
    assert SECRET not in json.dumps(stored) + service.log_text
    assert TASK not in service.log_text
    assert service.stop() == 0


def test_gemini_that_fails_degrades(open_service: OpenService, gemini_cli: AgentCli, stand_in: GeminiStandIn) -> None:
    """An API that refuses makes gemini exit with an error: the forecast answers, and the program's words are told."""
    stand_in.status = 400
    service = open_service(**gemini_environ(gemini_cli, stand_in))
    with service.client() as client:
        decision = decide(client)
        strict = client.post(
            "/v1/classify", json={"instructions": TASK, "strict": True, "deadline_ms": 170_000}, timeout=180
        )
    assert (decision["source"], decision["degraded"]) == ("forecast", True)
    [failure] = decision["failures"]
    assert (failure["source"], failure["problem"]) == ("cli", "exit-status")
    assert SECRET not in str(decision) + service.log_text
    assert (strict.status_code, strict.json()["type"]) == (502, "urn:pointsman:classifier-failed")


def test_claude_classifies(open_service: OpenService, claude_cli: AgentCli, llama_server: LlamaServer) -> None:
    """POINTSMAN_CLI__PRESET=claude: claude asks the real small model; tokens and cost are kept."""
    service = open_service(**claude_environ(claude_cli, llama_server))
    with service.client() as client:
        decision = decide(client)
    check_that_claude_was_asked(decision)
    assert 0 <= decision["usage"]["cost_usd"] < 1
    assert SECRET not in str(decision) + service.log_text


def test_a_cli_stands_in_for_a_dead_endpoint(
    open_service: OpenService, claude_cli: AgentCli, llama_server: LlamaServer
) -> None:
    """Where the endpoint is configured and away, the CLI is asked next, and the decision says that it is degraded."""
    service = open_service(
        **claude_environ(claude_cli, llama_server),
        POINTSMAN_LOCAL_MODEL__ENDPOINT="http://127.0.0.1:9/v1",
        POINTSMAN_LOCAL_MODEL__MODEL="m",
    )
    with service.client() as client:
        decision = decide(client)
    assert decision["degraded"] is True
    assert decision["failures"][0]["source"] == "local_model"
    assert decision["failures"][0]["problem"] == "connection-refused"
    assert decision["source"] in {"cli", "forecast"}
    assert decision["timings_ms"]["cli"] > 0
    assert {failure["problem"] for failure in decision["failures"][1:]} <= VERDICT_PROBLEMS | {"exit-status"}


@pytest.fixture
def llm_environ(llama_server: LlamaServer, tmp_path: Path) -> dict[str, str]:
    """What lets the service find llm, and llm the small model, at most 48 tokens long."""
    home = tmp_path / "llm"
    home.mkdir()
    model = {"model_id": "small", "model_name": llama_server.model, "api_base": llama_server.endpoint}
    (home / "extra-openai-models.yaml").write_text(json.dumps([model]))
    (home / "model_options.json").write_text(json.dumps({"small": {"max_tokens": 48}}))
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "LLM_USER_PATH": str(home),
        "LLM_LOAD_PLUGINS": "",  # the package that carries the model is a plugin too, and would ask for a compiler
        "OPENAI_API_KEY": SECRET,
        "POINTSMAN_CLI__TIMEOUT_SECONDS": "150",
        "POINTSMAN_CATALOG__PATH": str(SMALL_CATALOG),
    }


@pytest.mark.parametrize(
    "way",
    [
        {"POINTSMAN_CLI__PRESET": "llm", "POINTSMAN_CLI__MODEL": "small"},
        {"POINTSMAN_CLI__COMMAND": '["llm", "-m", "small", "--no-stream", "--no-log"]'},
    ],
    ids=["preset", "command"],
)
def test_llm_classifies(open_service: OpenService, llm_environ: Mapping[str, str], way: dict[str, str]) -> None:
    """llm asks the real small model, as a preset and as a command of the operator's own, which wins over a preset."""
    service = open_service(**{"POINTSMAN_CLI__PRESET": "gemini", **llm_environ, **way})
    with service.client() as client:
        decision = decide(client)
        stored = client.get(f"/v1/decisions/{decision['decision_id']}").json()
    if "POINTSMAN_CLI__PRESET" in way:
        check_that_it_was_asked(decision)
    assert decision["timings_ms"]["cli"] > 0
    assert {failure["problem"] for failure in decision["failures"]} <= VERDICT_PROBLEMS
    assert TASK in stored["explanation"]["prompt"]
    assert stored["explanation"]["reply"].strip()


def test_check_tries_the_real_program(
    gemini_cli: AgentCli, stand_in: GeminiStandIn, bare_environ: Mapping[str, str], tmp_path: Path
) -> None:
    """`pointsman check` runs gemini for real and says what it chose."""
    environ = {**bare_environ, **gemini_environ(gemini_cli, stand_in)}
    ended = pointsman("check", environ=environ, cwd=tmp_path, seconds=200)
    assert ended.code == 0
    assert "✓ cli (gemini): chose claude/claude-opus-4-8 in " in ended.stdout
    assert "✓ answers: cli (gemini), then the forecast" in ended.stdout
