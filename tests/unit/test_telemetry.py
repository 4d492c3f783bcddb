"""Metrics and log lines: closed sets of labels, no series too many, and never a task's text."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.logs.lines import frames
from service.observe.decisions import problem_label
from tests.support.fake_behaviours import raw, status, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.http_fixtures import OpenApp, RunningApp, with_model

ROOT = Path(__file__).parents[2]


async def samples(app: RunningApp) -> dict[str, float]:
    """The metrics, by name and labels."""
    response = await app.client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_decisions_are_counted(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """Decisions, failures, tokens and stages are counted by source and pair, and outcomes by what became of them."""
    app = await open_app(local_model=with_model(fake_endpoint))
    fake_endpoint.then(verdict("claude", "opus"), status(500))
    for name in ("a", "a", "b"):
        await app.decide(name=name)
    await app.client.post("/v1/outcomes", json={"agent_type": "claude", "model": "opus", "solved": True})
    found = await samples(app)
    assert found['pointsman_decisions_total{agent_type="claude",model="opus",source="local_model"}'] == 2
    assert found["pointsman_decisions_cached_total"] == 1
    assert found["pointsman_decisions_degraded_total"] == 1
    assert found['pointsman_classifier_failures_total{classifier="local_model",problem="http-500"}'] == 1
    assert found['pointsman_classifying_tokens_total{direction="in"}'] == 10
    assert found['pointsman_classifying_tokens_total{direction="out"}'] == 5
    assert found['pointsman_outcomes_total{solved="true"}'] == 1
    assert found['pointsman_decision_stage_seconds_count{stage="total"}'] == 3
    assert found['pointsman_breaker_state{classifier="local_model"}'] == 0
    assert found["pointsman_store_recording"] == 1
    assert found["pointsman_decisions_waiting"] == 0


async def test_no_series_says_when_it_was_created(plain_app: RunningApp) -> None:
    """The `_created` series, one more for each series, are left out with their help lines."""
    await plain_app.decide()
    text = (await plain_app.client.get("/metrics")).text
    assert "_created" not in text
    assert "pointsman_decisions_total{" in text
    assert text.endswith("\n")


async def test_hostile_requests_make_no_series(plain_app: RunningApp) -> None:
    """An agent type, a label or a task id of a request never becomes a label of a metric."""
    for number in range(20):
        word = f"hostile-{number}"
        await plain_app.decide(agent_type=word, model=word, task_id=word, name=word, labels={word: word})
        await plain_app.client.post("/v1/outcomes", json={"agent_type": word, "model": word, "solved": True})
    text = (await plain_app.client.get("/metrics")).text
    assert "hostile" not in text
    assert 'problem="unknown-agent-type"' in text


async def test_a_hostile_server_makes_no_series(open_app: OpenApp, fake_endpoint: FakeEndpoint) -> None:
    """Whatever status or words a model server sends, the labels stay within a closed set."""
    app = await open_app(local_model=with_model(fake_endpoint), decision={"cache_seconds": 0})
    for number in range(40):
        body = json.dumps({"error": {"message": f"word{number}", "type": f"word{number}", "code": f"word{number}"}})
        fake_endpoint.then(raw(body.encode(), status=430 + number))
        await app.decide(f"Task {number}", deadline_ms=3000)
        for stage in app.core.pipeline.classifiers.ladder.stages:  # so that each one is asked
            stage.breaker._open_until = None
    labels = {name for name in await samples(app) if name.startswith("pointsman_classifier_failures_total")}
    assert labels == {'pointsman_classifier_failures_total{classifier="local_model",problem="http-other"}'}


@pytest.mark.parametrize(
    ("problem", "label"),
    [
        ("timeout", "timeout"),
        ("http-429", "http-429"),
        ("http-503", "http-503"),
        ("http-418", "http-other"),
        ("http-999", "http-other"),
        ("http-", "http-"),
        ("http-x", "http-other"),
        ("http-٤٢٩", "http-other"),
        ("not-http-1", "not-http-1"),
    ],
)
def test_statuses_are_folded(problem: str, label: str) -> None:
    """Statuses that servers really send have a label each, all others share one."""
    assert problem_label(problem) == label


def test_frames_name_types_and_places_but_no_messages() -> None:
    """What is kept of an exception says where and what kind, causes included, and nothing of its text."""

    def inner() -> None:
        raise KeyError("secret one")

    def outer() -> None:
        try:
            inner()
        except KeyError as error:
            raise ValueError("secret two") from error

    with pytest.raises(ValueError, match="two") as caught:
        outer()
    text = "\n".join(frames(caught.value))
    assert "KeyError" in text
    assert "ValueError" in text
    assert "in inner" in text
    assert "in outer" in text
    assert "secret" not in text
    assert text.index("KeyError") < text.index("ValueError")


def test_frames_of_a_circle_end() -> None:
    """Exceptions that name each other as causes do not hold the log for ever."""
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert len(frames(first)) < 10


def test_frames_of_a_deep_recursion_are_cut() -> None:
    """A recursion that went too deep leaves a line of the log and not a page."""

    def dig() -> None:
        dig()

    with pytest.raises(RecursionError) as caught:
        dig()
    assert len(frames(caught.value)) <= 41


PROGRAM = """
import logging, sys, structlog
from service.logs.lines import BOUND, configure_logging
configure_logging("info")
log = structlog.get_logger("x")
if BOUND.set({"request_id": "r1"}):
    log.info("hello", task_id="t", text="line\\nbreak")
    log.debug("unseen")
    try:
        raise ValueError("secret task text")
    except ValueError as error:
        log.error("defect", exc_info=error)
        log.error("defect", exc_info=True)
        logging.getLogger("some.library").exception("it failed")
    logging.getLogger("some.library").warning("with %s", "arguments")
    log.warning("odd", surrogate="\\ud800", long="x" * 100_000, thing=object())
logging.getLogger("httpx").info("unseen")
"""


def test_every_log_line_is_one_json_object() -> None:
    """structlog's lines and the standard library's are JSON objects with the request's id, and tell no message."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines if "event" in line] == [
        *("hello", "defect", "defect", "it failed", "with arguments"),
        "'odd'",
    ]
    assert {line["request_id"].strip("'") for line in lines} == {"r1"}
    assert lines[0]["level"] == "info"
    assert lines[0]["timestamp"].endswith("Z")
    assert [line["error"] for line in lines[1:4]] == ["ValueError"] * 3
    assert lines[3]["logger"] == "some.library"
    assert "secret" not in done.stderr
    assert "unseen" not in done.stderr
    assert max(len(line) for line in done.stderr.splitlines()) < 10_000
