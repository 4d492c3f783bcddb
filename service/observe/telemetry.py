"""What an operator counts: Prometheus metrics, and one log line a decision that never holds a task's text."""

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import generate_latest

from service import __version__
from service.classifiers.classifier import Classified, Classifier, ClassifierError
from service.classifiers.ladder import Answered, LadderObserver
from service.contract.decision import Decision, LoggedDecision
from service.contract.execution import Execution
from service.contract.task import Task
from service.decide.pipeline import Observer
from service.knowledge.calibration import Compared
from service.logs.lines import configure_logging

__all__ = ["DecisionTelemetry", "Metrics", "configure_logging", "problem_label"]

STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds: from a forecast (about 1 ms) to an agent CLI (tens of seconds)."""

P_SOLVE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of a chance: wide enough that each has some attempts in it, as a reliability diagram wants."""

_KNOWN_STAGES = frozenset({"total", "eligibility", "forecast", "local_model", "cli"})

_KNOWN_STATUSES = frozenset({"400", "401", "403", "404", "408", "413", "422", "429", "500", "502", "503", "504"})
"""Of a model server; any other becomes `http-other`, so that a hostile one cannot make a series for each number."""

_CREATED = re.compile(rb"^(?:# (?:HELP|TYPE) )?pointsman_\w+_created[ {].*\n", re.MULTILINE)
"""When each series began: a second series for each one, which nothing here asks for. The library can leave them out
only for the whole process, which is not this module's to decide."""


LABELS_KEPT = 1024
"""Series that are found again without the library's lock and checks: on the way of each request."""


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
            "classifier_failures",
            "Classifiers that gave no verdict, and (`request`) agents asked for that are unknown",
            ["classifier", "problem"],
            **own,
        )
        self.stages = Histogram(
            "decision_stage_seconds", "Time in each stage of a decision", ["stage"], buckets=STAGE_BUCKETS, **own
        )
        self.waiting = Gauge("decisions_waiting", "Decisions that wait for a classifier now", **own)
        self.tokens = Counter("classifying_tokens", "Tokens spent on classifying", ["direction"], **own)
        self.dollars = Counter("classifying_cost_usd", "US dollars spent on classifying", **own)
        self.outcomes = Counter("outcomes", "Outcomes recorded", ["solved"], **own)
        self.promises = Histogram(
            "forecast_p_solve",
            "Chance of solving that a decision gave an attempt, by what became of that attempt",
            ["solved"],
            buckets=P_SOLVE_BUCKETS,
            **own,
        )
        self.squared_error = Counter(
            "forecast_squared_error", "Sum of (chance of solving - 1 if solved else 0)^2 over attempts compared", **own
        )
        pair = ["agent_type", "model"]
        self.expected_solves = Counter(
            "forecast_expected_solves", "Sum of the chances of solving over attempts compared", pair, **own
        )
        self.observed_solves = Counter("forecast_observed_solves", "Attempts compared that solved", pair, **own)
        self.executions = Counter("executions", "Executions that ended in this process", ["state"], **own)
        self.problems = Counter("problems", "Problem documents answered", ["type"], **own)
        ProcessCollector(registry=self.registry)  # CPU, memory, open files

    def compared(self, attempt: Compared) -> None:
        """What a forecast promised, and what came of it. Brier score: squared error over attempts compared."""
        self.promises.labels("true" if attempt.solved else "false").observe(attempt.p_solve)
        self.squared_error.inc((attempt.p_solve - attempt.solved) ** 2)
        self.expected_solves.labels(attempt.agent_type, attempt.model).inc(attempt.p_solve)
        self.observed_solves.labels(attempt.agent_type, attempt.model).inc(int(attempt.solved))

    def execution_ended(self, execution: Execution) -> None:
        """It came to an end, or was found dead."""
        self.executions.labels(execution.state).inc()

    def render(self) -> bytes:
        """All of it in Prometheus's text form."""
        return _CREATED.sub(b"", generate_latest(self.registry))


class DecisionTelemetry(Observer, LadderObserver):
    """Counts each decision and each call of a classifier, and writes one log line about a decision: who, what, how
    long; never the task's text.
    """

    def __init__(self, metrics: Metrics, keep: Callable[[LoggedDecision], None]) -> None:
        self._metrics = metrics
        self._keep = keep
        self._log = structlog.get_logger("pointsman.decision")
        self._decisions = lru_cache(LABELS_KEPT)(metrics.decisions.labels)
        self._stages = lru_cache(LABELS_KEPT)(metrics.stages.labels)

    def decided(self, task: Task, decision: Decision, logged: LoggedDecision) -> None:
        """A decision was made."""
        self._keep(logged)
        metrics = self._metrics
        self._decisions(decision.source, decision.agent_type, decision.model).inc()
        if decision.degraded:
            metrics.degraded.inc()
        if decision.cached:
            metrics.cached.inc()
        for failure in decision.failures:
            if failure.source == "request":  # the others are counted where they happen, a shared one once
                metrics.failures.labels(failure.source, failure.problem).inc()
        for stage, milliseconds in decision.timings_ms.items():
            if stage in _KNOWN_STAGES:
                self._stages(stage).observe(milliseconds / 1000)
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

    def asking(self, classifier: Classifier) -> Answered:
        """Whatever comes of it, what it spent is counted, also where no decision comes of it."""
        return partial(self._spent, classifier)

    def failed(self, classifier: Classifier, error: ClassifierError) -> None:
        """It gave no verdict."""
        self._metrics.failures.labels(classifier.source, problem_label(error.problem)).inc()

    def _spent(self, classifier: Classifier, answer: Classified | ClassifierError | None) -> None:
        if answer is None:
            self._metrics.failures.labels(classifier.source, "abandoned").inc()
            return
        usage = answer.usage
        if usage.tokens_in or usage.tokens_out:
            self._metrics.tokens.labels("in").inc(usage.tokens_in)
            self._metrics.tokens.labels("out").inc(usage.tokens_out)
        if usage.cost_usd:
            self._metrics.dollars.inc(usage.cost_usd)

    def waiting(self, number: int) -> None:
        """So many decisions wait for a classifier now."""
        self._metrics.waiting.set(number)


def problem_label(problem: str) -> str:
    """The word for a label: `problem` itself, which this code coined, but for statuses that a server makes up."""
    kind, _, status = problem.partition("http-")
    if kind or not status or status in _KNOWN_STATUSES:
        return problem
    return "http-other"
