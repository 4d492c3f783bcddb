"""What is told of each decision: counts of it and of each call of a classifier, and one log line."""

from functools import lru_cache, partial
from typing import Any

import structlog

from service.classifiers.classifier import Classified, Classifier, ClassifierError
from service.classifiers.ladder import Answered, LadderObserver
from service.contract.decision import Decision, LoggedDecision
from service.observe.metrics import LABELS_KEPT, Metrics
from service.store.facts import forecast_choice

_STAGES = frozenset({"total", "eligibility", "forecast", "local_model", "cli"})

_STATUSES = frozenset(
    {*("400", "401", "403", "404", "408", "413", "422", "429"), *("500", "501", "502", "503", "504", "529")}
)
"""Of a model server; any other becomes `http-other`, so that a hostile one cannot make a series for each number."""


class DecisionCounts(LadderObserver):
    """Counts decisions, and what classifying spent, whether a decision came of it or not."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._decisions = lru_cache(LABELS_KEPT)(metrics.decisions.labels)
        self._stages = lru_cache(LABELS_KEPT)(metrics.stages.labels)
        self._verdicts = lru_cache(LABELS_KEPT)(metrics.verdicts.labels)
        self._tokens = lru_cache(LABELS_KEPT)(metrics.tokens.labels)

    def decided(self, logged: LoggedDecision) -> None:
        metrics, decision = self._metrics, logged.decision
        self._decisions(decision.source, *decision.key).inc()
        if decision.degraded:
            metrics.degraded.inc()
        if decision.cached:
            metrics.cached.inc()
        if (advice := logged.known.advice) is not None:
            self._verdicts(advice.source, "true" if advice.agrees else "false").inc()
        other = forecast_choice(decision)
        if other is not None:
            metrics.disagreement_loss.inc(max(0.0, other.loss_usd))
        for failure in decision.failures:
            if failure.source == "request":  # the others are counted where they happen, a shared one once
                metrics.failures.labels(failure.source, failure.problem).inc()
        for stage, milliseconds in decision.timings_ms.items():
            if stage in _STAGES:
                self._stages(stage).observe(milliseconds / 1000)

    def asking(self, classifier: Classifier) -> Answered:
        return partial(self._spent, classifier)

    def failed(self, classifier: Classifier, error: ClassifierError) -> None:
        self._metrics.failures.labels(classifier.source, problem_label(error.problem)).inc()

    def _spent(self, classifier: Classifier, answer: Classified | ClassifierError | None) -> None:
        if answer is None:
            self._metrics.failures.labels(classifier.source, "abandoned").inc()
            return
        usage = answer.usage
        if usage.tokens_in or usage.tokens_out:
            self._tokens("in").inc(usage.tokens_in)
            self._tokens("out").inc(usage.tokens_out)
        if usage.cost_usd:
            self._metrics.dollars.inc(usage.cost_usd)


class DecisionLines:
    """Writes one log line about a decision: who, what, how long; never the task's text."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("pointsman.decision")

    def decided(self, logged: LoggedDecision) -> None:
        decision = logged.decision
        self._log.info("decided", task_id=logged.task_id, **facts_of(decision), total_ms=decision.timings_ms["total"])


def facts_of(decision: Decision) -> dict[str, Any]:
    """What log lines and traces say of it: no word of the task or of a reply."""
    return {
        "decision_id": decision.decision_id,
        "source": decision.source,
        "agent_type": decision.agent_type,
        "model": decision.model,
        "effort": decision.effort,
        "degraded": decision.degraded,
        "cached": decision.cached,
        "explored": decision.explored,
        "propensity": decision.propensity,
        "failures": [f"{failure.source}:{failure.problem}" for failure in decision.failures],
    }


def problem_label(problem: str) -> str:
    """The word for a label: `problem` itself, which this code coined, but for statuses that a server makes up."""
    kind, _, status = problem.partition("http-")
    if kind or not status or status in _STATUSES:
        return problem
    return "http-other"
