"""The faults of a model server under each protocol: one decision is degraded, and the very next one is well."""

import asyncio
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from service.contract.catalog import LOCAL_AGENT
from tests.support.deciding import good_answer, speaks, spoken_by
from tests.support.fake_behaviours import raw, status
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_exchange import Behaviour, Exchange
from tests.support.faults import BREAKS, HANGS, PROBLEMS, waits
from tests.support.http_fixtures import OpenApp, RunningApp, with_model
from tests.support.service_process import pointsman

NO_OPUS = {"exclude": [{"agent_type": "claude", "model": "opus"}]}
DECIDING = ("labels", "systemone", "decisions")
SOLVED = {"solved": True, "cost_usd": 0.1}


def answering(change: dict[str, Any] | None, **fields: Any) -> Behaviour:  # noqa: ANN401 - parts of an answer
    """A good answer whose part for the candidate is replaced, or left out where `change` is None."""

    async def behave(exchange: Exchange) -> None:
        asked, path = exchange.request.json, exchange.request.path
        protocol = spoken_by(asked, path)
        answer = good_answer(asked, protocol)
        if protocol == "systemone":
            answer["answers"] |= {"candidate": change}
            answer["answers"] = {name: given for name, given in answer["answers"].items() if given is not None}
        elif protocol == "decisions":
            kept = [one for one in answer["answers"] if one["name"] != "candidate"]
            answer["answers"] = kept if change is None else [*kept, {"name": "candidate", **change}]
        elif protocol == "labels":
            answer["choices"][0]["logprobs"] = {"content": change}
        await exchange.respond(200, json.dumps({**answer, **fields}).encode())

    return behave


USELESS: dict[str, dict[str, Behaviour]] = {
    "systemone": {
        "no-answer": answering(None),
        "refused": answering({"refusal": "no"}),
        "wrong-shape": answering({"choice": "c1"}),
        "bad-probabilities": answering({"probabilities": {"c1": 3}}),
        "unknown-candidate": answering({"probabilities": {"nobody": 1.0}}),
    },
    "decisions": {
        "no-answer": answering(None),
        "refused": answering({"type": "refusal"}),
        "wrong-shape": answering({"type": "choice", "choice": "c1"}),
        "bad-probabilities": answering({"probabilities": [{"value": "c1", "probability": "much"}]}),
        "unknown-candidate": answering({"probabilities": [{"value": "nobody", "probability": 1.0}]}),
    },
    "labels": {"no-label": answering({"token": "<think>"})},
}
CASES = [(protocol, name) for protocol in DECIDING for name in [*PROBLEMS, *USELESS[protocol]]]


async def _open(open_app: OpenApp, fake: FakeEndpoint, protocol: str, **more: Any) -> RunningApp:  # noqa: ANN401 - settings
    section = with_model(fake, protocol=protocol, **more)
    return await open_app(local_model=section, decision={"cache_seconds": 0})


@pytest.mark.parametrize(("protocol", "name"), CASES)
async def test_a_fault_degrades_one_decision(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, protocol: str, name: str
) -> None:
    """200 by the forecast with the fault's name in `failures`; the next request is the model's again.

    Would catch: a fault that only chat survives, a slot or a connection that it keeps, a verdict read out of rubbish.
    """
    hanging = name in HANGS
    app = await _open(open_app, fake_endpoint, protocol, max_concurrency=1, timeout_seconds=0.4 if hanging else 20.0)
    fault = USELESS[protocol].get(name) or {**HANGS, **BREAKS}[name]
    fake_endpoint.always(fault)
    started = time.monotonic()
    deadline_ms = 700 if hanging else 900 if PROBLEMS.get(name) == "connection-broken" else 30_000  # no second try
    decision = await app.decide(require=NO_OPUS, deadline_ms=deadline_ms)
    assert time.monotonic() - started < deadline_ms / 1000 + 5.0, "a guard against hanging, not a measurement"
    assert (decision["source"], decision["degraded"]) == ("forecast", True)
    assert [f["problem"] for f in decision["failures"]] == [PROBLEMS.get(name, name)]
    assert ("claude", "opus") not in {(step["agent_type"], step["model"]) for step in decision["plan"]}
    fake_endpoint.always(speaks("chat", protocol))
    healthy = await app.decide(require=NO_OPUS, deadline_ms=10_000)
    assert (healthy["source"], healthy["degraded"], healthy["model"]) == ("local_model", False, "haiku")


