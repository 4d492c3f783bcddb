"""Through the whole service: each fault of a model server degrades one decision, and the very next one is well."""

import asyncio
import re
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from service.contract.catalog import LOCAL_AGENT
from tests.support.fake_behaviours import drop_when_reused, hang, slow, status, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_exchange import Behaviour
from tests.support.faults import BREAKS, HANGS, PROBLEMS, USELESS, WRAPPED, good, program_faults, waits
from tests.support.http_fixtures import OpenApp, RunningApp, with_model

NO_OPUS = {"exclude": [{"agent_type": "claude", "model": "opus"}]}
DEADLINE_MS = 1500
"""Above the patience of the local model's classifier: a time-out within it counts against the server."""

OF_A_CHAT = {
    **PROBLEMS,
    "invalid-utf8": "not-utf8",
    "a-mib-of-brackets": "no-json",
    "empty-choices": "no-choices",
    "drops-when-reused": "no-content",
    "prose": "no-json",
    "truncated": "truncated",
    "only-thoughts": "no-json",
    "wrong-types": "wrong-shape",
    "unknown-candidate": "unknown-candidate",
    "ineligible-candidate": "ineligible-candidate",
    "two-verdicts": "ambiguous",
}
LOCAL_STAYS = {"a-mib-of-brackets", "400", "drops-when-reused", *USELESS}
"""After these the endpoint is known to answer, so that agent `local` may still be chosen."""


async def _open(open_app: OpenApp, fake: FakeEndpoint, **more: Any) -> RunningApp:  # noqa: ANN401 - settings
    section = with_model(fake, **more)
    return await open_app(local_model=section, decision={"cache_seconds": 0})


@pytest.mark.parametrize("name", [*HANGS, *BREAKS, *USELESS])
async def test_a_fault_degrades_one_decision(open_app: OpenApp, fake_endpoint: FakeEndpoint, name: str) -> None:
    """200 by the forecast, with the fault's name in `failures`; the next request is the model's again.

    Would catch: a fault that reaches the caller as a 500, a verdict read out of rubbish, a slot or connection that the
    fault keeps, a decision that does not say that it is degraded.
    """
    deadline_ms, seconds = (DEADLINE_MS, 1.2) if name in HANGS else (30_000, 20.0)
    app = await _open(open_app, fake_endpoint, max_concurrency=1, timeout_seconds=seconds)
    fake_endpoint.always({**HANGS, **BREAKS, **USELESS}[name])
    started = time.monotonic()
    decision = await app.decide(require=NO_OPUS, deadline_ms=deadline_ms)
    assert time.monotonic() - started < deadline_ms / 1000 + 5.0, "a guard against hanging, not a measurement"
    assert (decision["source"], decision["degraded"]) == ("forecast", True)
    assert [(f["source"], f["problem"]) for f in decision["failures"]] == [("local_model", OF_A_CHAT[name])]
    assert decision["timings_ms"]["local_model"] > 0
    named = {(step["agent_type"], step["model"]) for step in decision["plan"]}
    assert ("claude", "opus") not in named
    why = [entry["why"] for entry in decision["excluded"] if entry["agent_type"] == LOCAL_AGENT]
    if name in LOCAL_STAYS:
        assert why == []
    else:
        assert why == [f"its endpoint does not serve now ({OF_A_CHAT[name]})"]
        assert not any(agent == LOCAL_AGENT for agent, _ in named)
    fake_endpoint.always(good())
    healthy = await app.decide(require=NO_OPUS, deadline_ms=10_000)
    assert (healthy["source"], healthy["degraded"], healthy["model"]) == ("local_model", False, "haiku")


@pytest.mark.parametrize("name", WRAPPED)
async def test_a_wrapped_verdict_is_no_fault(open_app: OpenApp, fake_endpoint: FakeEndpoint, name: str) -> None:
    """A right answer in unusual clothes counts: would catch a parser that wants bare JSON."""
    app = await _open(open_app, fake_endpoint)
    fake_endpoint.always(WRAPPED[name])
    decision = await app.decide(require=NO_OPUS)
    assert (decision["source"], decision["degraded"], decision["model"]) == ("local_model", False, "haiku")


