"""The classifiers in order, under one deadline."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from service.classifiers.breaker import FAILURES, HASTY_TIME_OUTS, Breaker
from service.classifiers.classifier import Blame, Brief, Classified
from service.classifiers.ladder import RESERVE_SECONDS, SHARE, Classification, Ladder, Stage
from service.contract.decision import Usage
from service.contract.errors import ClassifierFailedError, DeadlineExceededError
from tests.support.builders import HandClock, brief, task
from tests.support.scripted_classifier import Act, ScriptedClassifier, chooses, fails, verdict


def ladder(*classifiers: ScriptedClassifier, clock: Callable[[], float] | None = None) -> Ladder:
    """A ladder of these, each with a breaker of its own."""
    clock = clock or HandClock()
    return Ladder([Stage(classifier, Breaker(clock)) for classifier in classifiers], clock=clock)


def local(*acts: Act, **more: Any) -> ScriptedClassifier:  # noqa: ANN401 - the times of a classifier
    """In the place of the local model."""
    return ScriptedClassifier(*acts, **more)


def cli(*acts: Act, **more: Any) -> ScriptedClassifier:  # noqa: ANN401 - as above
    """In the place of the CLI."""
    return ScriptedClassifier(*acts, source="cli", **more)


async def classified_by(steps: Ladder, seconds: float = 10.0, *, strict: bool = False) -> Classification:
    """One way up, with so many seconds from now."""
    return await steps.classify(brief(task(strict=strict)), deadline=steps._clock() + seconds)


async def hangs(_brief: Brief, _seconds: float) -> Classified:
    """Never answers and heeds no time-out of its own."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def takes(clock: HandClock, seconds: float) -> Act:
    """Chooses after so long; times out where it is given less."""

    async def act(asked: Brief, given: float) -> Classified:
        clock.move(min(seconds, given))
        if seconds > given:
            raise TimeoutError
        return verdict(asked.eligible[0])

    return act


async def breaks(_brief: Brief, _seconds: float) -> Classified:
    """A defect."""
    raise KeyError("oops")


async def test_the_first_that_answers_decides() -> None:
    """Where the local model answers the CLI is not asked, and nothing has failed."""
    first, second = local(chooses()), cli(chooses())
    found = await classified_by(ladder(first, second))
    assert (found.source, found.failures, second.given) == ("local_model", [], [])
    assert found.usage == Usage(tokens_in=10, tokens_out=5, cost_usd=0.01)
    assert (found.prompt, found.reply) == ("the prompt", "the reply")
    assert list(found.seconds) == ["local_model"]


async def test_a_failure_leads_to_the_next_one() -> None:
    """What failed is told, its usage counted with the rest, and both stages are timed."""
    found = await classified_by(ladder(local(fails("http-500")), cli(chooses())))
    assert found.source == "cli"
    assert [(f.source, f.problem, f.detail) for f in found.failures] == [("local_model", "http-500", "it is http-500")]
    assert found.usage == Usage(tokens_in=20, tokens_out=10, cost_usd=0.02)
    assert list(found.seconds) == ["local_model", "cli"]


async def test_where_all_fail_there_is_no_verdict() -> None:
    """The failures say why the forecast must choose, and the last prompt that was asked with is kept for the record."""
    found = await classified_by(ladder(local(fails("a")), cli(fails("b"))))
    assert found.classified is None
    assert [f.problem for f in found.failures] == ["a", "b"]


async def test_no_classifier_is_no_failure() -> None:
    """With nothing configured there is nothing that failed."""
    found = await classified_by(ladder())
    assert (found.classified, found.failures) == (None, [])


@pytest.mark.parametrize(
    ("seconds", "first", "behind", "expected"),
    [
        pytest.param(10.0, {}, {"least_seconds": 1.0}, (10 - RESERVE_SECONDS) * SHARE, id="a-share"),
        pytest.param(60.0, {}, {"least_seconds": 1.0}, 10.0, id="its-own-limit"),
        pytest.param(
            2.0, {}, {"least_seconds": 1.0}, 2 - RESERVE_SECONDS, id="all-where-the-next-would-have-too-little"
        ),
        pytest.param(10.0, {"timeout_seconds": 3.0}, {}, 3.0, id="shorter-limit"),
    ],
)
async def test_each_gets_its_share(
    seconds: float, first: dict[str, float], behind: dict[str, float], expected: float
) -> None:
    """Enough is kept back for what comes after: for the next classifier where it could start, and for the forecast."""
    asked, second = local(fails(), **first), cli(chooses(), **behind)
    await classified_by(ladder(asked, second), seconds)
    assert asked.given == [pytest.approx(expected)]