@pytest.mark.parametrize("protocol", DECIDING)
@pytest.mark.parametrize("code", [429, 503, 529])
async def test_retry_after_rests_the_classifier(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, protocol: str, code: int
) -> None:
    """For as long as the server says: decision models say 529 too."""
    app = await _open(open_app, fake_endpoint, protocol)
    fake_endpoint.always(status(code, headers={"Retry-After": "2"}))
    decision = await app.decide(deadline_ms=900)
    assert decision["failures"][0]["problem"] == f"http-{code}"
    (classifier,) = (await app.client.get("/v1/status")).json()["classifiers"]
    assert classifier["breaker"]["state"] == "open"
    assert classifier["breaker"]["rests_for_seconds"] <= 2.0


@pytest.mark.parametrize("protocol", DECIDING)
@pytest.mark.parametrize("name", waits())
async def test_any_retry_after_is_survived(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, protocol: str, name: str
) -> None:
    """Whatever it says: the decision comes, by its deadline."""
    app = await _open(open_app, fake_endpoint, protocol)
    fake_endpoint.always(waits()[name])
    decision = await app.decide(deadline_ms=300)
    assert (decision["source"], decision["degraded"]) == ("forecast", True)


@pytest.mark.parametrize("protocol", DECIDING)
async def test_no_useless_reply_opens_the_breaker_soon(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, protocol: str
) -> None:
    """A batch of hostile tasks must not be able to silence the model for others."""
    app = await _open(open_app, fake_endpoint, protocol)
    fake_endpoint.always(next(iter(USELESS[protocol].values())))
    for number in range(6):
        assert (await app.decide(f"Fix {number}"))["failures"][0]["problem"] != "resting"
    fake_endpoint.always(speaks("chat", protocol))
    assert (await app.decide())["source"] == "local_model"


@pytest.mark.parametrize("protocol", DECIDING)
async def test_a_server_that_stops_speaking_it_is_asked_by_chat(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, protocol: str
) -> None:
    """No decision is degraded and the breaker stays closed; it is asked so until the next reload, and then anew.

    Would catch: a healthy server that is taken for a broken one, and two questions for each decision ever after.
    """
    app = await _open(open_app, fake_endpoint, protocol)
    fake_endpoint.always(speaks("chat", protocol))
    assert (await app.decide("one"))["source"] == "local_model"
    fake_endpoint.always(_only_chat(protocol))
    for number in range(5):
        decision = await app.decide(f"Fix {number}")
        assert (decision["source"], decision["degraded"], decision["reason"]) == ("local_model", False, "It fits.")
    (classifier,) = (await app.client.get("/v1/status")).json()["classifiers"]
    assert (classifier["healthy"], classifier["protocol"]) == (True, "chat")
    spoken = [spoken_by(one.json, one.path) for one in fake_endpoint.requests if one.method == "POST"]
    assert spoken == [protocol, protocol, *["chat"] * 5]
    fake_endpoint.always(speaks("chat", protocol))
    app.core.reloader.nudge()
    await app.core.reloader.look()
    (classifier,) = (await app.client.get("/v1/status")).json()["classifiers"]
    assert classifier["protocol"] == protocol
    assert "classifier's weight" in (await app.decide("two"))["reason"]


def _only_chat(protocol: str) -> Behaviour:
    """A server of chat: what it has no route for is a 404, and of what it does not know it gives nothing."""
    if protocol != "labels":
        return speaks("chat")

    async def behave(exchange: Exchange) -> None:
        asked = {key: value for key, value in exchange.request.json.items() if key != "logprobs"}
        await exchange.respond(200, json.dumps(good_answer(asked, "chat")).encode())

    return behave


@pytest.mark.parametrize("protocol", ["systemone", "decisions"])
async def test_two_replicas_of_which_one_decides(open_app: OpenApp, fake_endpoint: FakeEndpoint, protocol: str) -> None:
    """Behind one endpoint they answer in turn: every decision is the model's, by chat once one of them refused."""
    app = await _open(open_app, fake_endpoint, protocol)
    turn = iter(range(1000))
    plain, deciding = speaks("chat"), speaks("chat", protocol)
    fake_endpoint.choose(lambda _request: deciding if next(turn) % 2 else plain)
    for number in range(8):
        decision = await app.decide(f"Fix {number}")
        assert (decision["source"], decision["degraded"]) == ("local_model", False)


