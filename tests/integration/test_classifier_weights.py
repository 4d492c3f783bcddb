"""Through the whole service: outcomes teach how much a classifier deserves, and agreement is counted."""

from pathlib import Path
from typing import Any

import pytest

from service.knowledge.classifier_weights import ClassifierWeights
from service.knowledge.knowledge import InUse
from service.store.outcomes import OutcomeChanges
from tests.support.deciding import speaks
from tests.support.fake_behaviours import prose, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, RunningApp, with_model

FORM = "local_model:systemone"
PARTIES = ("classifier", "forecast")


async def deciding(
    open_app: OpenApp, fake: FakeEndpoint, first_choice: str = "classifier", prefers: str = "gemini/flash"
) -> RunningApp:
    """A service whose classifier is a decision model that always prefers one candidate."""
    fake.always(speaks("systemone", choice=prefers))
    section = with_model(fake, protocol="systemone")
    return await open_app(local_model=section, decision={"cache_seconds": 0, "first_choice": first_choice})


async def report(app: RunningApp, decision: dict[str, Any], *, solved: bool) -> str:
    """Records an outcome of its choice; gives its id."""
    pair = {name: decision[name] for name in ("decision_id", "agent_type", "model")}
    outcome_id: str = (await app.client.post("/v1/outcomes", json={**pair, "solved": solved})).json()["outcome_id"]
    return outcome_id


@pytest.mark.parametrize(("solved", "sign"), [(True, 1), (False, -1)])
async def test_outcomes_teach_its_weight(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, *, solved: bool, sign: int
) -> None:
    """Its choices solve what the forecast did not expect, or fail: the weight follows, and with it `p_solve`."""
    app = await deciding(open_app, fake_endpoint)
    first = await app.decide("Fix bug 0")
    assert first["source"] == "local_model"
    for number in range(25):
        await report(app, await app.decide(f"Fix bug {number}"), solved=solved)
    await app.core.weights.catch_up()
    weight = app.core.in_use.weights[FORM]
    assert weight.outcomes == 25
    assert sign * weight.weight > 0.2
    assert sign * ((await app.decide("Fix bug 0"))["p_solve"] - first["p_solve"]) > 0