@pytest.mark.parametrize("fault", ["never-answers", "500", "prose"])
async def test_strict_says_it_by_a_problem(open_app: OpenApp, fake_endpoint: FakeEndpoint, fault: str) -> None:
    """With `strict` the fault is the documented problem with its `failures`: would catch a silent fallback."""
    app = await _open(open_app, fake_endpoint)
    fake_endpoint.always({**HANGS, **BREAKS, **USELESS}[fault])
    response = await app.classify(strict=True, require=NO_OPUS, deadline_ms=DEADLINE_MS)
    expected = (504, "deadline-exceeded") if fault == "never-answers" else (502, "classifier-failed")
    problem = response.json()
    assert (response.status_code, problem["type"]) == (expected[0], f"urn:pointsman:{expected[1]}")
    assert [f["problem"] for f in problem["failures"]] == [OF_A_CHAT[fault]]


@pytest.mark.parametrize("name", waits())
async def test_retry_after_rests_the_classifier(open_app: OpenApp, fake_endpoint: FakeEndpoint, name: str) -> None:
    """A Retry-After that can be believed rests the classifier for just that time, any other is as if it were not there.

    Would catch: a wait inside the request, a rest of a year, a NaN that never ends.
    """
    app = await _open(open_app, fake_endpoint)
    fake_endpoint.always(waits()[name])
    # less than what is asked for, and more than the first wait where nothing is
    decision = await app.decide(require=NO_OPUS, deadline_ms=900)
    assert decision["failures"][0]["problem"] == f"http-{name[:3]}"
    (classifier,) = (await app.client.get("/v1/status")).json()["classifiers"]
    if name[4:] in {"seconds", "date"}:
        longest = {"seconds": 2.0, "date": 3.0}[name[4:]]
        assert classifier["breaker"]["state"] == "open"
        assert longest - 2.0 < classifier["breaker"]["rests_for_seconds"] <= longest
    else:
        assert classifier["breaker"]["state"] == "closed"


async def test_a_rest_ends_when_the_server_said(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """Not one request before Retry-After is over, one right after it: would catch a rest by the breaker's own steps."""
    app = await _open(open_app, fake_endpoint)
    fake_endpoint.always(status(429, headers={"Retry-After": "1"}))
    await app.decide(require=NO_OPUS, deadline_ms=900)
    asked = fake_endpoint.chats[-1].time
    fake_endpoint.always(good())
    while (decision := await app.decide(require=NO_OPUS))["source"] != "local_model":
        assert decision["failures"][0]["problem"] == "resting"
        assert time.monotonic() - asked < 5.0
        await asyncio.sleep(0.01)
    assert 1.0 <= fake_endpoint.chats[-1].time - asked < 1.5
    assert len(fake_endpoint.chats) == 2


@pytest.mark.parametrize("code", [429, 503])
async def test_one_waits_for_a_retry_after_and_the_others_do_not(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, code: int
) -> None:
    """With a deadline far behind it, whoever was told first asks once more after just that time. Meanwhile the breaker
    is open and nobody else asks: would catch callers who wait it out one by one while the breaker is closed, each
    asking a server that wants to be left alone."""
    app = await _open(open_app, fake_endpoint)
    fake_endpoint.then(status(code, headers={"Retry-After": "1"}))
    fake_endpoint.always(good())
    first = asyncio.create_task(app.decide(require=NO_OPUS, deadline_ms=20_000))
    while (state := (await app.client.get("/v1/status")).json())["answering_with"] != "forecast":  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)
    assert state["classifiers"][0]["breaker"]["state"] == "open"
    for number in range(3):
        beside = await app.decide(f"Beside {number}", deadline_ms=20_000)
        assert [f["problem"] for f in beside["failures"]] == ["resting"]
    assert len(fake_endpoint.chats) == 1
    decision = await first
    assert (decision["source"], decision["degraded"]) == ("local_model", False)
    assert decision["timings_ms"]["local_model"] > 1000
    told, again = fake_endpoint.chats
    assert 1.0 <= again.time - told.time < 2.0