@pytest.mark.parametrize("protocol", ["systemone", "decisions"])
async def test_a_decision_model_is_no_agent(open_app: OpenApp, fake_endpoint: FakeEndpoint, protocol: str) -> None:
    """It cannot work on a task: there is no agent `local`, and an execution is refused with the reason."""
    app = await _open(open_app, fake_endpoint, protocol)
    fake_endpoint.always(speaks(protocol))
    agents = app.core.in_use.knowledge.catalog.agent_types
    assert LOCAL_AGENT not in agents
    assert (await app.decide())["source"] == "local_model"
    refused = await app.client.post("/v1/executions", json={"instructions": "Fix it"})
    assert (refused.status_code, refused.json()["type"]) == (404, "urn:pointsman:local-agent-off")
    assert "decision model" in refused.json()["detail"]


async def _settled(app: RunningApp, protocol: str) -> None:
    async with asyncio.timeout(20):
        while (await app.client.get("/v1/status")).json()["classifiers"][0]["protocol"] != protocol:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("spoken", "protocol", "local"),
    [
        pytest.param(("systemone",), "systemone", False, id="a-decision-model"),
        pytest.param(("decisions",), "decisions", False, id="the-other-form"),
        pytest.param(("chat", "labels"), "labels", True, id="log-probabilities"),
        pytest.param(("chat", "systemone"), "systemone", True, id="both"),
    ],
)
async def test_auto_takes_what_is_spoken(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, spoken: tuple[str, ...], protocol: str, *, local: bool
) -> None:
    """What works is found after the start; whether there is an agent `local` follows from whether it chats."""
    fake_endpoint.always(speaks(*spoken))
    app = await _open(open_app, fake_endpoint, "auto")
    await _settled(app, protocol)
    assert (await app.decide())["source"] == "local_model"
    await app.core.local_endpoint.look()
    agents = app.core.in_use.knowledge.catalog.agent_types
    assert (LOCAL_AGENT in agents) is local
    created = await app.client.post("/v1/executions", json={"instructions": "Fix it"})
    assert created.status_code == (202 if local else 404)


def listed(*modalities: str) -> Behaviour:
    """The list of models as llama.cpp gives it, with what the model puts out."""
    return raw(json.dumps({"data": [{"id": "fake-model", "architecture": {"output_modalities": modalities}}]}).encode())


async def _agents(app: RunningApp, *, local: bool) -> None:
    async with asyncio.timeout(20):
        while (LOCAL_AGENT in app.core.in_use.knowledge.catalog.agent_types) is not local:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("protocol", ["chat", "labels"])
async def test_no_protocol_that_is_set_makes_an_agent_of_a_decision_model(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, protocol: str
) -> None:
    """Its server says so in its list: then there is no agent `local`, until a reload finds a model that writes text.

    Would catch: a decision model that is sent tasks because nobody changed the protocol from what it is by default.
    """
    fake_endpoint.serve_models(listed("decisions"))
    app = await _open(open_app, fake_endpoint, protocol)
    await _agents(app, local=False)
    refused = await app.client.post("/v1/executions", json={"instructions": "Fix it"})
    assert (refused.status_code, refused.json()["type"]) == (404, "urn:pointsman:local-agent-off")
    assert "decision model" in refused.json()["detail"]
    fake_endpoint.serve_models(listed("text"))
    app.core.reloader.nudge()
    await app.core.reloader.look()
    await _agents(app, local=True)
    assert (await app.client.get("/v1/status")).json()["classifiers"][0]["protocol"] == protocol


@pytest.mark.parametrize(
    ("said", "asked_again"),
    [
        pytest.param(status(404), False, id="no list"),
        pytest.param(raw(b"[]"), False, id="another list"),
        pytest.param(status(503), True, id="loading"),
        pytest.param(status(429), True, id="busy"),
    ],
)
async def test_a_server_that_does_not_say_what_it_is_keeps_its_agent(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, said: Behaviour, *, asked_again: bool
) -> None:
    """With `chat` set there is an agent `local` unless the server says otherwise; one that is busy is asked again."""
    fake_endpoint.serve_models(said)
    app = await _open(open_app, fake_endpoint, "chat", timeout_seconds=0.3)
    await app.core.local_endpoint._follow()
    assert LOCAL_AGENT in app.core.in_use.knowledge.catalog.agent_types
    fake_endpoint.serve_models(listed("decisions"))
    await app.core.local_endpoint._follow()
    assert (LOCAL_AGENT in app.core.in_use.knowledge.catalog.agent_types) is not asked_again


