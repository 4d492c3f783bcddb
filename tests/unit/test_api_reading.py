"""What can be read: decisions, catalog, status, health."""

from typing import Any

from tests.support.fake_behaviours import status, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, RunningApp, with_model

DECISIONS = "/v1/decisions"


async def listed(app: RunningApp, **query: str | int) -> list[dict[str, Any]]:
    """The decisions that a query finds."""
    response = await app.client.get(DECISIONS, params=query)
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["decisions"]
    found: list[dict[str, Any]] = response.json()["decisions"]
    return found


async def test_decisions_are_listed_newest_first(plain_app: RunningApp) -> None:
    """The list has every decision just as it was answered, newest first, and at once."""
    made = [await plain_app.decide(f"Task {i}", task_id=f"t{i}", name="N", labels={"repo": "r"}) for i in range(3)]
    entries = await listed(plain_app)
    assert [entry["decision"] for entry in entries] == made[::-1]
    assert [entry["task_id"] for entry in entries] == ["t2", "t1", "t0"]
    assert entries[0]["name"] == "N"
    assert entries[0]["labels"] == {"repo": "r"}
    assert entries[0]["decided_at"].endswith("Z")


async def test_pages_follow_each_other(plain_app: RunningApp) -> None:
    """`limit` and `before`, which is exclusive, walk through the list without a gap and without a repetition."""
    made = [(await plain_app.decide(f"Task {i}"))["decision_id"] for i in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while page := await listed(plain_app, **query):
        assert len(page) <= 2
        seen += [entry["decision"]["decision_id"] for entry in page]
        query["before"] = seen[-1]
    assert seen == made[::-1]


async def test_decisions_are_found_by_task_and_agent(plain_app: RunningApp) -> None:
    """`task_id` and `agent_type` narrow the list, also together."""
    for agent, model in (("claude", "opus"), ("gemini", "flash")):
        await plain_app.decide(task_id="a", agent_type=agent, model=model)
    await plain_app.decide(task_id="b", agent_type="claude", model="opus")
    assert len(await listed(plain_app, task_id="a")) == 2
    assert len(await listed(plain_app, agent_type="claude")) == 2
    assert len(await listed(plain_app, task_id="a", agent_type="claude")) == 1
    assert await listed(plain_app, task_id="c") == []


async def test_one_decision_has_explanation_and_outcomes(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """A single decision is read with its explanation, asked for or not, and its outcomes."""
    fake_endpoint.always(verdict("claude", "opus"))
    app = await open_app(local_model=with_model(fake_endpoint))
    decision = await app.decide("Fix the flux capacitor")
    outcome = {"agent_type": "claude", "model": "opus", "solved": False, "decision_id": decision["decision_id"]}
    await app.client.post("/v1/outcomes", json=outcome)
    stored = (await app.client.get(f"{DECISIONS}/{decision['decision_id']}")).json()
    assert stored["decision"] == decision
    assert "flux capacitor" in stored["explanation"]["prompt"]
    assert '"opus"' in stored["explanation"]["reply"]
    assert [recorded["outcome"]["solved"] for recorded in stored["outcomes"]] == [False]


async def test_an_explained_decision_is_stored_once_explained(plain_app: RunningApp) -> None:
    """That the caller asked for an explanation does not change what is listed."""
    decision = await plain_app.decide(explain=True)
    [entry] = await listed(plain_app)
    assert "explanation" not in entry["decision"]
    assert entry["decision"]["decision_id"] == decision["decision_id"]


async def test_no_such_decision_is_a_404(plain_app: RunningApp) -> None:
    """An id that no decision has, or that none can have, is not found."""
    for decision_id in ("0192f0c1-2345-7000-8000-000000000000", "x", "%00", "A" * 5000):
        response = await plain_app.client.get(f"{DECISIONS}/{decision_id}")
        assert (response.status_code, response.json()["type"]) == (404, "urn:pointsman:not-found")
        assert len(response.text) < 1000


async def test_the_catalog_shows_each_pair(plain_app: RunningApp) -> None:
    """Every agent and model is there with its published figures, what is learned of it, and from how many outcomes."""
    document = (await plain_app.client.get("/v1/catalog")).json()
    assert [agent["agent_type"] for agent in document["agents"]] == ["claude", "gemini"]
    claude = document["agents"][0]
    assert claude["quota_pool"] == "anthropic"
    opus = claude["models"][0]
    assert (opus["model"], opus["context_tokens"], opus["inputs"]) == ("opus", 200000, ["text", "image"])
    forecast = opus["forecast"]
    assert (forecast["prior_solve_rate"], forecast["prior_cost_usd"], forecast["n"]) == (0.7, 0.8, 0)
    assert 0 < forecast["learned_solve_rate"] < 1
    assert document["versions"]["catalog"]


async def test_local_is_there_only_with_an_endpoint(
    open_app: OpenApp, plain_app: RunningApp, fake_endpoint: FakeEndpoint
) -> None:
    """The agent `local` registers itself when an endpoint is set, and only then."""

    async def agents(app: RunningApp) -> list[str]:
        return [agent["agent_type"] for agent in (await app.client.get("/v1/catalog")).json()["agents"]]

    assert "local" not in await agents(plain_app)
    assert "local" in await agents(await open_app(local_model=with_model(fake_endpoint)))


async def test_status_says_what_answers_now(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """`answering_with` is the best source that can answer now: the model, and the forecast once its breaker opened."""
    app = await open_app(local_model=with_model(fake_endpoint), decision={"cache_seconds": 0})

    async def now() -> dict[str, Any]:
        document: dict[str, Any] = (await app.client.get("/v1/status")).json()
        return document

    before = await now()
    assert before["answering_with"] == "local_model"
    assert before["ready"] is True
    [model] = before["classifiers"]
    assert (model["source"], model["name"], model["healthy"]) == ("local_model", "fake-model", True)
    assert model["breaker"]["state"] == "closed"
    fake_endpoint.always(status(500))
    for number in range(3):
        await app.decide(f"Task {number}")
    after = await now()
    assert after["answering_with"] == "forecast"
    assert after["classifiers"][0]["healthy"] is False
    assert after["classifiers"][0]["breaker"]["state"] == "open"
    assert 0 < after["classifiers"][0]["breaker"]["rests_for_seconds"] <= 30
    decision = await app.decide("Task 4")
    assert (decision["source"], decision["degraded"]) == ("forecast", True)
    assert decision["failures"][0]["problem"] == "resting"


async def test_a_breaker_obeys_retry_after(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """A server that asks to be left alone is left alone for that long, and the status says for how long."""
    app = await open_app(local_model=with_model(fake_endpoint))
    fake_endpoint.always(status(429, headers={"Retry-After": "25"}))
    await app.decide(deadline_ms=2000)
    breaker = (await app.client.get("/v1/status")).json()["classifiers"][0]["breaker"]
    assert breaker["state"] == "open"
    assert 20 < breaker["rests_for_seconds"] <= 25


async def test_status_without_classifiers_is_the_forecasts(plain_app: RunningApp) -> None:
    """With nothing configured the forecast answers, and the status says that the store records."""
    document = (await plain_app.client.get("/v1/status")).json()
    assert (document["answering_with"], document["classifiers"]) == ("forecast", [])
    assert document["queue_depth"] == 0
    assert document["store"]["recording"] is True
    assert set(document["versions"]) == {"catalog", "prompt", "service"}


async def test_readiness_follows_the_life_of_the_service(plain_app: RunningApp) -> None:
    """Ready once started, not ready once it shuts down; alive all the time."""
    assert (await plain_app.client.get("/readyz")).status_code == 200
    plain_app.core.ready = False
    assert (await plain_app.client.get("/readyz")).status_code == 503
    assert (await plain_app.client.get("/healthz")).json() == {"status": "alive"}


async def test_readiness_does_not_depend_on_a_model(open_app: OpenApp) -> None:
    """A model server that is away does not make the service unready: it still decides."""
    app = await open_app(local_model={"endpoint": "http://127.0.0.1:9/v1", "model": "m"})
    assert (await app.client.get("/readyz")).status_code == 200
    decision = await app.decide(deadline_ms=300)
    assert (decision["source"], decision["degraded"]) == ("forecast", True)
