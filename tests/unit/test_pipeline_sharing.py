"""Under load and under the clock: what is shared, what is refused, what is answered in time."""

import asyncio
import gc
import time
from dataclasses import replace
from typing import Any

import pytest

from service.classifiers.breaker import FAILURES
from service.classifiers.classifier import Blame, Brief, Classified
from service.classifiers.prompt import Prompts
from service.contract.catalog import Catalog
from service.contract.decision import Decision, Usage
from service.contract.errors import (
    ClassifierFailedError,
    DeadlineExceededError,
    OverloadedError,
)
from service.contract.settings import DecisionSettings
from tests.support.builders import (
    HandClock,
    candidate,
    chosen,
    failed,
    knowledge,
    pipeline,
    small_catalog,
    task,
)
from tests.support.scripted_classifier import SPENT, Gate, ScriptedClassifier, chooses, fails, settle

KNOWN = knowledge()


async def test_an_identical_request_of_moments_ago_shares_the_answer() -> None:
    """Within `cache_seconds` it is not asked again, costs nothing, and says `cached`; afterwards it is asked again."""
    clock = HandClock()
    asked = ScriptedClassifier(chooses(1))
    steps = pipeline(asked, known=KNOWN, clock=clock)
    first = await steps.decide(task(task_id="1"))
    again = await steps.decide(task(task_id="2", deadline_ms=500, explain=True, strict=True))
    assert (first.cached, again.cached, len(asked.given)) == (False, True, 1)
    assert (chosen(again), again.source, again.usage) == (chosen(first), "local_model", Usage())
    assert again.decision_id != first.decision_id
    assert "local_model" not in again.timings_ms
    clock.move(30.0)
    assert not (await steps.decide(task())).cached
    assert len(asked.given) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"instructions": "Other."},
        {"name": "n"},
        {"labels": {"a": "b"}},
        {"fleet": {"gamma": {"running": 1}}},
        {"attempts": [failed("gamma", "mid")]},
        {"require": {"context_tokens": 1}},
        {"objective": "quality"},
        {"value_usd": 7},
        {"agent_type": "alpha"},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_request_that_differs_does_not_share(fields: dict[str, Any]) -> None:
    """Whatever could change the choice makes it another request, `fleet` and `attempts` among it."""
    asked = ScriptedClassifier(chooses())
    steps = pipeline(asked, known=KNOWN)
    await steps.decide(task())
    assert not (await steps.decide(task(**fields))).cached
    assert len(asked.given) == 2


async def test_the_order_of_labels_makes_no_other_request() -> None:
    """An object has no order: catches a digest of the text as it came."""
    steps = pipeline(ScriptedClassifier(chooses()), known=KNOWN)
    await steps.decide(task(labels={"a": "1", "b": "2"}))
    assert (await steps.decide(task(labels={"b": "2", "a": "1"}))).cached


async def test_a_degraded_answer_is_not_kept() -> None:
    """The next identical request asks the first classifier again: an outage of a second is not kept for thirty."""
    first = ScriptedClassifier(fails(), chooses(1))
    steps = pipeline(first, ScriptedClassifier(chooses(2), source="cli"), known=KNOWN)
    assert (await steps.decide(task())).degraded
    again = await steps.decide(task())
    assert (again.cached, again.degraded, chosen(again)) == (False, False, "alpha/small")


async def test_a_new_catalog_or_prompt_ends_what_is_kept() -> None:
    """An answer made from other files is not shared, nor one made under other settings."""
    asked = ScriptedClassifier(chooses())
    steps = pipeline(asked, known=KNOWN)
    await steps.decide(task())
    steps.in_use.knowledge = knowledge(Catalog(small_catalog().candidates[1:]))
    assert chosen(await steps.decide(task())) == "alpha/small"
    steps.in_use.knowledge = replace(steps.knowledge, decision=DecisionSettings(objective="quality"))
    await steps.decide(task())
    steps.in_use.knowledge = replace(steps.knowledge, prompts=Prompts(None, steps.knowledge.catalog, with_reason=False))
    await steps.decide(task())
    assert len(asked.given) == 4


async def test_requests_in_flight_share_one_classification() -> None:
    """Ten identical ones at the same moment ask once; the tokens are counted once, and each gets its own decision."""
    gate = Gate()
    steps = pipeline(ScriptedClassifier(gate), known=KNOWN)
    waiting = [asyncio.create_task(steps.decide(task(task_id=str(i)))) for i in range(10)]
    await settle()
    assert (gate.came, steps.classifiers.waiting) == (1, 10)
    gate.open.set()
    decisions = await asyncio.gather(*waiting)
    assert len({d.decision_id for d in decisions}) == 10
    assert sum(d.usage.tokens_in for d in decisions) == SPENT.tokens_in
    assert [d.cached for d in decisions] == [False] + [True] * 9
    assert steps.classifiers.waiting == 0


