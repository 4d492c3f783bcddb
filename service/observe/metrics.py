"""What an operator counts: one registry of Prometheus metrics, whose label values come from closed sets."""

import re
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.exposition import generate_latest

from service import __version__
from service.contract.execution import Execution
from service.contract.outcome import Context, Outcome
from service.contract.problem import Problem

STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds: from a forecast (about 1 ms) to an agent CLI (tens of seconds)."""

P_SOLVE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of a chance: wide enough that each has some attempts in it, as a reliability diagram wants."""

_CREATED = re.compile(rb"^(?:# (?:HELP|TYPE) )?pointsman_\w+_created[ {].*\n", re.MULTILINE)
"""When each series began: a second series for each one, which nothing here asks for. The library can leave them out
only for the whole process, which is not this module's to decide."""

LABELS_KEPT = 1024
"""Series that are found again without the library's lock and checks: on the way of each request."""


class Metrics:
    """One registry an application, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "pointsman"}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, **own)

        def histogram(name: str, text: str, label: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, [label], buckets=buckets, **own)

        Info("build", "The version of the service", **own).info({"version": __version__})
        self.requests = counter("http_requests", "Requests answered", "route", "method", "status")
        self.request_seconds = histogram("http_request_seconds", "Time to answer a request", "route", STAGE_BUCKETS)
        self.problems = counter("problems", "Problem documents answered", "type")
        self.decisions = counter("decisions", "Decisions made", "source", "agent_type", "model")
        self.degraded = counter("decisions_degraded", "Decisions where a configured classifier failed")
        self.cached = counter("decisions_cached", "Decisions that took the verdict of an identical request")
        self.disagreement_loss = counter(
            "classifier_disagreement_loss_usd", "What classifiers' other choices are expected to lose, by the forecast"
        )
        self.stages = histogram("decision_stage_seconds", "Time in each stage of a decision", "stage", STAGE_BUCKETS)
        self.failures = counter(
            "classifier_failures",
            "Classifiers that gave no verdict, and (`request`) agents asked for that are unknown",
            "classifier",
            "problem",
        )
        self.tokens = counter("classifying_tokens", "Tokens spent on classifying", "direction")
        self.dollars = counter("classifying_cost_usd", "US dollars spent on classifying")
        self.outcomes = counter("outcomes", "Outcomes recorded", "solved")
        self.outcomes_unlinked = counter("outcomes_unlinked", "Outcomes whose decision was never found on record")
        self.promises = histogram(
            "forecast_p_solve",
            "Chance of solving that a decision gave an attempt, by what became of that attempt",
            "solved",
            P_SOLVE_BUCKETS,
        )
        self.squared_error = counter(
            "forecast_squared_error", "Sum of (chance of solving - 1 if solved else 0)^2 over attempts compared"
        )
        pair = ("agent_type", "model")
        self.expected_solves = counter(
            "forecast_expected_solves", "Sum of the chances of solving over attempts compared", *pair
        )
        self.observed_solves = counter("forecast_observed_solves", "Attempts compared that solved", *pair)
        self.verdicts = counter(
            "classifier_verdicts",
            "Verdicts, by whether the forecast alone would choose the same",
            "classifier",
            "agrees",
        )
        self.differing = counter(
            "classifier_differing_outcomes",
            "Attempts by the choice of a decision where a classifier and the forecast named different candidates",
            *("classifier", "followed", "solved"),
        )
        self.executions = counter("executions", "Executions that ended in this process", "state")
        ProcessCollector(registry=self.registry)  # CPU, memory, open files

    def compared(self, outcome: Outcome, p_solve: float) -> None:
        """What a forecast promised, and what came of it. Brier score: squared error over attempts compared."""
        self.promises.labels("true" if outcome.solved else "false").observe(p_solve)
        self.squared_error.inc((p_solve - outcome.solved) ** 2)
        self.expected_solves.labels(*outcome.pair).inc(p_solve)
        self.observed_solves.labels(*outcome.pair).inc(int(outcome.solved))

    def unlinked(self) -> None:
        """An outcome names a decision that is not on record: it was pruned, or made elsewhere."""
        self.outcomes_unlinked.inc()

    def advised(self, outcome: Outcome, context: Context) -> None:
        """What became of a choice, where a classifier and the forecast were not of one mind."""
        advice = context.advice
        if advice is None or advice.agrees or outcome.pair != context.choice:
            return
        followed = outcome.pair == advice.choice
        self.differing.labels(advice.source, str(followed).lower(), str(outcome.solved).lower()).inc()

    def recorded(self, outcome: Outcome) -> None:
        """A new outcome, not one that was there already."""
        self.outcomes.labels("true" if outcome.solved else "false").inc()

    def execution_ended(self, execution: Execution) -> None:
        """It came to an end, or was found dead."""
        self.executions.labels(execution.state).inc()

    def answered(self, problem: Problem) -> Problem:
        """A problem document that a caller gets, by itself or within a batch."""
        self.problems.labels(problem.type).inc()
        return problem

    def render(self) -> bytes:
        """All of it in Prometheus's text form."""
        return _CREATED.sub(b"", generate_latest(self.registry))
