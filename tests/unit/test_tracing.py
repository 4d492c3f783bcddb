"""Spans of requests, decisions and stages, looked at in memory; none holds a task's text."""

import json
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service.contract.errors import ConfigurationError
from service.observe.tracing import traces_url
from tests.support.fake_behaviours import prose, slow, status, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_exchange import Behaviour
from tests.support.http_fixtures import CLASSIFY, OpenApp, RunningApp, with_model

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SECRET = "the text of the task, which is nobody's business"


class Spans:
    """What was exported so far."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.processor = SimpleSpanProcessor(self._exporter)

    @property
    def all(self) -> list[ReadableSpan]:
        """In the order in which they ended."""
        return list(self._exporter.get_finished_spans())

    def one(self, name: str) -> ReadableSpan:
        """The only one of that name."""
        (found,) = [span for span in self.all if span.name == name]
        return found

    def clear(self) -> None:
        """Forgets them."""
        self._exporter.clear()


@pytest.fixture
def spans() -> Spans:
    """Where spans go."""
    return Spans()


def parent_of(span: ReadableSpan) -> int | None:
    """The id of the span that it is in."""
    return span.parent.span_id if span.parent else None


def id_of(span: ReadableSpan) -> int:
    """Its own id."""
    assert span.context is not None
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> str:
    """The id of the trace that it is of."""
    assert span.context is not None
    return format(span.context.trace_id, "032x")


def facts(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes."""
    return dict(span.attributes or {})


async def traced(open_app: OpenApp, fake: FakeEndpoint, spans: Spans, **sections: Any) -> RunningApp:  # noqa: ANN401 - settings
    """A service whose spans are kept."""
    return await open_app(spans=spans.processor, local_model=with_model(fake), **sections)


async def test_the_callers_trace_goes_on_through_every_stage(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, spans: Spans
) -> None:
    """`traceparent` is continued by a span for the request, in it one for the decision, in that one for each stage."""
    app = await traced(open_app, fake_endpoint, spans)
    fake_endpoint.then(verdict("claude", "opus"))
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = await app.client.post(CLASSIFY, json={"instructions": SECRET, "task_id": "t-1"}, headers=headers)
    request, decide = spans.one("POST /v1/classify"), spans.one("decide")
    assert {trace_of(span) for span in spans.all} == {TRACE}
    assert format(parent_of(request) or 0, "016x") == PARENT
    assert parent_of(decide) == id_of(request)
    stages = [spans.one(name) for name in ("eligibility", "chat fake-model", "forecast")]
    assert {parent_of(stage) for stage in stages} == {id_of(decide)}
    assert len(spans.all) == 5
    assert request.kind is SpanKind.SERVER
    assert facts(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/classify",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "pointsman.request_id": answer.headers["x-request-id"],
    }
    assert facts(decide)["pointsman.decision_id"] == answer.json()["decision_id"]
    assert facts(decide)["pointsman.task_id"] == "t-1"
    assert (facts(decide)["pointsman.agent_type"], facts(decide)["pointsman.model"]) == ("claude", "opus")
    assert facts(decide)["pointsman.source"] == "local_model"


async def test_a_stage_lies_within_its_decision_and_in_order(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, spans: Spans
) -> None:
    """Eligibility, classifier and forecast follow each other, and each takes what `timings_ms` says."""
    app = await traced(open_app, fake_endpoint, spans)
    fake_endpoint.then(slow(verdict("claude", "opus"), 0.05))
    decision = await app.decide()
    line: list[int] = []
    for name in ("eligibility", "chat fake-model", "forecast"):
        span = spans.one(name)
        assert span.start_time is not None
        assert span.end_time is not None
        line += [span.start_time, span.end_time]
    decide = spans.one("decide")
    assert [decide.start_time, *line, decide.end_time] == sorted([decide.start_time or 0, *line, decide.end_time or 0])
    assert (line[3] - line[2]) / 1e6 == pytest.approx(decision["timings_ms"]["local_model"], abs=5)


async def test_a_classifier_is_told_of_as_the_convention_wants_it(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, spans: Spans
) -> None:
    """Operation, provider, model, tokens and address stand under the names of the convention for generative AI."""
    app = await traced(open_app, fake_endpoint, spans)
    fake_endpoint.reply({"agent_type": "claude", "model": "opus"}, usage=(120, 34))
    await app.decide()
    call = spans.one("chat fake-model")
    assert call.kind is SpanKind.CLIENT
    assert call.status.status_code is StatusCode.UNSET
    assert facts(call) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "fake-model",
        "gen_ai.output.type": "json",
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 34,
        "server.address": "127.0.0.1",
        "server.port": fake_endpoint.port,
        "pointsman.cost_usd": 0.0,
    }


async def test_the_model_server_can_go_on_with_the_trace(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, spans: Spans
) -> None:
    """The request to the model server carries the `traceparent` of the span that it is made in."""
    app = await traced(open_app, fake_endpoint, spans)
    fake_endpoint.then(verdict("claude", "opus"))
    await app.decide()
    call = spans.one("chat fake-model")
    told = fake_endpoint.chats[0].headers["traceparent"]
    assert told.startswith(f"00-{trace_of(call)}-{id_of(call):016x}-")


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [pytest.param(status(500, SECRET), "http-500", id="500"), pytest.param(prose(SECRET), "no-json", id="prose")],
)
async def test_a_failed_classifier_is_an_error_and_the_decision_is_not(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, spans: Spans, behaviour: Behaviour, problem: str
) -> None:
    """The classifier's span ends as an error with the short word for it; the decision stands, degraded."""
    app = await traced(open_app, fake_endpoint, spans)
    fake_endpoint.always(behaviour)
    decision = await app.decide()
    call, decide = spans.one("chat fake-model"), spans.one("decide")
    assert call.status.status_code is StatusCode.ERROR
    assert facts(call)["error.type"] == decision["failures"][0]["problem"] == problem
    assert decide.status.status_code is StatusCode.UNSET
    assert facts(decide)["pointsman.failures"] == (f"local_model:{problem}",)
    assert facts(decide)["pointsman.degraded"] is True