def test_run_says_why_a_decision_model_runs_nothing(
    fake_endpoint: FakeEndpoint, bare_environ: Mapping[str, str]
) -> None:
    """With the protocol that is set by default too: before anything is sent."""
    fake_endpoint.serve_models(listed("decisions"))
    more = {"POINTSMAN_LOCAL_MODEL__ENDPOINT": fake_endpoint.url, "POINTSMAN_LOCAL_MODEL__MODEL": "fake-model"}
    ended = pointsman("run", "Fix it", environ={**bare_environ, **more})
    assert (ended.code, ended.stdout, fake_endpoint.chats) == (1, "", [])
    assert "the endpoint has a decision model" in " ".join(ended.stderr.split())


async def test_auto_offers_no_agent_before_it_knows(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """Until the server has shown that its model writes text there is no agent `local`, and an execution is refused in
    words; once it has, there is one.

    Would catch: a decision model that is sent tasks in the seconds, or minutes, that it takes to be known as one.
    """
    fake_endpoint.always(status(503))
    app = await _open(open_app, fake_endpoint, "auto", timeout_seconds=0.3)
    refused = await app.client.post("/v1/executions", json={"instructions": "Fix it"})
    assert refused.status_code == 404
    assert "has not told yet whether its model writes text" in refused.json()["detail"]
    assert LOCAL_AGENT not in app.core.in_use.knowledge.catalog.agent_types
    fake_endpoint.always(speaks("chat", "labels"))
    await app.core.local_endpoint.look()
    assert LOCAL_AGENT in app.core.in_use.knowledge.catalog.agent_types
    assert (await app.client.post("/v1/executions", json={"instructions": "Fix it"})).status_code == 202


async def test_auto_speaks_what_works_while_it_measures_the_rest(
    open_app: OpenApp, fake_endpoint: FakeEndpoint
) -> None:
    """The first protocol that works is used at once; which one is the fastest is seen later.

    Would catch: a decision model that is asked to chat, and refuses, for as long as all protocols take to be tried.
    """
    turn, measured = iter(range(1000)), threading.Event()

    async def held(exchange: Exchange) -> None:
        while not measured.is_set():  # noqa: ASYNC110 - the endpoint has a loop of its own
            await asyncio.sleep(0.01)
        await speaks("systemone")(exchange)

    fake_endpoint.choose(lambda _request: speaks("systemone") if next(turn) == 0 else held)
    app = await _open(open_app, fake_endpoint, "auto")
    await _settled(app, "systemone")
    assert not app.core.local_endpoint._seen
    measured.set()
    async with asyncio.timeout(20):
        while not app.core.local_endpoint._seen:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (await app.client.get("/v1/status")).json()["classifiers"][0]["protocol"] == "systemone"


def test_an_evaluation_asks_by_what_auto_finds(fake_endpoint: FakeEndpoint, tmp_path: Path) -> None:
    """A decision model is evaluated as one.

    Would catch: one that is asked to chat in each task, so that what is evaluated is the forecast.
    """
    fake_endpoint.always(speaks("systemone", choice="a/m"))
    recorded = {"id": "1", "instructions": "Fix it", "outcomes": {"a/m": SOLVED, "a/n": SOLVED}}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(recorded))
    given = {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "POINTSMAN_LOCAL_MODEL__ENDPOINT": fake_endpoint.url,
        "POINTSMAN_LOCAL_MODEL__MODEL": "m",
        "POINTSMAN_LOCAL_MODEL__PROTOCOL": "auto",
    }
    tasks = str(tmp_path / "tasks.jsonl")
    run = pointsman("evaluate", tasks, "--catalog-from-tasks", "--policy", "classifier", "--json", environ=given)
    assert run.code == 0, run.stderr
    asked = [one.json for one in fake_endpoint.requests if one.path.endswith("/systemone")]
    assert "Fix it" in asked[-1]["state"]


@pytest.mark.parametrize("chat", [429, 503])
async def test_a_decision_model_that_is_busy_is_no_agent_either(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, chat: int
) -> None:
    """That it would not chat at this moment says nothing of whether it can: it is looked at again, and asked meanwhile.

    Would catch: an agent `local` that one 429 makes of a decision model, until somebody reloads.
    """
    fake_endpoint.choose(lambda request: speaks("systemone") if "/chat/" not in request.path else status(chat))
    app = await _open(open_app, fake_endpoint, "auto", timeout_seconds=0.5)
    await app.core.local_endpoint.look()
    assert LOCAL_AGENT not in app.core.in_use.knowledge.catalog.agent_types
    assert (await app.decide())["source"] == "local_model"
    fake_endpoint.always(speaks("systemone"))
    await app.core.local_endpoint._follow()
    assert "has a decision model" in app.core.local_endpoint.no_agent