async def test_a_withdrawn_outcome_teaches_nothing(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """It is taken back; and what is no outcome of the decision's choice never counts."""
    app = await deciding(open_app, fake_endpoint)
    decision = await app.decide()
    outcome_id = await report(app, decision, solved=True)
    other = {"decision_id": decision["decision_id"], "agent_type": "claude", "model": "opus", "attempt": 2}
    assert (await app.client.post("/v1/outcomes", json={**other, "solved": False})).status_code == 201
    await app.core.weights.catch_up()
    assert app.core.in_use.weights[FORM].outcomes == 1
    await app.client.delete(f"/v1/outcomes/{outcome_id}")
    await app.core.weights.catch_up()
    assert FORM not in app.core.in_use.weights


async def test_another_process_learns_the_same(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """From the database alone, as after a restart or in another replica."""
    app = await deciding(open_app, fake_endpoint)
    for number in range(5):
        await report(app, await app.decide(f"Fix bug {number}"), solved=True)
    await app.core.weights.catch_up()
    fresh = InUse(app.core.in_use.knowledge)
    await ClassifierWeights(app.core.store.outcomes, fresh).catch_up()
    assert fresh.weights == app.core.in_use.weights
    assert fresh.weights[FORM].outcomes == 5


async def test_what_another_database_taught_is_forgotten(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the record begins anew, what was learned from the one before goes with it."""
    app = await deciding(open_app, fake_endpoint)
    for number in range(5):
        await report(app, await app.decide(f"Fix bug {number}"), solved=True)
    await app.core.weights.catch_up()
    assert app.core.in_use.weights[FORM].outcomes == 5
    since, pages = app.core.store.outcomes.since, iter([OutcomeChanges(cursor=0, outcomes=[], restarted=True)])

    async def replaced(cursor: int, limit: int = 500, *, reader: str = "") -> OutcomeChanges:
        del limit, reader
        return next(pages, None) or OutcomeChanges(cursor=cursor, outcomes=[])

    monkeypatch.setattr(app.core.store.outcomes, "since", replaced)
    await app.core.weights.catch_up()
    assert FORM not in app.core.in_use.weights
    monkeypatch.setattr(app.core.store.outcomes, "since", since)
    await report(app, await app.decide("Fix bug 9"), solved=True)
    await app.core.weights.catch_up()
    assert app.core.in_use.weights[FORM].outcomes == 6, "all of the record that stands now, from its beginning"


async def test_agreement_is_counted(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """Verdicts by whether the forecast agrees, and what became of it where it does not."""
    app = await deciding(open_app, fake_endpoint, prefers="claude/opus")
    decision = await app.decide()
    assert decision["forecast_choice"]["model"] != decision["model"]
    await report(app, decision, solved=True)
    text = (await app.client.get("/metrics")).text
    assert 'pointsman_classifier_verdicts_total{agrees="false",classifier="local_model"} 1.0' in text
    differing = 'pointsman_classifier_differing_outcomes_total{classifier="local_model",followed="true",solved="true"}'
    assert f"{differing} 1.0" in text


async def test_a_blend_learns_to_leave_it_alone(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """A classifier that is always wrong is tried a few times where it differs, and then no more."""
    app = await deciding(open_app, fake_endpoint, "blend", "claude/haiku")
    followed: list[bool] = []
    for number in range(30):
        decision = await app.decide(f"Fix bug {number}")
        followed.append(decision["model"] == "haiku")
        await report(app, decision, solved=decision["model"] != "haiku")
        if number % 5 == 4:
            await app.core.weights.catch_up()
    assert not any(followed[-10:])


@pytest.mark.parametrize("first_choice", ["blend", "forecast"])
async def test_the_report_sees_what_the_forecast_chose_instead(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, first_choice: str
) -> None:
    """Where the classifier was asked and not followed, that is a difference, and what became of it is the forecast's.

    Would catch: a report that can never say who was right, as it only counts decisions that a classifier made.
    """
    app = await deciding(open_app, fake_endpoint, first_choice, "claude/opus")
    for number in range(8):
        decision = await app.decide(f"Fix bug {number}")
        await report(app, decision, solved=decision["model"] != "opus")
        if number % 4 == 3:
            await app.core.weights.catch_up()
    told = (await app.client.get("/v1/report")).json()["agreement"]
    assert (told["compared"], told["agreed"]) == (8, 0)
    assert told["classifier"]["solved"] == 0
    assert told["forecast"]["solved"] == told["forecast"]["n"] == 8 - told["classifier"]["n"] > 0


@pytest.mark.parametrize("first_choice", ["classifier", "blend", "forecast"])
async def test_the_report_tells_the_classifiers_apart(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, tmp_path: Path, first_choice: str
) -> None:
    """A local model that answers some tasks and a CLI that answers the others: each is compared with the forecast and
    judged by its own outcomes, also where the forecast went first and the decision names neither.

    Would catch: a report that shows one figure for two classifiers of which one is right and one is wrong.
    """
    says = {"local_model": "claude/opus", "cli": "claude/haiku"}
    script = tmp_path / "chooser"
    script.write_text('#!/bin/sh\ncat > /dev/null\necho \'{"agent_type": "claude", "model": "haiku"}\'\n')
    script.chmod(0o755)
    fake_endpoint.choose(
        lambda request: (
            prose() if "dull task" in request.body.decode() else verdict("claude", "opus")
        )  # the CLI is asked then
    )
    app = await open_app(
        local_model=with_model(fake_endpoint, protocol="chat"),
        cli={"command": [str(script)]},
        decision={"cache_seconds": 0, "first_choice": first_choice},
    )
    expected: dict[str, dict[str, Any]] = {source: _nothing() for source in says}
    for number in range(12):
        asked = "cli" if number % 3 == 2 else "local_model"
        decision = await app.decide(f"{'A dull task' if asked == 'cli' else 'Fix the bug'}, number {number}")
        assert decision["source"] in {asked, "forecast"}
        chosen, alone = _name(decision), _name(decision["forecast_choice"])
        counts = expected[asked]
        counts["compared"] += 1
        counts["agreed"] += says[asked] == alone
        if decision["source"] == asked:
            counts["loss_usd"] += decision["forecast_choice"]["loss_usd"]
        solved = asked == "local_model"
        if says[asked] != alone and chosen in {says[asked], alone}:
            right = counts["classifier" if chosen == says[asked] else "forecast"]
            right["n"] += 1
            right["solved"] += solved
        body = {"decision_id": decision["decision_id"], "solved": solved}
        assert (await app.client.post("/v1/outcomes", json=body)).status_code == 201
    told = (await app.client.get("/v1/report")).json()["agreement"]
    found = {one.pop("source"): one for one in told["by_source"]}
    assert list(found) == ["local_model", "cli"]
    for source, one in found.items():
        assert f"the outcomes of {expected[source]['classifier']['n']} of" in one.pop("worth")
        assert one == {**expected[source], "loss_usd": pytest.approx(expected[source]["loss_usd"])}
    for name in ("compared", "agreed"):
        assert told[name] == sum(one[name] for one in found.values())
    for who in PARTIES:
        assert told[who] == {name: sum(one[who][name] for one in found.values()) for name in ("n", "solved")}
    assert (found["local_model"]["compared"], found["cli"]["compared"]) == (8, 4)
    assert sum(one[who]["n"] for one in found.values() for who in PARTIES) > 3
    page = (await app.client.get("/report")).text
    assert "Where local model answered" in page
    assert "Where cli answered" in page


async def test_one_classifier_alone_is_told_once(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """In the document it stands by itself too; for people the same figures are not shown twice."""
    app = await deciding(open_app, fake_endpoint)
    await report(app, await app.decide(), solved=True)
    told = (await app.client.get("/v1/report")).json()["agreement"]
    (only,) = told.pop("by_source")
    assert only == {**told, "source": "local_model"}
    page = (await app.client.get("/report")).text
    assert "They agreed on" in page
    assert "Where local model answered" not in page


def _name(one: dict[str, Any]) -> str:
    return f"{one['agent_type']}/{one['model']}"


def _nothing() -> dict[str, Any]:
    return {"compared": 0, "agreed": 0, "loss_usd": 0.0, **{who: {"n": 0, "solved": 0} for who in PARTIES}}
