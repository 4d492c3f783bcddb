"""The kind of a task in requests, verdicts, answers, outcomes and the catalog, over HTTP."""

import pytest

from tests.support.fake_behaviours import verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, RunningApp, with_model

CATALOG = """
[[agent]]
type = "claude"
[[agent.model]]
id = "opus"
solve_rate = 0.8
cost_usd = 1.0
kinds.testing = { solve_rate = 0.3, cost_usd = 2.0 }
[[agent.model]]
id = "haiku"
solve_rate = 0.5
cost_usd = 0.9
kinds.testing = { solve_rate = 0.9, cost_usd = 0.1, minutes = 4 }
[[kind]]
id = "issue"
description = "Resolve a described issue in code that exists."
examples = ["fix the crash when the list is empty"]
[[kind]]
id = "testing"
description = "Write or extend tests for code that exists."
examples = ["write unit tests for the parser"]
"""

ABOUT_TESTS = "Write unit tests for the invoice module"


@pytest.fixture
async def app(open_app: OpenApp) -> RunningApp:
    """A service of two models that are good at different kinds, without a classifier."""
    return await open_app(catalog_text=CATALOG)


async def test_the_text_tells_the_kind_and_the_kind_the_choice(app: RunningApp) -> None:
    """With nobody else to tell it, the text does, and who is good at that kind is chosen."""
    decision = await app.decide(instructions=ABOUT_TESTS)
    assert (decision["kind"]["id"], decision["kind"]["source"]) == ("testing", "text")
    assert decision["kind"]["probabilities"]["testing"] > 0.9
    assert sum(decision["kind"]["probabilities"].values()) == pytest.approx(1.0, abs=0.01)
    assert decision["model"] == "haiku"
    assert decision["p_solve"] == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("told", [{"kind": "issue"}, {"labels": {"kind": "issue"}}], ids=["field", "label"])
async def test_the_caller_knows_better_than_the_text(app: RunningApp, told: dict[str, object]) -> None:
    """A kind that the caller tells is taken as it is, as a field or as a label."""
    decision = await app.decide(instructions=ABOUT_TESTS, value_usd=100, **told)
    assert decision["kind"] == {"id": "issue", "source": "caller", "probabilities": {"issue": 1.0}}
    assert decision["model"] == "opus"
    assert decision["failures"] == []


async def test_an_unknown_kind_is_noted_and_found_out(app: RunningApp) -> None:
    """A misspelt kind is no error; the answer tells that it was not used."""
    decision = await app.decide(instructions=ABOUT_TESTS, kind="tests")
    assert [(one["source"], one["problem"]) for one in decision["failures"]] == [("request", "unknown-kind")]
    assert "issue, testing" in decision["failures"][0]["detail"]
    assert decision["kind"]["source"] == "text"


async def test_a_title_without_a_text_is_read(app: RunningApp) -> None:
    """A task of a title and a full stop is taken for what the title says."""
    decision = await app.decide(name=ABOUT_TESTS, instructions=".")
    assert decision["kind"]["id"] == "testing"


async def test_a_catalog_without_kinds_answers_null(plain_app: RunningApp) -> None:
    """No kinds, no kind; a label of that name is a label like others."""
    decision = await plain_app.decide(labels={"kind": "bug"})
    assert (decision["kind"], decision["failures"]) == (None, [])
    assert [one["problem"] for one in (await plain_app.decide(kind="bug"))["failures"]] == ["unknown-kind"]


async def test_a_classifiers_word_counts_more_than_the_text(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """A verdict carries the kind; what the text says keeps a fifth. A kind that no catalog has is ignored."""
    app = await open_app(catalog_text=CATALOG, local_model=with_model(fake_endpoint), decision={"cache_seconds": 0})
    fake_endpoint.then(
        verdict("claude", "opus", kind="Issue"),
        verdict("claude", "opus", kind="nonsense"),
        verdict("claude", "opus", kind=7),
    )
    first, second, third = [await app.decide(instructions=ABOUT_TESTS) for _ in range(3)]
    assert (first["kind"]["id"], first["kind"]["source"]) == ("issue", "local_model")
    assert 0.8 <= first["kind"]["probabilities"]["issue"] < 0.85
    assert second["kind"]["source"] == third["kind"]["source"] == "text"
    asked = fake_endpoint.requests[-1].json["messages"][0]["content"]
    assert "testing | Write or extend tests for code that exists" in asked
    assert '"kind"' in asked


async def test_outcomes_teach_their_kind_by_the_decision_alone(app: RunningApp) -> None:
    """What is reported by decision_id is learned in the kind that the decision took the task for."""
    for _ in range(12):
        decision = await app.decide(instructions=ABOUT_TESTS)
        body = {"decision_id": decision["decision_id"], "solved": False, "cost_usd": 0.5}
        assert (await app.client.post("/v1/outcomes", json=body)).status_code == 201
    await app.core.learner.catch_up()
    catalog = (await app.client.get("/v1/catalog")).json()
    assert [kind["id"] for kind in catalog["kinds"]] == ["issue", "testing"]
    haiku = catalog["agents"][0]["models"][1]["forecast"]["kinds"]
    assert (haiku["testing"]["n"], haiku["issue"]["n"]) == (12, 0)
    assert haiku["testing"]["prior_solve_rate"] == 0.9
    assert haiku["testing"]["learned_solve_rate"] < 0.75
    assert haiku["testing"]["prior_minutes"] == 4


async def test_words_are_learned_from_tasks_whose_kind_was_told(app: RunningApp) -> None:
    """After a few tasks with a caller's kind, a text of the same words is taken for that kind."""
    text = "Quarterly ledger of the shipyard"
    before = (await app.decide(instructions=text))["kind"]
    for number in range(8):
        await app.decide(instructions=f"{text}, part {number}", kind="testing")
    await app.core.kinds.use()
    after = (await app.decide(instructions=text))["kind"]
    assert (after["id"], after["source"]) == ("testing", "text")
    assert after["probabilities"]["testing"] > max(0.7, before["probabilities"]["testing"])


async def test_a_limit_is_kept_by_what_the_caller_told(app: RunningApp) -> None:
    """`max_cost_usd` is checked against the cost of the kind that is told, and never bent by what the text says."""
    decision = await app.decide(kind="testing", require={"max_cost_usd": 0.5})
    assert [pair["model"] for pair in decision["excluded"]] == ["opus"]
    by_text = await app.decide(instructions=ABOUT_TESTS, require={"max_cost_usd": 1.5})
    assert by_text["excluded"] == []
    assert all(step["cost_usd"] <= 1.5 for step in by_text["plan"])


async def test_the_explanation_tells_why(app: RunningApp) -> None:
    """Words and their weights, the kinds after failures, and abilities in that kind."""
    decision = await app.decide(instructions=ABOUT_TESTS, explain=True)
    explanation = decision["explanation"]
    assert explanation["kind_words"]["tests"]["testing"] > explanation["kind_words"]["tests"]["issue"]
    assert explanation["forecast"]["kinds"] == {"testing": 1.0}
    assert explanation["forecast"]["shift"]["minutes"]["cost_factor"] == 1.0