async def test_a_retry_after_is_waited_for_once(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """A second one ends the turn: would catch a caller who waits until its deadline, again and again."""
    app = await _open(open_app, fake_endpoint)
    fake_endpoint.always(status(429, headers={"Retry-After": "1"}))
    decision = await app.decide(require=NO_OPUS, deadline_ms=20_000)
    assert (decision["source"], [f["problem"] for f in decision["failures"]]) == ("forecast", ["http-429"])
    assert len(fake_endpoint.chats) == 2


def _tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType] - pyOpenSSL, not here
    return context


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("http://127.0.0.1:9/v1", "connection-refused", id="refuses"),
        pytest.param("http://no-such-host.invalid/v1", "dns-failed", id="dns"),
        pytest.param("tls", "tls-failed", id="tls"),
    ],
)
async def test_no_connection_degrades_a_decision(open_app: OpenApp, url: str, problem: str) -> None:
    """Without any connection the forecast chooses, by the deadline: would catch retries that outlast it."""
    with FakeEndpoint(tls=_tls(trustme.CA())) as untrusted:
        section = {"endpoint": untrusted.url if url == "tls" else url, "model": "m"}
        app = await open_app(local_model=section, decision={"cache_seconds": 0})
        decision = await app.decide(deadline_ms=700)
    assert (decision["source"], [f["problem"] for f in decision["failures"]]) == ("forecast", [problem])