async def test_auto_takes_what_every_replica_speaks(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """Of two replicas behind one endpoint one has a decision model: what the second trial does not speak is not
    taken."""
    app = await _open(open_app, fake_endpoint, "chat")
    turn = iter(range(1000))
    plain, deciding = speaks("chat", "labels"), speaks("chat", "labels", "systemone")
    fake_endpoint.choose(lambda _request: plain if next(turn) % 2 else deciding)
    trials = await app.core.local_endpoint.look()
    assert [trial.protocol for trial in trials if trial.seconds is not None] == ["labels"]


async def test_auto_keeps_to_chat_where_nothing_else_works(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """A server that answers everything as a chat, or knows no other route, is asked by chat."""
    fake_endpoint.always(raw(json.dumps(good_answer({}, "chat")).encode()))
    app = await _open(open_app, fake_endpoint, "auto")
    await app.core.local_endpoint.look()
    decision = await app.decide()
    assert (decision["source"], decision["reason"]) == ("local_model", "It fits.")


async def test_auto_follows_a_reload(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """A server that was replaced is looked at again, and the agent comes back with a model that can chat."""
    fake_endpoint.always(speaks("systemone"))
    app = await _open(open_app, fake_endpoint, "auto")
    await _settled(app, "systemone")
    await app.core.local_endpoint.look()
    assert LOCAL_AGENT not in app.core.in_use.knowledge.catalog.agent_types
    fake_endpoint.always(speaks("chat", "labels"))
    app.core.reloader.nudge()
    await app.core.reloader.look()
    await _settled(app, "labels")
    await app.core.local_endpoint.look()
    assert LOCAL_AGENT in app.core.in_use.knowledge.catalog.agent_types


@pytest.mark.parametrize("code", [429, 500, 503, 529])
async def test_auto_waits_for_a_server_that_is_loading(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, code: int
) -> None:
    """llama.cpp answers 503 while it loads its model: that says nothing of what it speaks, and it is looked at again.

    Would catch: a service that starts beside its model server and asks it by chat until somebody reloads.
    """
    fake_endpoint.always(status(code))
    app = await _open(open_app, fake_endpoint, "auto", timeout_seconds=0.3)
    await app.core.local_endpoint.look()
    fake_endpoint.always(speaks("systemone"))
    await app.core.local_endpoint._follow()
    assert (await app.client.get("/v1/status")).json()["classifiers"][0]["protocol"] == "systemone"
    assert LOCAL_AGENT not in app.core.in_use.knowledge.catalog.agent_types


@pytest.mark.parametrize("protocol", ["systemone", "decisions"])
@pytest.mark.parametrize("chat", [400, 404, 501])
async def test_a_server_that_refuses_to_chat_too_is_asked_as_before(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, protocol: str, chat: int
) -> None:
    """A proxy without its server says 404 to everything for a moment, and a decision model says no to any chat: that is
    no reason to ask it by chat from then on.

    Would catch: a decision model that one 404 of its proxy silences until somebody reloads.
    """
    app = await _open(open_app, fake_endpoint, protocol)
    fake_endpoint.choose(lambda request: status(404 if request.path.endswith(protocol) else chat))
    refused = await app.decide("one")
    assert refused["source"] == "forecast"
    assert refused["failures"][0]["detail"].startswith(f"it speaks neither {protocol} nor chat: ")
    fake_endpoint.always(speaks(protocol))
    for number in range(3):
        assert (await app.decide(f"Fix {number}"))["source"] == "local_model"
    (classifier,) = (await app.client.get("/v1/status")).json()["classifiers"]
    assert (classifier["protocol"], classifier["healthy"]) == (protocol, True)


async def test_auto_waits_for_a_server_that_is_not_there_yet(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """It is looked at again, rather than taken for one that only chats; decisions are made meanwhile."""
    fake_endpoint.stop()
    app = await _open(open_app, fake_endpoint, "auto")
    trials = await app.core.local_endpoint.look()
    assert [trial.unreached for trial in trials] == [True]
    assert (await app.decide(deadline_ms=500))["source"] == "forecast"
    fake_endpoint.always(speaks("systemone"))
    fake_endpoint.start()
    app.core.local_endpoint.background.wake()
    await _settled(app, "systemone")
