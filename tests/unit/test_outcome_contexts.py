"""An outcome is learned with all that its decision knew, whoever made the decision and wherever it stands."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.base.clock import utc_now
from service.base.ids import uuid7
from service.contract.catalog import Catalog
from service.contract.decision import Advice, Decision, Known, Source
from service.contract.errors import InvalidInputError
from service.contract.outcome import Outcome
from service.core import Core
from service.knowledge.contexts import Contexts
from service.knowledge.learner import row_of
from service.knowledge.outcomes import LOOKS
from service.store.outcomes import Recording
from service.store.schema import decisions
from tests.support.builders import candidate, failed, task
from tests.support.fake_behaviours import verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, RunningApp, settings_from, with_model
from tests.support.store_fixtures import OpenStore, a_decision

CATALOG = Catalog(
    candidate("any", model, solve_rate=rate, cost_usd=cost)
    for model, rate, cost in (("small", 0.4, 0.05), ("mid", 0.6, 0.2), ("big", 0.75, 0.8))
)

FIGURES = {"lean": 0.5, "p_forecast": 0.4}


@asynccontextmanager
async def replica(url: str) -> AsyncGenerator[Core]:
    """One of several services over one database."""
    core = Core(settings_from({"store": {"url": url}}), environ={})
    try:
        core.use_catalog(CATALOG)
        await core.start(learn_first=True)
        yield core
    finally:
        await core.aclose()


async def decide(core: Core, **fields: Any) -> Decision:  # noqa: ANN401 - the fields of a request
    """A decision about a task."""
    return await core.decide(task(**fields))


async def learned_rows(core: Core) -> list[Any]:
    """What every outcome on record teaches, oldest first."""
    return [row_of(one) for one in (await core.store.outcomes.since(0)).outcomes]


async def recorded(core: Core, **fields: Any) -> Recording:  # noqa: ANN401 - the fields of an outcome
    """The answer to one outcome."""
    (answer,) = await core.outcomes.record([msgspec.convert(fields, Outcome)])
    assert isinstance(answer, Recording), answer
    return answer


async def test_a_decision_id_says_everything(store_url: str) -> None:
    """Pair, labels, task and failed attempts come from the decision, of this process and still in its buffer."""
    async with replica(store_url) as core:
        decision = await decide(
            core, labels={"repo": "r"}, task_id="t1", attempts=[failed("any", "small"), failed("any", "mid", "error")]
        )
        assert (await recorded(core, decision_id=decision.decision_id, solved=True, cost_usd=0.3)).state == "new"
        (row,) = await learned_rows(core)
    assert (row.agent_type, row.model) == (decision.agent_type, decision.model)
    assert (row.labels, row.task, row.failed, row.cost_usd) == ({"repo": "r"}, "t1", (("any", "small"),), 0.3)


async def test_what_the_outcome_says_itself_wins(store_url: str) -> None:
    """Another pair, another task, a label of its own; what it does not say comes from the decision."""
    async with replica(store_url) as core:
        decision = await decide(core, labels={"repo": "r", "team": "a"}, task_id="t1")
        await recorded(
            core,
            decision_id=decision.decision_id,
            agent_type="any",
            model="big",
            solved=False,
            labels={"team": "b"},
            task_id="t2",
            kind="testing",
        )
        (row,) = await learned_rows(core)
    assert (row.model, row.labels, row.task, row.kind) == ("big", {"repo": "r", "team": "b"}, "t2", "testing")


async def test_another_replica_tells_of_it(store_url: str) -> None:
    """A decision that is on record is found by whoever is told of its outcome, and after a restart."""
    async with replica(store_url) as one:
        decision = await decide(one, labels={"repo": "r"}, attempts=[failed("any", "big")])
        await one.store.decisions.flush()
        async with replica(store_url) as other:
            await recorded(other, decision_id=decision.decision_id, solved=False)
            (row,) = await learned_rows(other)
    assert (row.model, row.labels, row.failed) == (decision.model, {"repo": "r"}, (("any", "big"),))


async def test_a_decision_that_comes_later_completes_its_outcome(store_url: str) -> None:
    """What another replica had not written yet is added a moment later, and every learner learns the outcome anew."""
    async with replica(store_url) as one, replica(store_url) as other:
        logged: list[Any] = []
        one.pipeline.observers = (logged.append,)
        decision = await decide(one, labels={"repo": "r"}, attempts=[failed("any", "big")])
        pair = {"agent_type": decision.agent_type, "model": decision.model}
        await recorded(other, decision_id=decision.decision_id, solved=True, **pair)
        await one.learner.catch_up()
        assert (await learned_rows(one))[0].failed == ()
        one.store.decisions.add(logged[0])
        await one.store.decisions.flush()
        await other.outcomes.link()
        (row,) = await learned_rows(one)
        assert (row.labels, row.failed) == ({"repo": "r"}, (("any", "big"),))
        await one.learner.catch_up()
        assert one.learner.report.outcomes == 1


async def test_a_decision_that_never_comes_is_counted(store_url: str) -> None:
    """Pruned, or of another database: learned by what the outcome says, and a counter tells."""
    async with replica(store_url) as core:
        await recorded(core, decision_id=uuid7(), agent_type="any", model="mid", solved=True, labels={"repo": "x"})
        await recorded(core, decision_id="no-uuid", agent_type="any", model="mid", solved=True)
        for _ in range(LOOKS):
            await core.outcomes.link()
        assert core.metrics.registry.get_sample_value("pointsman_outcomes_unlinked_total") == 2
        assert [row.labels for row in await learned_rows(core)] == [{"repo": "x"}, {}]


async def test_a_pruned_decision_is_one_that_never_comes(store_url: str) -> None:
    """Its outcome stays, with what it says itself."""
    async with replica(store_url) as core:
        decision = await decide(core, labels={"repo": "r"})
        await core.store.decisions.flush()
        await core.store.pruner.by_age(now=utc_now() + timedelta(days=1), keep_days=0.5)
        async with replica(store_url) as other:
            await recorded(other, decision_id=decision.decision_id, agent_type="any", model="big", solved=True)
            (row,) = await learned_rows(other)
    assert (row.model, row.labels) == ("big", {})


@pytest.mark.parametrize("decision", ["7", "[]", '{"plan": 7, "agent_type": []}'])
async def test_of_a_damaged_decision_nothing_is_known(store_url: str, decision: str) -> None:
    """Its outcome is learned by what it says itself, or refused where it says too little; its neighbours are recorded.

    Would catch: one damaged row that makes every batch with an outcome of it a 500.
    """
    async with replica(store_url) as core:
        made, good = [await decide(core, labels={"repo": "r"}) for _ in range(2)]
        await core.store.decisions.flush()

        async def damage(connection: AsyncConnection) -> None:
            body = f'{{"name":"","labels":{{}},"decision":{decision}}}'
            await connection.execute(
                update(decisions).where(decisions.c.decision_id == made.decision_id).values(body=body)
            )

        await core.store._database.run(damage, mode="write")
        async with replica(store_url) as other:
            told = [Outcome(decision_id=one.decision_id, solved=True) for one in (made, good)]
            answers = await other.outcomes.record(told)
            assert [type(one) for one in answers] == [InvalidInputError, Recording]
            pair = {"agent_type": "any", "model": "big"}
            await recorded(other, decision_id=made.decision_id, **pair, solved=True)
            assert [row.labels for row in await learned_rows(other)] == [{"repo": "r"}, {}]


@pytest.mark.parametrize(("source", "classifier"), [("cli", "cli"), ("forecast", None)])
async def test_a_decision_without_advice_says_which_classifier_chose(
    store_url: str, open_store: OpenStore, source: Source, classifier: str | None
) -> None:
    """As an older version kept it, which wrote down no advice; where there is some, that says it."""
    store = await open_store(store_url)
    found: list[tuple[str | None, str | None]] = []
    for advice in (None, Advice(form="local_model:labels", choice=("a", "b"), forecast_choice=("a", "c"), **FIGURES)):
        made = a_decision()
        made = msgspec.structs.replace(
            made, decision=msgspec.structs.replace(made.decision, source=source), known=Known(advice=advice)
        )
        store.decisions.add(made)
        await store.decisions.flush()
        (context,) = (await Contexts(store.decisions).find([made.decision.decision_id])).values()
        found.append((context.classifier, context.advised_by))
    assert found == [(classifier, classifier), (None, "local_model")]


async def test_the_same_again_is_the_same_and_another_a_conflict(store_url: str) -> None:
    """With the pair or without it: one outcome stands for an attempt."""
    async with replica(store_url) as core:
        decision = await decide(core)
        told = {"decision_id": decision.decision_id, "solved": True}
        first = await recorded(core, **told)
        assert await recorded(core, **told) == Recording(outcome_id=first.outcome_id, state="same")
        pair = {"agent_type": decision.agent_type, "model": decision.model}
        assert (await recorded(core, **told, **pair)).state == "same"
        assert (await recorded(core, decision_id=decision.decision_id, solved=False)).state == "conflict"


async def test_no_pair_and_no_decision_is_refused(store_url: str) -> None:
    """By name, and in a batch its neighbours are recorded."""
    async with replica(store_url) as core:
        good = Outcome(agent_type="any", model="mid", solved=True)
        bad = Outcome(decision_id="unknown", solved=True)
        answers = await core.outcomes.record([good, bad, good])
        assert [type(answer) for answer in answers] == [Recording, InvalidInputError, Recording]
        assert "unknown" in str(answers[1])
        assert len(await learned_rows(core)) == 2


async def test_withdrawing_takes_back_all_that_was_taught(store_url: str) -> None:
    """Abilities, offsets and calibration are as before."""
    async with replica(store_url) as core:
        for number in range(12):
            decision = await decide(core, labels={"repo": "r"}, task_id=f"t{number}")
            await recorded(core, decision_id=decision.decision_id, solved=number % 2 > 0)
        await core.learner.catch_up()
        before = core.in_use.knowledge.forecaster.learned
        compared = core.learner.calibration.rows()
        decision = await decide(core, labels={"repo": "r"}, task_id="wrong", attempts=[failed("any", "small")])
        wrong = await recorded(core, decision_id=decision.decision_id, solved=False, cost_usd=900.0)
        await core.learner.catch_up()
        assert core.learner.calibration.rows() != compared
        assert core.in_use.knowledge.forecaster.learned.abilities != before.abilities
        assert await core.outcomes.withdraw(wrong.outcome_id)
        await core.learner.catch_up()
        after = core.in_use.knowledge.forecaster.learned
        assert core.learner.calibration.rows() == compared
        for key, known in before.abilities.items():
            assert after.abilities[key].theta == pytest.approx(known.theta, abs=1e-3)
            assert after.abilities[key].cost_usd == pytest.approx(known.cost_usd, rel=1e-3)


async def test_over_http_the_pair_may_be_left_out(plain_app: RunningApp) -> None:
    """A decision_id and the result are all that a scheduler has to say; one alone of the pair is a mistake."""
    decision = await plain_app.decide(labels={"repo": "r"})
    told = {"decision_id": decision["decision_id"], "solved": True}
    answer = await plain_app.client.post("/v1/outcomes", json=told)
    assert answer.status_code == 201
    half = await plain_app.client.post("/v1/outcomes", json={**told, "attempt": 2, "model": "opus"})
    assert half.status_code == 400
    assert "go together" in half.json()["detail"]
    nothing = await plain_app.client.post("/v1/outcomes", json={"solved": True})
    assert nothing.status_code == 400
    unknown = await plain_app.client.post("/v1/outcomes", json={"solved": True, "decision_id": "unknown"})
    assert unknown.status_code == 400
    assert "$.decision_id" in unknown.json()["detail"]
    batch = await plain_app.client.post("/v1/outcomes/batch", json={"outcomes": [told, {**told, "decision_id": "x"}]})
    assert [min(result) for result in batch.json()["results"]] == ["outcome_id", "detail"]
    assert "$.outcomes[1].decision_id" in batch.json()["results"][1]["detail"]


async def test_classifier_minutes_reach_the_fit(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """What the classifier estimated is learned with the outcome."""
    app = await open_app(local_model=with_model(fake_endpoint))
    fake_endpoint.then(verdict("claude", "opus", minutes=240))
    decision = await app.decide()
    answer = await app.client.post("/v1/outcomes", json={"decision_id": decision["decision_id"], "solved": False})
    assert answer.status_code == 201
    (row,) = await learned_rows(app.core)
    assert (row.minutes, row.model) == (240, "opus")