async def test_the_last_one_gets_all_that_is_left_but_the_reserve() -> None:
    """Nothing is kept back for a classifier that rests behind its breaker."""
    asked, second = local(chooses()), cli(chooses())
    steps = ladder(asked, second)
    call = steps.stages[1].breaker.enter()
    assert call is not None
    steps.stages[1].breaker.failed(call, Blame.CLASSIFIER, retry_after=60.0)
    await classified_by(steps, 5.0)
    assert asked.given == [pytest.approx(5 - RESERVE_SECONDS)]


async def test_too_little_time_is_not_spent() -> None:
    """A classifier that has never answered so soon is not asked, and that is nobody's fault."""
    clock = HandClock()
    slow = cli(takes(clock, 2.0), least_seconds=1.0)
    steps = ladder(slow, clock=clock)
    assert (await classified_by(steps, 10.0)).source == "cli"
    for _ in range(10):
        found = await classified_by(steps, 0.5)
        assert [f.problem for f in found.failures] == ["no-time"]
        assert found.failures[0].detail == "488 ms were left, and it has not answered in less than 2 s"
    assert (len(slow.given), steps.stages[0].breaker.state) == (1, "closed")


async def test_a_probe_goes_now_and_then() -> None:
    """Ever more rarely, as long as it is in vain; what it finds to have become quicker is asked by all again."""
    clock = HandClock()
    slow = cli(*[takes(clock, 2.0)] * 5, takes(clock, 0.1))
    steps = ladder(slow, clock=clock)
    found = await classified_by(steps, 10.0)
    asked: list[float] = []
    began = clock()
    while len(slow.given) < 6:
        clock.move(0.5)
        found, before = await classified_by(steps, 1.0), len(slow.given)
        asked += [clock() - began] if before > len(asked) + 1 else []
    waits = [later - sooner for sooner, later in pairwise(asked)]
    assert waits == sorted(waits)
    assert (waits[0] < 8.0, waits[-1] > 15.0) == (True, True)
    assert (found.source, steps.stages[0].breaker.state) == ("cli", "closed")
    assert (await classified_by(steps, 0.2)).source == "cli"


async def test_whoever_comes_first_asks() -> None:
    """Of a classifier that has not answered yet nobody knows how long it takes, whatever is kept back for it."""
    assert (await classified_by(ladder(cli(chooses(), least_seconds=1.0)), 0.5)).source == "cli"


@pytest.mark.parametrize("seconds", [0.0, -1.0, RESERVE_SECONDS / 2])
async def test_a_deadline_that_is_over_asks_nobody(seconds: float) -> None:
    """With no time at all the ladder ends at once."""
    asked = local(chooses())
    assert (await classified_by(ladder(asked), seconds)).classified is None
    assert asked.given == []


async def test_one_that_rests_is_passed_over_and_told() -> None:
    """Behind an open breaker it is not asked; the failure says so, and the next one answers."""
    asked, second = local(fails("down")), cli(chooses())
    steps = ladder(asked, second)
    for _ in range(FAILURES):
        await classified_by(steps)
    found = await classified_by(steps)
    assert len(asked.given) == FAILURES
    assert found.source == "cli"
    assert [(f.problem, f.detail) for f in found.failures] == [("resting", "next probe in 2.0 s after: down")]
    assert "local_model" not in found.seconds


async def test_it_comes_back_with_one_probe() -> None:
    """After its rest one call tries it, and its success lets all others in."""
    clock = HandClock()
    steps = ladder(local(fails(), fails(), fails(), chooses()), clock=clock)
    for _ in range(FAILURES):
        await classified_by(steps)
    assert not steps.answering(task(), deadline=clock() + 5)
    clock.move(2.0)
    assert steps.answering(task(), deadline=clock() + 5)
    assert (await classified_by(steps)).source == "local_model"
    assert steps.stages[0].breaker.state == "closed"


