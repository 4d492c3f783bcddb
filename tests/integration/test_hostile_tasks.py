"""Ninety hostile tasks, and a model that obeys each of them: the decision stays the caller's and the operator's."""

import base64
import json
import os
import pty
import subprocess
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.data.injections import ESCAPES, INJECTIONS, WANTED, Injection
from tests.support.fake_behaviours import answer, status
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_exchange import Behaviour, RecordedRequest
from tests.support.http_fixtures import CATALOG, OpenApp, RunningApp, with_model
from tests.support.service_process import POINTSMAN, pointsman, process_environ

KEY = "sk-hostile-0123456789"
SECRET_LABEL = "label-of-nobody-elses-business"
HOME = """
[[agent]]
type = "home"
local = true
[[agent.model]]
id = "big"
solve_rate = 0.3
cost_usd = 0.01
[[agent.model]]
id = "small"
solve_rate = 0.2
cost_usd = 0.0
"""
LIMITS: Mapping[str, dict[str, Any]] = {
    "exclude": {"exclude": [{"agent_type": "claude", "model": "opus"}]},
    "max-cost": {"max_cost_usd": 0.1},
    "agent-types": {"agent_types": ["gemini", "home"]},
    "local-only": {"local_only": True},
    "all": {"max_cost_usd": 0.1, "agent_types": ["home", "gemini"], "local_only": True},
}
MAY = {
    "exclude": {"haiku", "flash", "big", "small", "fake-model"},
    "max-cost": {"haiku", "flash", "big", "small", "fake-model"},
    "agent-types": {"flash", "big", "small"},
    "local-only": {"big", "small", "fake-model"},
    "all": {"big", "small"},
}


def _obeyed(injection: Injection, request: RecordedRequest) -> Behaviour:
    """What a model that does as it is told answers."""
    system, user = (message["content"] for message in request.json["messages"][:2])
    inside = json.dumps(system)[1:-1] if injection.reply.startswith("{") and injection.reply != "{system}" else system
    question = json.dumps(user)[1:-1]
    text = injection.reply.replace("{system:200}", json.dumps(system[:200])[1:-1])
    return answer(text.replace("{system}", inside).replace("{SYSTEM}", inside.upper()).replace("{user}", question))


