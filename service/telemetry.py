"""What an operator counts: Prometheus metrics, and one log line a decision that never holds a task's text."""

import re
from collections.abc import Callable
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import generate_latest

from service import __version__
from service.decision import Decision, LoggedDecision
from service.logs import configure_logging
from service.pipeline import Observer
from service.task import Task

__all__ = ["DecisionTelemetry", "Metrics", "configure_logging", "problem_label"]

STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds: from a forecast (about 1 ms) to an agent CLI (tens of seconds)."""

_KNOWN_STAGES = frozenset({"total", "eligibility", "forecast", "local_model", "cli"})

_KNOWN_STATUSES = frozenset({400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504})
"""Of a model server; any other becomes `http-other`, so that a hostile one cannot make a series for each number."""

_CREATED = re.compile(rb"^(?:# (?:HELP|TYPE) )?pointsman_\w+_created[ {].*\n", re.MULTILINE)
"""When each series began: a second series for each one, which nothing here asks for. The library can leave them out
only for the whole process, which is not this module's to decide."""


class Metrics:
    """One registry an application, so that several can live in one process. Label values come from closed sets."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "pointsman"}
        self.build = Info("build", "The version of the service", **own)
        self.build.info({"version": __version__})
        self.requests = Counter("http_requests", "Requests answered", ["route", "method", "status"], **own)
        self.request_seconds = Histogram(
            "http_request_seconds", "Time to answer a request", ["route"], buckets=STAGE_BUCKETS, **own
        )
        self.decisions = Counter("decisions", "Decisions made", ["source", "agent_type", "model"], **own)
        self.degraded = Counter("decisions_degraded", "Decisions where a configured classifier failed", **own)
        self.cached = Counter("decisions_cached", "Decisions that took the verdict of an identical request", **own)
        self.failures = Counter(
            "classifier_failures", "Classifiers that gave no verdict", ["classifier", "problem"], **own
        )
        self.stages = Histogram(
            "decision_stage_seconds", "Time in each stage of a decision", ["stage"], buckets=STAGE_BUCKETS, **own
        )
        self.waiting = Gauge("decisions_waiting", "Decisions that wait for a classifier now", **own)
        self.breakers = Gauge("breaker_state", "0 closed, 1 half-open, 2 open", ["classifier"], **own)
        self.tokens = Counter("classifying_tokens", "Tokens spent on classifying", ["direction"], **own)
        self.dollars = Counter("classifying_cost_usd", "US dollars spent on classifying", **own)
        self.outcomes = Counter("outcomes", "Outcomes recorded", ["solved"], **own)
        self.recording = Gauge("store_recording", "1 while the store takes what it is given", **own)
        self.reload_refused = Gauge(
            "reload_refused", "1 while changed files were refused and the last good ones stay", **own
        )
        self.problems = Counter("problems", "Problem documents answered", ["type"], **own)

    def render(self) -> bytes:
        """All of it in Prometheus's text form."""
        return _CREATED.sub(b"", generate_latest(self.registry))


class DecisionTelemetry(Observer):
    """Counts each decision and writes one log line about it: who, what, how long; never the task's text."""

    def __init__(self, metrics: Metrics, keep: Callable[[LoggedDecision], None]) -> None:
        self._metrics = metrics
        self._keep = keep
        self._log = structlog.get_logger("pointsman.decision")

    def decided(self, task: Task, decision: Decision, logged: LoggedDecision) -> None:
        """A decision was made."""
        self._keep(logged)
        metrics = self._metrics
        metrics.decisions.labels(decision.source, decision.agent_type, decision.model).inc()
        if decision.degraded:
            metrics.degraded.inc()
        if decision.cached:
            metrics.cached.inc()
        for failure in decision.failures:
            metrics.failures.labels(failure.source, problem_label(failure.problem)).inc()
        for stage, milliseconds in decision.timings_ms.items():
            if stage in _KNOWN_STAGES:
                metrics.stages.labels(stage).observe(milliseconds / 1000)
        if decision.usage.tokens_in or decision.usage.tokens_out:
            metrics.tokens.labels("in").inc(decision.usage.tokens_in)
            metrics.tokens.labels("out").inc(decision.usage.tokens_out)
        if decision.usage.cost_usd:
            metrics.dollars.inc(decision.usage.cost_usd)
        self._log.info(
            "decided",
            decision_id=decision.decision_id,
            task_id=task.task_id,
            source=decision.source,
            agent_type=decision.agent_type,
            model=decision.model,
            degraded=decision.degraded,
            cached=decision.cached,
            failures=[f"{failure.source}:{failure.problem}" for failure in decision.failures],
            total_ms=decision.timings_ms["total"],
        )

    def waiting(self, number: int) -> None:
        """So many decisions wait for a classifier now."""
        self._metrics.waiting.set(number)


def problem_label(problem: str) -> str:
    """The word for a label: `problem` itself, which this code coined, but for statuses that a server makes up."""
    kind, _, status = problem.partition("http-")
    if kind or not status or (status.isdecimal() and int(status) in _KNOWN_STATUSES):
        return problem
    return "http-other"
