"""What is not counted as it happens but read off the running parts each time the metrics are asked for."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.classifiers.program import CliClassifier
from service.llm.client import LLMClient
from service.logs.writer import LogWriter
from service.observe.status import Parts

_BREAKER_NUMBERS = {"closed": 0, "half-open": 1, "open": 2}


Worker = LLMClient | CliClassifier
"""Does the calls of a classifier, and knows how many are under way and how many wait for a slot."""


class StateCollector(Collector):
    """The state of the parts, as metrics; label values are the configured classifiers and words of this file."""

    def __init__(self, parts: Parts, workers: Mapping[str, Worker | None], log: LogWriter | None) -> None:
        """`workers` by the source of their classifier, None where it is not configured."""
        self._parts = parts
        self._workers = workers
        self._log = log

    def collect(self) -> Iterator[Metric]:
        parts, classifiers = self._parts, self._parts.pipeline.classifiers
        store, files = parts.store.status, parts.reloader.status
        gauges = {
            "decisions_waiting": ("Decisions that wait for a classifier now", classifiers.waiting),
            "decisions_waiting_limit": (
                "Decisions that may wait for a classifier at once; beyond it callers are answered overloaded",
                classifiers.max_in_flight,
            ),
            "learned_outcomes": ("Outcomes that the forecast has learned from", parts.learner.report.outcomes),
            "store_recording": ("1 while the store takes what it is given", store.recording),
            "store_buffered_decisions": ("Decisions that wait to be written to the store", store.buffered),
            "reload_refused": (
                "1 while changed files were refused and the last good ones stay",
                files.problem is not None,
            ),
            "restart_needed": (
                "1 while the settings file differs from what runs in a section that only a restart changes",
                bool(files.needs_restart),
            ),
        }
        if parts.executions is not None:
            gauges |= {
                "executions_running": ("Executions that run in this process now", parts.executions.running),
                "executions_queued": ("Executions that wait in this process", parts.executions.queued),
            }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"pointsman_{name}", text, int(value))
        yield from self._classifiers()
        yield CounterMetricFamily(
            "pointsman_store_dropped_decisions", "Decisions that were never written to the store", store.dropped
        )
        dropped = 0 if self._log is None else self._log.dropped
        yield CounterMetricFamily("pointsman_log_lines_dropped", "Log lines that stderr did not take", dropped)
        reloads = CounterMetricFamily("pointsman_reloads", "Changed files that were read", labels=["result"])
        reloads.add_metric(["adopted"], files.reloads)
        reloads.add_metric(["refused"], files.refused)
        yield reloads
        yield from self._calibration()

    def _calibration(self) -> Iterator[Metric]:
        label = ["agent_type", "model", "kind", "failures"]
        texts = {
            "attempts": "Attempts that count now whose decision gave them a chance, by failures before (3: and more)",
            "expected": "Sum of the chances that these attempts were given",
            "observed": "Those of these attempts that solved their task",
        }
        families = {
            name: GaugeMetricFamily(f"pointsman_calibration_{name}", text, labels=label) for name, text in texts.items()
        }
        for row in self._parts.learner.calibration.rows():
            place = [row.agent_type, row.model, row.kind, str(row.failures)]
            families["attempts"].add_metric(place, row.n)
            families["expected"].add_metric(place, row.expected)
            families["observed"].add_metric(place, row.observed)
        yield from families.values()

    def _classifiers(self) -> Iterator[Metric]:
        label = ["classifier"]
        state = GaugeMetricFamily("pointsman_breaker_state", "0 closed, 1 half-open, 2 open", labels=label)
        for stage in self._parts.pipeline.classifiers.ladder.stages:
            state.add_metric([stage.classifier.source], _BREAKER_NUMBERS[stage.breaker.state])
        under_way = GaugeMetricFamily(
            "pointsman_classifier_calls_in_flight", "Calls of a classifier under way now", labels=label
        )
        waiting = GaugeMetricFamily(
            "pointsman_classifier_calls_queued", "Calls that wait for one of a classifier's slots", labels=label
        )
        for source, worker in self._workers.items():
            if worker is not None:
                under_way.add_metric([source], worker.under_way)
                waiting.add_metric([source], worker.waiting)
        yield from (state, under_way, waiting)