async def test_no_span_holds_a_tasks_text(open_app: OpenApp, fake_endpoint: FakeEndpoint, spans: Spans) -> None:
    """Not in names, attributes, events or states, whatever becomes of the request; a refusal has its kind only."""
    app = await traced(open_app, fake_endpoint, spans)
    fake_endpoint.then(verdict("claude", "opus", reason=SECRET), status(500, SECRET), prose(SECRET))
    for extra in ({}, {"explain": True}, {"strict": True}, {"require": {"agent_types": ["nobody"]}}):
        body = {"instructions": SECRET + str(extra), "name": SECRET, "labels": {"x": SECRET}, "agent_type": SECRET}
        await app.client.post(CLASSIFY, json={**body, **extra})
    await app.client.post(f"/{SECRET}", content=SECRET)
    everything = json.dumps([json.loads(span.to_json()) for span in spans.all])
    assert SECRET not in everything
    assert "business" not in everything
    kinds = {facts(span).get("error.type") for span in spans.all if span.name == "decide"}
    assert kinds >= {None, "NoEligibleCandidateError", "ClassifierFailedError"}
    assert all(not span.events for span in spans.all)


async def test_each_task_of_a_batch_has_a_span(open_app: OpenApp, fake_endpoint: FakeEndpoint, spans: Spans) -> None:
    """A batch is one request with a decision's span for each task, and each stage is in the right one."""
    app = await traced(open_app, fake_endpoint, spans)
    fake_endpoint.always(verdict("claude", "opus"))
    tasks = [{"instructions": f"task {number}"} for number in range(3)]
    await app.client.post(f"{CLASSIFY}/batch", json={"tasks": tasks})
    request = spans.one("POST /v1/classify/batch")
    decisions = [span for span in spans.all if span.name == "decide"]
    assert [parent_of(span) for span in decisions] == [id_of(request)] * 3
    for name in ("eligibility", "chat fake-model", "forecast"):
        assert {parent_of(span) for span in spans.all if span.name == name} == {id_of(span) for span in decisions}


async def test_a_caller_that_samples_nothing_is_heeded(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, spans: Spans
) -> None:
    """With the sampled flag off nothing is exported; probes and scrapes never are."""
    app = await traced(open_app, fake_endpoint, spans)
    fake_endpoint.always(verdict("claude", "opus"))
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    await app.client.post(CLASSIFY, json={"instructions": "x"}, headers=headers)
    for path in ("/healthz", "/readyz", "/metrics"):
        await app.client.get(path)
    assert spans.all == []


async def test_the_share_that_is_sampled_can_be_set(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, spans: Spans
) -> None:
    """`sample_ratio = 0` samples only what a caller asked for."""
    app = await traced(open_app, fake_endpoint, spans, tracing={"sample_ratio": 0})
    fake_endpoint.always(verdict("claude", "opus"))
    await app.decide("x")
    assert spans.all == []
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    await app.client.post(CLASSIFY, json={"instructions": "x"}, headers=headers)
    assert {kept.name for kept in spans.all} == {"POST /v1/classify", "decide", "eligibility", "forecast"}, (
        "the verdict was remembered"
    )


async def test_a_malformed_traceparent_begins_a_new_trace(
    open_app: OpenApp, fake_endpoint: FakeEndpoint, spans: Spans
) -> None:
    """Whatever stands in the header, the request is answered and traced."""
    app = await traced(open_app, fake_endpoint, spans)
    fake_endpoint.always(verdict("claude", "opus"))
    for header in ("", "nonsense", f"00-{'0' * 32}-{PARENT}-01", "\xff" * 60, "00-" + "a" * 5000):
        spans.clear()
        answer = await app.client.post(
            CLASSIFY, json={"instructions": "x"}, headers={b"traceparent": header.encode("latin-1")}
        )
        assert answer.status_code == 200
        assert parent_of(spans.one("POST /v1/classify")) is None


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        pytest.param("http://collector:4318", "http://collector:4318/v1/traces", id="base"),
        pytest.param("http://collector:4318/", "http://collector:4318/v1/traces", id="slash"),
        pytest.param("https://host/otlp/v1/traces", "https://host/otlp/v1/traces", id="whole"),
    ],
)
def test_where_spans_go(endpoint: str, url: str) -> None:
    """A URL without a path gets OTLP's own; one with a path is taken as it is."""
    assert traces_url(endpoint) == url


@pytest.mark.parametrize("endpoint", ["collector:4318", "grpc://collector:4317", "http://", "4318"])
def test_a_wrong_collector_is_refused(endpoint: str) -> None:
    """What is no HTTP URL is an error of the configuration that names the setting."""
    with pytest.raises(ConfigurationError, match=r"tracing\.endpoint"):
        traces_url(endpoint)
