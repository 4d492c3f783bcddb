"""What reports add up, in both databases: the same figures, whatever a row of an older version does not tell."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.base.ids import uuid7
from service.contract.decision import Advice, Known
from service.contract.outcome import Context, Outcome
from service.contract.report import OverallAgreement, Right
from service.observe.report import Question, report_of
from service.store import Store, StoredDecision
from service.store.migrations import MIGRATIONS, migrate
from service.store.schema import decisions, outcomes
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
    agreement = report.agreement
    assert agreement.loss_usd == pytest.approx(12 * 0.04)
    counted: list[tuple[int, int]] = []
    for source in ("local_model", "cli"):
        listed, _ = await store.decisions.search(DecisionFilter(source=source), limit=100)
        made = [one.decoded() for one in listed]
        counted.append(
            (len(made), sum(one.forecast_choice is not None and one.forecast_choice.key == one.key for one in made))
        )
    assert [one.source for one in agreement.by_source] == ["local_model", "cli"]
    assert [(one.compared, one.agreed) for one in agreement.by_source] == counted
    assert (agreement.compared, agreement.agreed) == (36, sum(agreed for _, agreed in counted))
    assert all(0 < agreed < compared for compared, agreed in counted)
    for who in ("classifier", "forecast"):
        parts = [getattr(one, who) for one in agreement.by_source]
        assert getattr(agreement, who) == Right(n=sum(one.n for one in parts), solved=sum(one.solved for one in parts))
    assert all(one.classifier.n for one in agreement.by_source)
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


async def test_which_classifier_it_was_is_told_as_far_as_it_is_known(store_url: str, open_store: OpenStore) -> None:
    """Rows of a version that did not keep it count in all; where the classifier chose itself its decision tells, and of
    outcomes that come now what their decision knew."""
    now = datetime.now(UTC)
    old = Store(store_url)
    await migrate(old._database, lambda: now, MIGRATIONS[:5])
    old._database.ready = True
    made = {
        "decided_at": now,
        "agent_type": "claude",
        "model": "m",
        "degraded": False,
        "body": "{}",
        "explanation": "{}",
    }
    facts = {"failures": 0, "agreed": False, "loss_usd": None}
    sources = ("forecast", "cli", "cli", "local_model")
    rows = [{**made, **facts, "decision_id": uuid7(), "source": source} for source in sources]
    told = {"recorded_at": now, "attempt": 1, "agent_type": "claude", "model": "m", "solved": True, "body": "{}"}
    wanted = ("forecast", "classifier", "both")
    outcome_rows = [
        {**told, "seq": n, "change": n, "outcome_id": uuid7(), "chosen_by": who} for n, who in enumerate(wanted, 1)
    ]

    async def fill(connection: AsyncConnection) -> None:
        await connection.execute(insert(decisions), rows)
        await connection.execute(insert(outcomes), outcome_rows)

    await old._database.run(fill, mode="write")
    store = await open_store(store_url)
    pair, other = ("claude", "m"), ("codex", "n")
    advice = Advice(form="local_model:labels", choice=other, forecast_choice=pair, lean=-0.5, p_forecast=0.4)
    contexts = [
        Context(agent_type=pair[0], model=pair[1], advice=advice),
        Context(agent_type=pair[0], model=pair[1], forecast_choice=other, classifier="cli"),
        Context(agent_type=pair[0], model=pair[1], forecast_choice=other),
    ]
    outcome = Outcome(agent_type=pair[0], model=pair[1], solved=False)
    await store.outcomes.record([outcome] * 3, contexts)
    overruled = a_decision(agent_type="claude")
    store.decisions.add(msgspec.structs.replace(overruled, known=Known(advice=advice)))

    async def reported() -> OverallAgreement:
        report = await report_of(store, Question(days=1), datetime.now(UTC) + timedelta(seconds=5))
        assert report.agreement is not None
        return report.agreement

    agreement = await reported()
    assert (agreement.compared, agreement.agreed) == (5, 0)
    assert (agreement.classifier, agreement.forecast) == (Right(n=3, solved=1), Right(n=2, solved=1))
    local, cli = agreement.by_source
    assert (local.source, local.compared, cli.source, cli.compared) == ("local_model", 2, "cli", 2)
    assert (local.classifier, local.forecast) == (Right(n=0, solved=0), Right(n=1, solved=0))
    assert (cli.classifier, cli.forecast) == (Right(n=1, solved=0), Right(n=0, solved=0))
    # What the version before goes on writing takes nothing from either.
    again = [{**row, "decision_id": uuid7()} for row in rows]
    await old._database.run(lambda connection: connection.execute(insert(decisions), again), mode="write")
    await old._database.aclose()
    agreement = await reported()
    assert agreement.compared == 9
    assert [one.compared for one in agreement.by_source] == [3, 4]