async def test_the_classification_ends_with_its_last_caller() -> None:
    """One of two who goes away does not end it; the last one does."""
    gate = Gate()
    steps = pipeline(ScriptedClassifier(gate), known=KNOWN)
    first, second = (asyncio.create_task(steps.decide(task())) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    assert gate.cancelled == 0
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    await settle()
    assert (gate.cancelled, steps.classifiers.waiting) == (1, 0)


@pytest.mark.parametrize("strict", [False, True], ids=["tolerant", "strict"])
async def test_who_joins_late_has_its_own_time(strict: bool) -> None:
    """One who asks the same when most of another caller's time is over is not refused, nor degraded, at the end of
    that time: catches a 504 for a strict caller after a tenth of its deadline."""
    never = Gate()
    asked = ScriptedClassifier(never, chooses(1))
    steps = pipeline(asked, known=KNOWN)
    first = asyncio.create_task(steps.decide(task(deadline_ms=1000, strict=strict)))
    await asyncio.sleep(0.7)
    late = [asyncio.create_task(steps.decide(task(deadline_ms=1000, strict=strict))) for _ in range(3)]
    (end,) = await asyncio.gather(first, return_exceptions=True)
    assert isinstance(end, DeadlineExceededError) if strict else isinstance(end, Decision) and end.degraded
    decisions = await asyncio.gather(*late)
    assert [(d.source, d.degraded, chosen(d)) for d in decisions] == [("local_model", False, "alpha/small")] * 3
    assert len(asked.given) == 2, "the late ones share one classification too"


async def test_who_joins_early_does_not_ask_again() -> None:
    """Who had nearly all of the time that was given is answered at its end: catches two questions for each task of a
    burst while the model hangs."""
    asked = ScriptedClassifier(Gate(), timeout_seconds=0.2)
    steps = pipeline(asked, known=KNOWN)
    first = asyncio.create_task(steps.decide(task(deadline_ms=5000)))
    await settle()
    second = asyncio.create_task(steps.decide(task(deadline_ms=5000)))
    assert [decision.source for decision in await asyncio.gather(first, second)] == ["forecast"] * 2
    assert len(asked.given) == 1


async def test_beyond_the_limit_it_is_overloaded_but_only_for_who_would_wait() -> None:
    """Too many waiting is a 503; what needs no classifier, or finds its answer ready, is decided all the same."""
    gate = Gate()
    steps = pipeline(ScriptedClassifier(chooses(), gate, gate), known=KNOWN, max_in_flight=2)
    await steps.decide(task(instructions="known"))
    waiting = [asyncio.create_task(steps.decide(task(instructions=f"{i}"))) for i in range(2)]
    await settle()
    with pytest.raises(OverloadedError) as caught:
        await steps.decide(task())
    assert caught.value.retry_after_seconds >= 1
    assert (await steps.decide(task(instructions="known"))).cached
    assert (await steps.decide(task(agent_type="gamma"))).source == "only_candidate"
    assert (await steps.decide(task(agent_type="home", model="tiny"))).source == "requested"
    gate.open.set()
    await asyncio.gather(*waiting)
    assert (await steps.decide(task())).source == "local_model"


async def test_decisions_of_the_forecast_alone_never_queue() -> None:
    """While every classifier rests, or has too little time to start, nobody waits, so nobody is overloaded."""
    gate = Gate()
    steps = pipeline(ScriptedClassifier(gate, source="cli"), known=KNOWN, max_in_flight=1)
    steps.classifiers.ladder.stages[0].pace.answered(1.0, asyncio.get_running_loop().time())
    waiting = asyncio.create_task(steps.decide(task(instructions="slow")))
    await settle()
    decision = await steps.decide(task(deadline_ms=100))
    assert (decision.source, [f.problem for f in decision.failures]) == ("forecast", ["no-time"])
    call = steps.classifiers.ladder.stages[0].breaker.enter()
    assert call is not None
    steps.classifiers.ladder.stages[0].breaker.failed(call, Blame.CLASSIFIER, retry_after=60.0)
    assert (await steps.decide(task())).failures[0].problem == "resting"
    assert steps.answering_with() == "forecast"
    gate.open.set()
    await waiting


async def test_a_classifier_that_hangs_does_not_hold_the_answer() -> None:
    """By its deadline the caller is answered, though the classifier heeds no time-out of its own."""
    gate = Gate()
    steps = pipeline(ScriptedClassifier(gate), known=KNOWN)
    started = time.monotonic()
    decision = await steps.decide(task(deadline_ms=60))
    assert time.monotonic() - started < 5
    assert (decision.source, decision.degraded) == ("forecast", True)
    assert [(f.source, f.problem) for f in decision.failures] == [("local_model", "timeout")]
    assert gate.cancelled == 1


async def test_a_classifier_that_cannot_even_be_cancelled_does_not_hold_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The last guard: one that swallows its cancellation and then breaks changes nothing for the caller."""
    released = asyncio.Event()

    async def stubborn(_brief: Brief, _seconds: float) -> Classified:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        raise RuntimeError("late")

    steps = pipeline(ScriptedClassifier(stubborn), known=KNOWN)
    async with asyncio.timeout(5):
        decision = await steps.decide(task(deadline_ms=60))
        with pytest.raises(DeadlineExceededError):
            await steps.decide(task(deadline_ms=60, strict=True))
    assert (decision.source, [f.problem for f in decision.failures]) == ("forecast", ["timeout"])
    released.set()
    await settle()
    gc.collect()
    assert not [record for record in caplog.records if "never retrieved" in record.getMessage()]


async def test_time_before_the_pipeline_counts() -> None:
    """The deadline runs from the request's arrival, and `total` with it."""
    clock = HandClock()
    asked = ScriptedClassifier(chooses())
    decision = await pipeline(asked, known=KNOWN, clock=clock).decide(
        task(deadline_ms=1000), arrived=clock.seconds - 0.4
    )
    assert asked.given[0] < 0.6
    assert decision.timings_ms["total"] == pytest.approx(400)


async def test_strict_refuses_where_the_classifier_failed() -> None:
    """No other classifier and no forecast takes its place, and the failures are told."""
    steps = pipeline(ScriptedClassifier(fails("http-500")), ScriptedClassifier(chooses(), source="cli"), known=KNOWN)
    with pytest.raises(ClassifierFailedError) as caught:
        await steps.decide(task(strict=True))
    assert [f.problem for f in caught.value.failures] == ["http-500"]


async def test_strict_and_tolerant_do_not_share_a_call() -> None:
    """A tolerant caller is not refused because a strict one asked for the same at that moment."""
    steps = pipeline(ScriptedClassifier(fails(), fails()), known=KNOWN)
    strict, tolerant = await asyncio.gather(
        steps.decide(task(strict=True)), steps.decide(task()), return_exceptions=True
    )
    assert isinstance(strict, ClassifierFailedError)
    assert isinstance(tolerant, Decision)


async def test_strict_without_a_classifier_is_the_forecast() -> None:
    """Where none is configured none can fail."""
    assert (await pipeline(known=KNOWN).decide(task(strict=True))).source == "forecast"


async def test_knowledge_replaced_in_the_middle_changes_no_request_under_way() -> None:
    """A request that began with one catalog ends with it, versions and all; the next one has the new."""
    gate = Gate()
    steps = pipeline(ScriptedClassifier(gate), known=KNOWN)
    waiting = asyncio.create_task(steps.decide(task()))
    await settle()
    other = knowledge(Catalog([candidate("new", "one"), candidate("new", "two")]))
    steps.in_use.knowledge = other
    gate.open.set()
    before, after = await waiting, await steps.decide(task())
    assert (chosen(before), before.versions) == ("alpha/big", KNOWN.versions)
    assert (chosen(after), after.versions, after.cached) == ("new/one", other.versions, False)
    assert before.versions != after.versions


async def test_closing_answers_who_waits() -> None:
    """At shutdown a request under way is decided by the forecast, and the classifiers are closed."""
    gate = Gate()
    asked = ScriptedClassifier(gate)
    steps = pipeline(asked, known=KNOWN)
    waiting = asyncio.create_task(steps.decide(task()))
    await settle()
    await steps.classifiers.aclose()
    assert (await waiting).source == "forecast"
    assert (asked.closed, gate.cancelled) == (True, 1)


async def test_answering_with_is_true_at_each_moment() -> None:
    """It names the first that would answer now: the next one while the first rests, the forecast while the program of
    the next one is not there, and the first again then."""
    clock = HandClock()
    first = ScriptedClassifier(*[fails()] * FAILURES, chooses())
    second = ScriptedClassifier(chooses(), source="cli")
    steps = pipeline(first, second, known=KNOWN, clock=clock)
    assert steps.answering_with() == "local_model"
    for i in range(FAILURES):
        await steps.decide(task(instructions=f"{i}"))
    assert steps.answering_with() == "cli"
    second.is_there = False
    assert steps.answering_with() == "forecast"
    clock.move(2.0)
    assert steps.answering_with() == "local_model"
