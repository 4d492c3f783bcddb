"""The report: what was decided and what came of it, the same over HTTP, on the page and in the terminal."""

from datetime import UTC, datetime

import pytest

from service.base.shares import wilson
from service.contract.errors import InvalidInputError
from service.observe.report import Question, question_of, report_of
from tests.support.http_fixtures import OpenApp, RunningApp


async def reported(app: RunningApp, decision_id: str, *, solved: bool, **more: object) -> None:
    """An outcome of that decision's choice."""
    body = {"decision_id": decision_id, "solved": solved, **more}
    answer = await app.client.post("/v1/outcomes", json=body)
    assert answer.status_code == 201, answer.text


async def test_nothing_recorded_is_a_report_of_nothing(plain_app: RunningApp) -> None:
    """An empty store: zeros and empty lists, and null where a share of nothing would stand."""
    report = (await plain_app.client.get("/v1/report")).json()
    assert (report["decisions"], report["attempts"], report["solved"]) == (0, 0, 0)
    assert report["spent"] == {"attempts_usd": 0.0, "priced": 0, "classifying_usd": 0.0, "usd_per_solved": None}
    assert (report["overall"], report["agreement"], report["baseline"]) == (None, None, None)
    assert (report["by_step"], report["money"]) == ([], [])


async def test_what_was_said_stands_beside_what_was_seen(plain_app: RunningApp) -> None:
    """By step of the task, by kind and by candidate; what is spent is divided by what is solved."""
    first = await plain_app.decide()
    pair = {"agent_type": first["agent_type"], "model": first["model"]}
    again = await plain_app.decide(attempts=[{**pair, "result": "failed"}])
    await reported(plain_app, first["decision_id"], solved=False, cost_usd=0.5, kind="issue")
    await reported(plain_app, again["decision_id"], solved=True, cost_usd=1.0, kind="issue")
    report = (await plain_app.client.get("/v1/report?days=1")).json()
    assert (report["decisions"], report["attempts"], report["solved"]) == (2, 2, 1)
    assert report["spent"]["attempts_usd"] == pytest.approx(1.5)
    assert report["spent"]["usd_per_solved"] == pytest.approx(1.5)
    steps = {one["step"]: one for one in report["by_step"]}
    assert {step: one["n"] for step, one in steps.items()} == {1: 1, 2: 1}
    assert steps[1]["said"] == pytest.approx(first["p_solve"])
    assert steps[2]["said"] == pytest.approx(again["p_solve"])
    assert (steps[1]["seen"], steps[2]["seen"]) == (0.0, 1.0)
    assert [(one["kind"], one["n"]) for one in report["by_kind"]] == [("issue", 2)]
    assert sum(one["n"] for one in report["by_candidate"]) == 2
    assert sum(row["cost_usd"] for row in report["money"]) == pytest.approx(1.5)
    assert sum(row["decisions"] for row in report["money"]) == 2


async def test_what_was_withdrawn_does_not_count(plain_app: RunningApp) -> None:
    """As nothing is learned from it."""
    decision = await plain_app.decide()
    body = {"decision_id": decision["decision_id"], "solved": True, "cost_usd": 1}
    outcome = (await plain_app.client.post("/v1/outcomes", json=body)).json()
    await plain_app.client.delete(f"/v1/outcomes/{outcome['outcome_id']}")
    report = (await plain_app.client.get("/v1/report")).json()
    assert (report["attempts"], report["spent"]["attempts_usd"]) == (0, 0.0)


async def test_a_baseline_is_an_estimate_beside_the_plans(plain_app: RunningApp) -> None:
    """By the forecast over the decisions' own tasks, and called one; those that it could not take are counted."""
    for number in range(5):
        await plain_app.decide(f"Fix the login, case {number}")
    await plain_app.decide("Read the scan", require={"inputs": ["pdf"]})
    report = (await plain_app.client.get("/v1/report?baseline=claude/opus")).json()
    baseline = report["baseline"]
    assert baseline["estimate"] is True
    assert (baseline["sample"], baseline["not_eligible"]) == (5, 1)
    assert 0.5 < baseline["baseline"]["p_solve"] < 0.9
    assert baseline["baseline"]["cost_usd"] > baseline["plans"]["cost_usd"] > 0


@pytest.mark.parametrize(
    ("query", "place"),
    [
        pytest.param("days=0", "query days", id="no-span"),
        pytest.param("days=nan", "query days", id="not-a-number"),
        pytest.param("days=1e9", "query days", id="too-long"),
        pytest.param("baseline=opus", "query baseline", id="no-pair"),
        pytest.param("baseline=claude/none", "query baseline", id="unknown-pair"),
        pytest.param("since=1", "query since", id="unknown"),
        pytest.param("days=1&days=2", "query days", id="twice"),
    ],
)
async def test_a_wrong_question_names_the_place(plain_app: RunningApp, query: str, place: str) -> None:
    """As everywhere."""
    await plain_app.decide()
    answer = await plain_app.client.get(f"/v1/report?{query}")
    assert answer.status_code == 400
    assert place in answer.json()["detail"]


def test_a_span_is_given_in_days() -> None:
    """A week where none is named."""
    assert question_of({}) == Question(days=7.0)
    assert question_of({"days": "0.5", "baseline": "a/b/c@high"}) == Question(days=0.5, baseline="a/b/c@high")
    with pytest.raises(InvalidInputError):
        question_of({"baseline": "/x"})


def test_an_interval_holds_for_few_attempts_too() -> None:
    """Wilson's: never outside 0 to 1, and never empty; values as published for 1 of 10 (Newcombe 1998)."""
    assert wilson(0, 1)[0] == 0.0
    assert wilson(1, 1)[1] == 1.0
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-4)


async def test_the_span_leaves_out_what_is_older(open_app: OpenApp) -> None:
    """Seen from a year later a week is empty, and ten years are not."""
    app = await open_app()
    await app.decide()
    later = datetime(2036, 1, 1, tzinfo=UTC)
    assert (await report_of(app.core.store, Question(days=7), later)).decisions == 0
    assert (await report_of(app.core.store, Question(days=3660), later)).decisions == 1


async def test_a_baseline_that_is_new_in_the_catalog_is_no_mistake_on_the_page(open_app: OpenApp) -> None:
    """The page offers it, and says that no forecast of the span speaks of it; what nobody knows is refused."""
    app = await open_app()
    await app.decide("Fix the login", require={"agent_types": ["gemini"]})
    page = await app.client.get("/report?baseline=claude/opus")
    assert page.status_code == 200
    assert "No forecast of this span speaks of claude/opus" in page.text
    assert (await app.client.get("/report?baseline=claude/none")).status_code == 400
