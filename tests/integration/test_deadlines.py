"""The deadline holds: how it is shared out, and a short form of the load test that measures it."""

import time
from pathlib import Path

import pytest

from service.classifiers.ladder import ANSWER_SECONDS, RESERVE_SECONDS, SLACK_SECONDS, give_up_by
from service.contract.settings import DecisionSettings
from tests.load.deadline import Measured, measure
from tests.support.builders import HandClock, pipeline, task
from tests.support.fake_behaviours import hang
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.faults import endpoint_faults
from tests.support.http_fixtures import OpenService
from tests.support.plain_http import PlainClient
from tests.support.scripted_classifier import ScriptedClassifier, chooses
from tests.support.service_process import ServiceProcess

HANG_GUARD_MS = 1000.0
"""Past the deadline; the measurement is tests/load/deadline.py, on a machine that does nothing else."""


@pytest.fixture
def service(open_service: OpenService, fake_endpoint: FakeEndpoint, catalog_file: Path) -> ServiceProcess:
    """A service before the fake endpoint."""
    return open_service(
        POINTSMAN_LOCAL_MODEL__ENDPOINT=fake_endpoint.url,
        POINTSMAN_LOCAL_MODEL__MODEL="fake",
        POINTSMAN_LOCAL_MODEL__MAX_CONCURRENCY="8",
        POINTSMAN_CATALOG__PATH=str(catalog_file),
        POINTSMAN_CLI__PRESET="",
    )


@pytest.mark.parametrize("fault", ["never-answers", "a-byte-a-second", "endless-body", "a-mib-of-brackets", "500"])
async def test_a_fault_makes_nobody_late(service: ServiceProcess, fake_endpoint: FakeEndpoint, fault: str) -> None:
    """Forty calls, eight at once, each answered 200 and none a second late: would catch a call that waits for the
    server's time and not for the caller's, and an event loop that stands still."""
    fake_endpoint.always(endpoint_faults()[fault])
    measured = Measured(fault, 250, False, 8)
    await measure(service.url, measured, 40)
    assert (measured.wrong, dict(measured.statuses)) == (0, {200: 40})
    assert max(measured.late_ms) < HANG_GUARD_MS


async def test_a_batch_of_hundred_is_not_late_together(service: ServiceProcess, fake_endpoint: FakeEndpoint) -> None:
    """All tasks of a batch run out of time at the same deadline, and each still takes its turn before it: would catch a
    reserve for one answer where a hundred are to be made."""
    fake_endpoint.always(hang())
    tasks = [{"instructions": f"Fix page {number}"} for number in range(100)]
    async with PlainClient(service.url) as client:
        await client.ask("POST", "/v1/classify", {"instructions": "warm", "deadline_ms": 100})
        answer = await client.ask("POST", "/v1/classify/batch", {"tasks": tasks, "deadline_ms": 800})
    results = answer.json["results"]
    assert [result["source"] for result in results] == ["forecast"] * 100
    assert answer.seconds * 1000 < 800 + HANG_GUARD_MS
    totals = [result["timings_ms"]["total"] for result in results]
    assert totals[-1] < totals[0], "who came last gives up first"


async def test_those_who_wait_leave_one_after_the_other() -> None:
    """Each one who waits gives up the time of an answer before the one who came just before it, and never more than
    half of what it has: would catch deadlines that all fall on one moment."""
    clock = HandClock()
    classifier = ScriptedClassifier(chooses())
    deciding = pipeline(classifier, clock=clock, settings=DecisionSettings(cache_seconds=0), max_in_flight=2000)
    for waiting in (0, 1, 10, 1000):
        deciding.classifiers.waiting = waiting
        await deciding.decide(task(deadline_ms=1000))
    earlier = [1.0 - RESERVE_SECONDS - given for given in classifier.given]
    slack = SLACK_SECONDS
    assert earlier == pytest.approx([slack, slack + ANSWER_SECONDS, slack + 10 * ANSWER_SECONDS, slack + 0.45])
    assert give_up_by(clock() - 1.0, now=clock(), waiting=10) == clock() - 1.0


async def test_the_stages_are_told(service: ServiceProcess, fake_endpoint: FakeEndpoint) -> None:
    """`timings_ms` has each stage, and together they are not longer than the whole: would catch a stage left out."""
    fake_endpoint.always(hang())
    started = time.perf_counter()
    async with PlainClient(service.url) as client:
        answer = await client.ask("POST", "/v1/classify", {"instructions": "Fix it", "deadline_ms": 200})
    timings = answer.json["timings_ms"]
    assert set(timings) == {"total", "eligibility", "local_model", "forecast"}
    assert 150 < timings["local_model"] < timings["total"] < (time.perf_counter() - started) * 1000
    assert sum(timings.values()) - timings["total"] <= timings["total"]
