"""Traces for OpenTelemetry: one span a request, in it one for each decision, in that one for each stage.

Only imported where `[tracing] endpoint` is set; it needs the extra `pointsman[tracing]`. The names of attributes are
those of OpenTelemetry's semantic conventions for HTTP servers and for generative AI (clients and agents). Nothing of a
task's text, a prompt, a reply or an exception's message is ever put into a span.
"""

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from opentelemetry import context as otel_context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service import __version__
from service.classifiers.classifier import Classified, Classifier, ClassifierError
from service.classifiers.ladder import Answered, LadderObserver
from service.contract.decision import Decision
from service.contract.errors import ConfigurationError
from service.contract.settings import Settings
from service.contract.task import Task
from service.decide.pipeline import Decide
from service.decide.sharing import Left
from service.logs.lines import BOUND
from service.observe.decisions import facts_of

EXPORT_SECONDS = 4.0
"""For one batch to the collector, tries included."""

CLOSE_SECONDS = 3.0
"""What shutting down waits for the last spans: a collector that is away must not hold up a pod that ends."""

_UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})
_PARENT_HEADERS = frozenset({b"traceparent", b"tracestate"})
_PROVIDERS = {"gemini": "gcp.gemini", "claude": "anthropic", "codex": "openai"}
"""`gen_ai.provider.name` by the program asked; any other has its own name."""


class Tracing(LadderObserver):
    """Makes the spans and sends them, in a thread of its own, to the collector that the settings name."""

    def __init__(self, settings: Settings, *, processor: SpanProcessor | None = None) -> None:
        """`processor` takes the place of the way to the collector. Raises ConfigurationError for a wrong endpoint."""
        self._server = _address(settings.local_model.endpoint) if settings.local_model.endpoint else {}
        self._model = settings.cli.model
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": settings.tracing.service_name, "service.version": __version__}),
            sampler=ParentBased(TraceIdRatioBased(settings.tracing.sample_ratio)),
            shutdown_on_exit=False,
        )
        if processor is None:
            exporter = OTLPSpanExporter(endpoint=traces_url(settings.tracing.endpoint), timeout=EXPORT_SECONDS)
            processor = BatchSpanProcessor(exporter)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("pointsman", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """`app` with a span for each request; the caller's `traceparent` is continued, log lines get a `trace_id`."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP or scope["path"] in _UNTRACED:
                await app(scope, receive, send)
                return
            facts = cast("dict[str, Any]", scope)
            headers = {n.decode(): v.decode("latin-1") for n, v in scope["headers"] if n in _PARENT_HEADERS}
            parent = self._propagator.extract(headers, context=otel_context.Context())
            with self._tracer.start_as_current_span(
                scope["method"], context=parent, kind=SpanKind.SERVER, **_WITHOUT_MESSAGES
            ) as span:

                async def watched(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        status = message["status"]
                        span.set_attribute("http.response.status_code", status)
                        if status >= 500:
                            _failed(span, str(status))
                    await send(message)

                trace_id = format_trace_id(span.get_span_context().trace_id)
                bound = BOUND.set({**BOUND.get(), "trace_id": trace_id})
                try:
                    await app(scope, receive, watched)
                finally:
                    BOUND.reset(bound)
                route = str(facts.get("path_template") or "")
                span.update_name(f"{scope['method']} {route}".rstrip())
                span.set_attributes(
                    {
                        "http.request.method": scope["method"],
                        "url.scheme": str(facts.get("scheme", "http")),
                        "pointsman.request_id": str(facts.get("request_id", "")),
                        **({"http.route": route} if route else {}),
                    }
                )

        return traced

    async def decide(
        self, decide: Decide, task: Task, *, arrived: float | None = None, left: Left | None = None
    ) -> Decision:
        """`decide`'s decision, with a span for it and one for each stage that asks nobody.

        Those are put in afterwards, by the decision's own times: eligibility comes first and the forecast last.
        """
        with self._tracer.start_as_current_span("decide", **_WITHOUT_MESSAGES) as span:
            started = time.time_ns()
            try:
                decision = await decide(task, arrived=arrived, left=left)
            except Exception as error:
                _failed(span, type(error).__name__)
                raise
            ended = time.time_ns()
            if span.is_recording():
                facts = {**facts_of(decision), "p_solve": decision.p_solve, "expected_cost_usd": decision.cost_usd}
                facts |= {"task_id": task.task_id} if task.task_id else {}
                span.set_attributes({f"pointsman.{name}": value for name, value in facts.items() if value is not None})
                took = {stage: int(ms * 1e6) for stage, ms in decision.timings_ms.items()}
                eligibility = self._tracer.start_span("eligibility", start_time=started)
                eligibility.end(min(ended, started + took.get("eligibility", 0)))
                forecast = self._tracer.start_span("forecast", start_time=max(started, ended - took.get("forecast", 0)))
                forecast.end(ended)
            return decision

    def asking(self, classifier: Classifier) -> Answered:
        """A span for one call of a classifier; requests that are made in it carry its `traceparent`."""
        attributes = self._attributes(classifier)
        name = f"{attributes['gen_ai.operation.name']} {classifier.name}"
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        token = otel_context.attach(set_span_in_context(span))

        def answered(answer: Classified | ClassifierError | None) -> None:
            otel_context.detach(token)
            if answer is None:
                _failed(span, "abandoned")
            else:
                usage = answer.usage
                span.set_attribute("gen_ai.usage.input_tokens", usage.tokens_in)
                span.set_attribute("gen_ai.usage.output_tokens", usage.tokens_out)
                span.set_attribute("pointsman.cost_usd", usage.cost_usd)
                if isinstance(answer, ClassifierError):
                    _failed(span, answer.problem)
            span.end()

        return answered

    async def inject(self, request: httpx.Request) -> None:
        """A hook for the client of the model server: `traceparent` of the span that the request is made in."""
        self._propagator.inject(request.headers)

    async def aclose(self) -> None:
        """Sends what is left, for at most `CLOSE_SECONDS`."""
        closing = threading.Thread(target=self._provider.shutdown, name="tracing-shutdown", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_SECONDS)

    def _attributes(self, classifier: Classifier) -> dict[str, str | int]:
        """A chat with a model, or an agent that is invoked."""
        if classifier.source == "local_model":
            return {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",  # whoever speaks its protocol, says the convention
                "gen_ai.request.model": classifier.name,
                "gen_ai.output.type": "json",
                **self._server,
            }
        return {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": _PROVIDERS.get(classifier.name, classifier.name),
            "gen_ai.agent.name": classifier.name,
            **({"gen_ai.request.model": self._model} if self._model else {}),
        }


_WITHOUT_MESSAGES: Mapping[str, Any] = {"record_exception": False, "set_status_on_exception": False}
"""The message of an exception may quote a task."""


def traces_url(endpoint: str) -> str:
    """Where spans are POSTed: `endpoint` itself where it has a path, else its `/v1/traces` (as OTLP's default is)."""
    parts = urlsplit(endpoint.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("expected a URL such as http://collector:4318", path="tracing.endpoint")
    return endpoint.strip() if parts.path.strip("/") else parts._replace(path="/v1/traces").geturl()


def _address(endpoint: str) -> dict[str, str | int]:
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}


def _failed(span: Span, problem: str) -> None:
    span.set_attribute("error.type", problem)
    span.set_status(StatusCode.ERROR)