async def test_answering_needs_time_and_an_open_door() -> None:
    """Only where somebody would really be asked is there something to wait for; with `strict`, the first one."""
    clock = HandClock()
    slow = cli(takes(clock, 1.5))
    steps = ladder(slow, clock=clock)
    await classified_by(steps)
    assert steps.answering(task(), deadline=clock() + 2)
    assert not steps.answering(task(), deadline=clock() + 1)
    assert not ladder(clock=clock).answering(task(), deadline=clock() + 9)
    both = Ladder([*steps.stages, *ladder(local(chooses()), clock=clock).stages], clock=clock)
    assert both.answering(task(), deadline=clock() + 0.5)
    assert not both.answering(task(strict=True), deadline=clock() + 0.5)


async def test_strict_asks_only_the_first_one() -> None:
    """Its failure is the answer: no other classifier is asked."""
    second = cli(chooses())
    with pytest.raises(ClassifierFailedError) as caught:
        await classified_by(ladder(local(fails("http-500")), second), strict=True)
    assert [f.problem for f in caught.value.failures] == ["http-500"]
    assert "http-500" in str(caught.value)
    assert second.given == []


@pytest.mark.parametrize("problem", ["timeout", "queue-timeout"])
async def test_strict_and_out_of_time_is_another_error(problem: str) -> None:
    """The classifier's share of the time ran out, in its queue or at its work: 504 and not 502."""
    with pytest.raises(DeadlineExceededError) as caught:
        await classified_by(ladder(local(fails(problem))), strict=True)
    assert [f.problem for f in caught.value.failures] == [problem]


async def test_strict_with_too_little_time_is_out_of_time() -> None:
    """Neither is a classifier called broken that nobody asked, because it takes longer."""
    clock = HandClock()
    steps = ladder(cli(takes(clock, 1.5)), clock=clock)
    await classified_by(steps)
    with pytest.raises(DeadlineExceededError) as caught:
        await classified_by(steps, 0.5, strict=True)
    assert [f.problem for f in caught.value.failures] == ["no-time"]


async def test_strict_and_resting_has_failed() -> None:
    """A classifier behind its breaker cannot be asked: 502 at once."""
    steps = ladder(local(fails()), cli(chooses()))
    for _ in range(FAILURES):
        await classified_by(steps)
    with pytest.raises(ClassifierFailedError, match="resting"):
        await classified_by(steps, strict=True)


async def test_one_that_ignores_its_time_is_made_to_keep_it() -> None:
    """A classifier that hangs is cancelled; that is its time-out, told in `failures`, and it counts for the breaker.

    Catches a classifier that overruns for ever without its breaker ever opening.
    """
    clock = asyncio.get_running_loop().time
    steps = ladder(local(hangs, timeout_seconds=0.02), cli(chooses()), clock=clock)
    for _ in range(FAILURES):
        async with asyncio.timeout(5):
            found = await classified_by(steps)
        assert found.source == "cli"
        assert [f.problem for f in found.failures] == ["timeout"]
    assert steps.stages[0].breaker.state == "open"


async def test_hasty_callers_open_it_for_each_other() -> None:
    """Given less than it may need, time-outs tell those in as much haste, and keep nobody else away."""
    clock = HandClock()
    steps = ladder(local(takes(clock, 60.0), patience_seconds=1.0), clock=clock)
    for _ in range(HASTY_TIME_OUTS):
        assert [f.problem for f in (await classified_by(steps, 0.2)).failures] == ["timeout"]
    assert [f.problem for f in (await classified_by(steps, 0.3)).failures] == ["resting"]
    assert not steps.answering(task(), deadline=clock() + 0.3)
    assert steps.answering(task(), deadline=clock() + 0.5)
    assert [f.problem for f in (await classified_by(steps, 0.5)).failures] == ["timeout"]
    assert not steps.stages[0].breaker.down