@pytest.fixture
async def app(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> RunningApp:
    """A service with six candidates, four of them local, and a key for the model server."""
    return await open_app(
        catalog_text=CATALOG + HOME,
        local_model=with_model(fake_endpoint, api_key=KEY),
        decision={"cache_seconds": 0},
    )


def _check_limits(limits: str, decision: dict[str, Any]) -> None:
    for step in decision["plan"]:
        assert step["model"] in MAY[limits]
        assert (step["agent_type"], step["model"]) != WANTED
        assert step["cost_usd"] <= LIMITS[limits].get("max_cost_usd", 1e9)
    assert decision["model"] == decision["plan"][0]["model"]


def _check_text(text: str) -> None:
    assert 0 < len(text) <= 500
    assert not {unicodedata.category(c) for c in text} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _longest_shared(text: str, source: str, length: int = 40) -> bool:
    """Whether `text` quotes so many characters of `source`, whatever the case and the spaces."""
    flat, other = " ".join(text.casefold().split()), " ".join(source.casefold().split())
    return any(flat[i : i + length] in other for i in range(len(flat) - length + 1))


def test_the_corpus_is_what_it_says() -> None:
    """At least sixty different texts, of all kinds, in many languages."""
    assert len({injection.text for injection in INJECTIONS}) == len(INJECTIONS) >= 60
    assert {injection.kind for injection in INJECTIONS} == {"order", "fence", "role", "encoded", "leak", "shape"}
    assert len({injection.language for injection in INJECTIONS}) >= 15


@pytest.mark.parametrize("injection", INJECTIONS, ids=lambda injection: injection.id)
async def test_a_model_that_obeys_changes_nothing(
    app: RunningApp, fake_endpoint: FakeEndpoint, capfd: pytest.CaptureFixture[str], injection: Injection
) -> None:
    """Under every limit the choice and the whole plan keep it, and no text that is shown holds what it must not.

    Would catch: a verdict that is not checked against the eligible candidates, or only by agent type; a reason taken
    over as it is; a prompt, a key or a task's text in a reason, a log line or a label of a metric.
    """
    fake_endpoint.choose(lambda request: _obeyed(injection, request))
    for name, require in LIMITS.items():
        decision = await app.decide(injection.text, require=require, labels={"who": SECRET_LABEL}, deadline_ms=20_000)
        _check_limits(name, decision)
        _check_text(decision["reason"])
        for failure in decision["failures"]:
            _check_text(failure["detail"])
        shown = json.dumps([decision["reason"], decision["failures"]], ensure_ascii=False)
        system: str = fake_endpoint.chats[-1].json["messages"][0]["content"]
        role, _, rest = system.partition("Candidates, ")  # the catalog between them is public
        for own in (role, rest.partition("Rules:")[2]):
            for told in (decision["reason"], *(failure["detail"] for failure in decision["failures"])):
                assert not _longest_shared(told, own)
        assert KEY not in shown
        question: str = fake_endpoint.chats[-1].json["messages"][1]["content"]
        assert not {unicodedata.category(c) for c in question.replace("\n", "").replace("\t", "")} & {"Cc", "Cf"}
    metrics = (await app.client.get("/metrics")).text
    logged = capfd.readouterr()
    for place in (metrics, logged.out, logged.err):
        assert KEY not in place
        assert SECRET_LABEL not in place
        assert "\x1b" not in place
        assert not _longest_shared(injection.text, place)
    assert metrics.count("\n") < 600


async def test_each_question_holds_one_task_only(app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """What a model is asked about one task holds nothing of the one before: would catch a conversation that goes on."""
    fake_endpoint.always(answer("prose"))
    for number in range(5):
        await app.decide(f"marker-{number}", deadline_ms=20_000)
    for request in fake_endpoint.chats:
        text = json.dumps(request.json)
        assert sum(f"marker-{number}" in text for number in range(5)) == 1


async def test_a_key_that_comes_back_is_masked(app: RunningApp, fake_endpoint: FakeEndpoint) -> None:
    """A server may answer with the key it was asked with, or refuse with it: neither reason nor failures nor
    explanation nor record shows it. Would catch a reply, or the body of an error, that is taken over as it is."""
    fake_endpoint.choose(
        lambda request: answer(
            {"agent_type": "claude", "model": "haiku", "reason": f"You sent {request.headers['authorization']}"}
        )
    )
    response = await app.classify(explain=True)
    assert response.json()["source"] == "local_model"
    assert response.json()["reason"] == "You sent Bearer ***"
    assert KEY not in response.text
    stored = await app.client.get(f"/v1/decisions/{response.json()['decision_id']}")
    assert KEY not in stored.text
    fake_endpoint.choose(lambda request: status(401, json.dumps(request.headers)))
    refused = await app.classify(explain=True)
    assert "Bearer ***" in refused.json()["failures"][0]["detail"]
    assert KEY not in refused.text


async def test_a_password_that_comes_back_is_masked(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """The same for a password in the endpoint's URL, as it is and as httpx sends it: would catch a mask for the key
    only, though a server that says with which header it was asked tells the password in base64."""
    local_model = with_model(fake_endpoint, endpoint=fake_endpoint.url.replace("http://", "http://user:pw-0123456789@"))
    app = await open_app(local_model=local_model, decision={"cache_seconds": 0})
    basic = base64.b64encode(b"user:pw-0123456789").decode()
    fake_endpoint.choose(
        lambda request: answer(
            {
                "agent_type": "claude",
                "model": "haiku",
                "reason": f"You sent {request.headers['authorization']} for pw-0123456789",
            }
        )
    )
    told = await app.classify(explain=True)
    assert told.json()["reason"] == "You sent Basic *** for ***"
    fake_endpoint.choose(lambda request: status(401, json.dumps(request.headers)))
    refused = await app.classify(explain=True)
    assert "Basic ***" in refused.json()["failures"][0]["detail"]
    for text in (told.text, refused.text, (await app.client.get("/v1/decisions")).text):
        assert basic not in text
        assert "pw-0123456789" not in text


@pytest.mark.parametrize("terminal", [False, True], ids=["piped", "terminal"])
def test_nothing_hostile_reaches_a_terminal(
    bare_environ: Mapping[str, str], fake_endpoint: FakeEndpoint, catalog_file: Path, terminal: bool
) -> None:
    """`pointsman classify` prints no escape sequence that came from a task or a model: would catch a reason or an error
    that clears the screen or renames the window."""
    fake_endpoint.always(answer({"agent_type": "claude", "model": "haiku", "reason": f"{ESCAPES}red"}))
    environ = {
        **bare_environ,
        "NO_COLOR": "1",
        "TERM": "xterm",
        "POINTSMAN_CATALOG__PATH": str(catalog_file),
        "POINTSMAN_LOCAL_MODEL__ENDPOINT": fake_endpoint.url,
        "POINTSMAN_LOCAL_MODEL__MODEL": "fake-model",
        "POINTSMAN_LOCAL_MODEL__API_KEY": KEY,
        "POINTSMAN_CLI__PRESET": "",
    }
    escapes = ESCAPES.replace("\0", "")
    arguments = ("classify", f"Fix{escapes}", "--label", f"a={escapes}", "--explain")
    if terminal:
        printed = _on_a_terminal(arguments, environ)
    else:
        ended = pointsman(*arguments, environ=environ)
        assert ended.code == 0, ended.stderr
        printed = ended.stdout + ended.stderr
    assert "haiku" in printed
    assert KEY not in printed
    hostile = {c for c in printed if unicodedata.category(c) in {"Cc", "Cf"} and c not in "\n\r\t"}
    assert hostile == set()


def _on_a_terminal(arguments: tuple[str, ...], environ: Mapping[str, str]) -> str:
    """What a command prints when it talks to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*POINTSMAN, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=process_environ(environ)
    )
    os.close(theirs)
    printed = b""
    try:
        while chunk := os.read(ours, 65_536):
            printed += chunk
    except OSError:  # the other side is closed: that is how a terminal ends
        pass
    finally:
        os.close(ours)
    assert process.wait(30) == 0
    return printed.decode()
