"""What reports add up, in both databases: the same figures, whatever a row of an older version does not tell."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from service.contract.outcome import Outcome
from service.observe.report import Question, report_of
from service.store import Store, StoredDecision
from service.store.migrations import MIGRATIONS, migrate
from service.store.search import DecisionFilter
from service.store.tallies import Span
from tests.support.recorded_days import record_days
from tests.support.store_fixtures import OpenStore, a_decision


async def test_both_databases_add_up_the_same(store_url: str, open_store: OpenStore) -> None:
    """Counts and sums over the span, by all that reports tell apart."""
    await record_days(store_url, 60, days=3)
    store = await open_store(store_url)
    now = datetime.now(UTC) + timedelta(minutes=1)
    report = await report_of(store, Question(days=4), now)
    assert (report.decisions, report.attempts, report.without_facts) == (60, 30, 0)
    assert sum(report.by_source.values()) == 60
    assert report.overall is not None
    assert report.overall.n == sum(one.n for one in report.by_step) == sum(one.n for one in report.by_kind) == 30
    assert report.solved == sum(row.solved for row in report.money)
    assert report.spent.attempts_usd == pytest.approx(sum(row.cost_usd for row in report.money))
    assert report.spent.priced < 30
    assert report.spent.classifying_usd == pytest.approx(36 * 0.0004)
    assert report.agreement is not None
    listed, _ = await store.decisions.search(DecisionFilter(source="local_model"), limit=100)
    both = [(one.decoded().key, choice.key) for one in listed if (choice := one.decoded().forecast_choice) is not None]
    assert report.agreement.compared == len(both) == 36
    assert report.agreement.agreed == sum(own == other for own, other in both) < 36
    assert report.agreement.loss_usd == pytest.approx(12 * 0.04)
    assert (await report_of(store, Question(days=1), now)).decisions == 20


async def test_a_sample_is_the_same_each_time(store_url: str, open_store: OpenStore) -> None:
    """Drawn by the end of the ids, about as many as are wanted; each with the chances of all candidates."""
    await record_days(store_url, 60, days=3)
    store = await open_store(store_url)
    span = Span(since=datetime.now(UTC) - timedelta(days=4), until=datetime.now(UTC) + timedelta(minutes=1))
    once = await store.tallies.forecasts(span, total=60, wanted=30)
    assert 10 < len(once) < 50
    assert once == await store.tallies.forecasts(span, total=60, wanted=30)
    assert all(len(one.candidates) > 5 for one in once)


@pytest.mark.parametrize("facts", ["agent_type", "agent_type kind", "source degraded", "task_id", "model source kind"])
async def test_a_search_finds_what_fits_newest_first(store_url: str, open_store: OpenStore, facts: str) -> None:
    """By one fact and by several, page after page, nothing twice and nothing left out."""
    await record_days(store_url, 80, days=3)
    store = await open_store(store_url)
    everything, rest = await store.decisions.search(DecisionFilter(), limit=100)
    assert rest is None
    assert [one.decision_id for one in everything] == sorted((one.decision_id for one in everything), reverse=True)
    named = facts.split()

    def told(stored: StoredDecision) -> dict[str, Any]:
        decision = stored.decoded()
        kind = decision.kind.id if decision.kind else None
        more = {"kind": kind, "task_id": stored.task_id, "degraded": decision.degraded}
        return {"agent_type": decision.agent_type, "model": decision.model, "source": decision.source, **more}

    given: dict[str, Any] = {
        name: value for name, value in {**told(everything[17]), "degraded": True}.items() if name in named
    }

    def fits(stored: StoredDecision) -> bool:
        return all(told(stored)[name] == value for name, value in given.items())

    expected = [one.decision_id for one in everything if fits(one)]
    found: list[str] = []
    before: str | None = None
    for _ in range(100):
        page, before = await store.decisions.search(DecisionFilter(**given, before=before), limit=3)
        found += [one.decision_id for one in page]
        if before is None:
            break
    assert found == expected


async def test_a_store_of_the_version_before_is_brought_along(store_url: str, open_store: OpenStore) -> None:
    """Its rows tell less, and that is said; what its outcomes cost is taken from their documents."""
    old = Store(store_url)
    await migrate(old._database, lambda: datetime.now(UTC), MIGRATIONS[:2])
    old._database.ready = True
    logged = a_decision(agent_type="claude")
    outcome = Outcome(agent_type="claude", model="m", solved=True, cost_usd=0.5)
    now = datetime.now(UTC)
    moment = now.isoformat() if "sqlite" in store_url else now

    async def fill(connection: object) -> None:
        made = "decision_id, decided_at, task_id, agent_type, model, source, degraded, body, explanation"
        told = "seq, outcome_id, recorded_at, change, attempt, agent_type, model, solved, body"
        rows = (
            f"INSERT INTO decisions ({made}) VALUES (:id, :at, 't', 'claude', 'm', 'forecast', :no, :body, '{{}}')",
            f"INSERT INTO outcomes ({told}) VALUES (1, :id, :at, 1, 1, 'claude', 'm', :yes, :outcome)",
        )
        body = '{"name": "n", "labels": {}, "decision": ' + bytes(logged.decision.document).decode() + "}"
        values = {"id": logged.decision.decision_id, "at": moment, "no": False, "yes": True, "body": body}
        values["outcome"] = '{"agent_type": "claude", "model": "m", "solved": true, "cost_usd": 0.5}'
        for row in rows:
            names = {name: value for name, value in values.items() if f":{name}" in row}
            await connection.execute(text(row), names)  # type: ignore[attr-defined]

    await old._database.run(fill, mode="write")
    await old._database.aclose()
    store = await open_store(store_url)
    report = await report_of(store, Question(days=1), datetime.now(UTC) + timedelta(seconds=5))
    assert (report.decisions, report.without_facts, report.attempts, report.solved) == (1, 1, 1, 1)
    assert report.spent.attempts_usd == outcome.cost_usd
    assert report.overall is None
    (listed,), _ = await store.decisions.search(DecisionFilter(agent_type="claude"), limit=5)
    assert listed.decision_id == logged.decision.decision_id
    (found,) = await store.decisions.requests(since=datetime(2020, 1, 1, tzinfo=UTC), before=None, limit=5)
    assert found.request is None