async def test_a_classifier_that_always_takes_long_is_given_it() -> None:
    """A time-out of one who has less than three times the usual is haste, however long that is."""
    clock = HandClock()
    steps = ladder(local(*[takes(clock, 3.0)] * 3, takes(clock, 60.0), patience_seconds=1.0), clock=clock)
    for _ in range(3):
        await classified_by(steps)
    for _ in range(FAILURES):
        await classified_by(steps, 5.0)
    assert steps.stages[0].breaker.state == "closed"
    for _ in range(FAILURES):
        await classified_by(steps, 60.0)
    assert steps.stages[0].breaker.down


@pytest.mark.parametrize(("given", "blame"), [(0.0, Blame.REQUEST), (0.3, Blame.HASTE), (1.0, Blame.CLASSIFIER)])
def test_whose_fault_a_time_out_is(given: float, blame: Blame) -> None:
    """One that waited in a queue of our own never reached it; one with little time is haste; else it is its own."""
    (stage,) = ladder(local(chooses(), patience_seconds=1.0)).stages
    assert stage.blame(given) is blame


def test_all_the_time_that_is_set_is_enough() -> None:
    """Where the settings give it no more, a time-out counts, however little that is: catches a breaker that never opens
    with `timeout_seconds` below what is thought to be patience."""
    (stage,) = ladder(local(chooses(), timeout_seconds=0.5, patience_seconds=1.0)).stages
    assert (stage.blame(0.3), stage.blame(0.499)) == (Blame.HASTE, Blame.CLASSIFIER)


async def test_what_may_not_be_shown_the_task_is_not_asked() -> None:
    """With `local_only` those that are not local are passed over, told, and no sign of trouble; the next one has its
    share as if they were not there."""
    hosted, inside = local(chooses(), local=False), cli(chooses())
    steps = ladder(hosted, inside)
    request = brief(task(require={"local_only": True}))
    found = await steps.classify(request, deadline=steps._clock() + 5.0)
    assert (found.source, found.degraded, [f.problem for f in found.failures]) == ("cli", False, ["not-local"])
    assert hosted.given == []
    assert inside.given == [pytest.approx(5 - RESERVE_SECONDS)]
    assert not ladder(hosted).answering(request.task, deadline=1e9)


async def test_strict_means_the_first_that_may_be_asked() -> None:
    """One that may not be shown the task is not the configured one that fails; where none may, nobody answers."""
    request = brief(task(require={"local_only": True}, strict=True))
    hosted = local(chooses(), local=False)
    steps = ladder(hosted, cli(chooses()))
    assert (await steps.classify(request, deadline=steps._clock() + 5.0)).source == "cli"
    with pytest.raises(ClassifierFailedError, match="not-local"):
        await ladder(hosted).classify(request, deadline=1e9)


async def test_a_defect_in_a_classifier_is_a_failure_like_others() -> None:
    """Without `strict` a task is answered whatever a classifier does; the defect's own text stays in the log."""
    found = await classified_by(ladder(local(breaks), cli(chooses())))
    assert found.source == "cli"
    assert [f.problem for f in found.failures] == ["internal"]
    assert "oops" not in found.failures[0].detail


async def test_a_caller_that_goes_away_frees_the_probe() -> None:
    """The probe of a caller who left does not keep the classifier resting."""
    clock = HandClock()
    steps = ladder(local(fails(), fails(), fails(), hangs), clock=clock)
    for _ in range(FAILURES):
        await classified_by(steps)
    clock.move(2.0)
    caller = asyncio.create_task(classified_by(steps))
    await asyncio.sleep(0)
    assert not steps.stages[0].breaker.admits
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert caller.cancelled()
    assert steps.stages[0].breaker.admits


async def test_failures_are_fit_to_be_shown() -> None:
    """A detail is one clean line of at most 500 characters, whatever a server said."""
    found = await classified_by(ladder(local(fails("\x1b[31m" + "x\n" * 5000))))
    detail = found.failures[0].detail
    assert len(detail) <= 500
    assert detail.isprintable()


async def test_closing_closes_each() -> None:
    """At shutdown every classifier ends what it has under way."""
    first, second = local(chooses()), cli(chooses())
    await ladder(first, second).aclose()
    assert first.closed
    assert second.closed