async def test_a_server_that_comes_back_is_asked_again(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """Down, then up on the same port: the next request is the model's: would catch dead connections used again."""
    app = await _open(open_app, fake_endpoint)
    fake_endpoint.always(good())
    assert (await app.decide())["source"] == "local_model"
    fake_endpoint.stop()
    assert (await app.decide(deadline_ms=300))["failures"][0]["problem"] == "connection-refused"
    fake_endpoint.start()
    assert (await app.decide())["source"] == "local_model"


async def test_a_renewed_certificate_is_trusted(
    open_app: OpenApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a certificate that nobody knows the very next request to the same server with a good one is the model's:
    would catch a failed handshake that is remembered."""
    known = trustme.CA()
    known.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with FakeEndpoint(tls=_tls(trustme.CA())) as stranger:
        app = await _open(open_app, stranger)
        assert (await app.decide(deadline_ms=700))["failures"][0]["problem"] == "tls-failed"
    with FakeEndpoint(tls=_tls(known), port=stranger.port) as renewed:
        renewed.always(good())
        assert (await app.decide())["source"] == "local_model"


async def test_a_name_that_can_be_resolved_again_is_asked_again(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure of DNS the very next request is the model's: would catch a name that stays unresolved.

    The look-up is replaced, for want of a name server.
    """
    resolve, down = socket.getaddrinfo, [True]

    def look_up(host: bytes | str, *more: Any, **options: Any) -> Any:  # noqa: ANN401 - as socket has it
        ours = host in {b"model.test", "model.test"}
        if ours and down:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve("127.0.0.1" if ours else host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    fake_endpoint.always(good())
    section = {"endpoint": f"http://model.test:{fake_endpoint.port}/v1", "model": "m"}
    app = await open_app(local_model=section, decision={"cache_seconds": 0})
    assert (await app.decide(deadline_ms=700))["failures"][0]["problem"] == "dns-failed"
    down.clear()
    assert (await app.decide())["source"] == "local_model"


@pytest.mark.alone  # a backoff is a second, so the deadline is less
async def test_a_connection_dropped_behind_an_answer_costs_nothing(
    open_app: OpenApp, fake_endpoint: FakeEndpoint
) -> None:
    """A server that drops its kept-alive connections when they are used again is asked on a fresh one: would catch a
    decision that is degraded, or late by a backoff, for each connection that died in between."""
    app = await _open(open_app, fake_endpoint)
    fake_endpoint.always(drop_when_reused(good()))
    for number in range(5):
        decision = await app.decide(f"Fix page {number}", deadline_ms=900)
        assert (decision["source"], decision["degraded"]) == ("local_model", False)


async def test_the_state_is_told_at_each_moment(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """`/v1/status` and the metrics follow the breaker: closed, open, half-open with one probe, closed.

    `answering_with` is the source that the next decision has. Would catch a state that is only updated by requests,
    several probes at once, and a half-open breaker that says it is open.
    """
    app = await _open(open_app, fake_endpoint)

    async def state() -> tuple[str, str, int]:
        document = (await app.client.get("/v1/status")).json()
        found = re.search(r'breaker_state\{classifier="local_model"\} (\d)', (await app.client.get("/metrics")).text)
        assert found is not None
        return document["answering_with"], document["classifiers"][0]["breaker"]["state"], int(found[1])

    fake_endpoint.always(status(500))
    assert await state() == ("local_model", "closed", 0)
    for _ in range(3):
        await app.decide(deadline_ms=5000)
    assert await state() == ("forecast", "open", 2)
    asked = len(fake_endpoint.chats)
    assert (await app.decide())["failures"][0]["problem"] == "resting"
    assert len(fake_endpoint.chats) == asked == 3
    await asyncio.sleep(2.05)
    assert await state() == ("local_model", "half-open", 1)
    fake_endpoint.always(slow(good(), 0.3))
    probe = asyncio.create_task(app.decide("Probe"))
    await asyncio.to_thread(fake_endpoint.wait_for, lambda fake: len(fake.chats) == asked + 1)
    assert await state() == ("forecast", "half-open", 1)
    beside = [await app.decide(f"Beside {number}") for number in range(5)]
    assert {decision["failures"][0]["problem"] for decision in beside} == {"resting"}
    assert ((await probe)["source"], len(fake_endpoint.chats)) == ("local_model", asked + 1)
    assert await state() == ("local_model", "closed", 0)


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [pytest.param(status(500), "http-500", id="500"), pytest.param(hang(), "timeout", id="hangs")],
)
async def test_the_program_is_not_asked_about_a_local_agent_that_is_down(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, tmp_path: Path, behaviour: Behaviour, problem: str
) -> None:
    """The second classifier's brief has no pair of agent `local`, nor has the plan: would catch tasks that are
    dispatched to an endpoint which has just failed."""
    seen = tmp_path / "seen"
    program = tmp_path / "program.sh"
    program.write_text(f'#!/bin/sh\ncat > {seen}\necho \'{{"agent_type": "local", "model": "fake-model"}}\'\n')
    program.chmod(0o700)
    app = await open_app(
        local_model=with_model(fake_endpoint, timeout_seconds=1.2), cli={"command": [str(program)]}
    )  # fmt: skip
    fake_endpoint.always(behaviour)
    decision = await app.decide(deadline_ms=20_000)
    assert [f["problem"] for f in decision["failures"]] == [problem, "ineligible-candidate"]
    assert "Eligible: only c1, c2, c3\n" in seen.read_text()
    assert (LOCAL_AGENT, "fake-model") not in {(s["agent_type"], s["model"]) for s in decision["plan"]}


async def test_a_local_agent_that_is_down_is_taken_where_nothing_else_may(
    open_app: OpenApp, fake_endpoint: FakeEndpoint
) -> None:
    """`local_only`, and `local` asked for by name, keep it: would catch a 503 where the contract promises a 200."""
    app = await _open(open_app, fake_endpoint)
    fake_endpoint.always(status(500))
    for _ in range(3):
        await app.decide()
    for limits in (
        {"require": {"local_only": True}},
        {"agent_type": LOCAL_AGENT},
        {"agent_type": LOCAL_AGENT, "model": "fake-model"},
    ):
        decision = await app.decide("Fix it", **limits)
        assert (decision["agent_type"], decision["model"]) == (LOCAL_AGENT, "fake-model")
    other = await app.decide(agent_type="claude", model="opus")
    assert not any(step["agent_type"] == LOCAL_AGENT for step in other["plan"])
    assert "its endpoint does not serve now (resting)" in [entry["why"] for entry in other["excluded"]]


async def test_a_model_that_only_answers_badly_still_runs_tasks(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """Useless replies rest the classifier and leave the agent on offer: hostile tasks must not take it from others."""
    app = await _open(open_app, fake_endpoint)
    fake_endpoint.always(verdict("nobody", "nothing"))
    for _ in range(12):
        await app.decide()
    decision = await app.decide()
    assert decision["failures"][0]["problem"] == "resting"
    assert not decision["excluded"]


@pytest.mark.parametrize("name", ["missing", "not-executable", "fails-with-valid-json", "invalid-utf8", "hangs"])
async def test_a_fault_of_the_program_degrades_one_decision(open_app: OpenApp, tmp_path: Path, name: str) -> None:
    """Each of them is a 200 by the forecast and says what happened; the rest are proven in test_process.py."""
    app = await open_app(cli={"command": list(program_faults(tmp_path)[name]), "timeout_seconds": 1.5})
    answering = (await app.client.get("/v1/status")).json()["answering_with"]
    assert answering == ("forecast" if name in {"missing", "not-executable"} else "cli")
    decision = await app.decide(deadline_ms=5000)
    problems = {
        "missing": "not-found",
        "not-executable": "not-executable",
        "fails-with-valid-json": "exit-status",
        "invalid-utf8": "bad-envelope",
        "hangs": "timeout",
    }
    assert (decision["source"], [f["problem"] for f in decision["failures"]]) == ("forecast", [problems[name]])
