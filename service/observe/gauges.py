"""What is not counted as it happens but read off the running parts each time the metrics are asked for."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.logs.writer import LogWriter
from service.observe.status import Parts

_BREAKER_NUMBERS = {"closed": 0, "half-open": 1, "open": 2}


class Worker(Protocol):
    """What asks a classifier: how many calls it has under way, and how many wait for a slot."""

    @property
    def under_way(self) -> int:
        """Calls now, those included that their callers left and that are just ending."""
        ...

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        ...


class StateCollector(Collector):
    """The state of the parts, as metrics; label values are the configured classifiers and words of this file."""

    def __init__(self, parts: Parts, workers: Mapping[str, Worker], log: LogWriter | None) -> None:
        """`workers` by the source of their classifier; `log` tells how many of its lines were dropped."""
        self._parts = parts
        self._workers = workers
        self._log = log

    def collect(self) -> Iterator[Metric]:
        yield from self._classifiers()
        yield from self._store()
        yield from self._executions()
        yield from self._files()

    def _classifiers(self) -> Iterator[Metric]:
        classifiers = self._parts.pipeline.classifiers
        label = ["classifier"]
        state = GaugeMetricFamily("pointsman_breaker_state", "0 closed, 1 half-open, 2 open", labels=label)
        for stage in classifiers.ladder.stages:
            state.add_metric([stage.classifier.source], _BREAKER_NUMBERS[stage.breaker.state])
        yield state
        under_way = GaugeMetricFamily(
            "pointsman_classifier_calls_in_flight", "Calls of a classifier under way now", labels=label
        )
        waiting = GaugeMetricFamily(
            "pointsman_classifier_calls_queued", "Calls that wait for one of a classifier's slots", labels=label
        )
        for source, worker in self._workers.items():
            under_way.add_metric([source], worker.under_way)
            waiting.add_metric([source], worker.waiting)
        yield under_way
        yield waiting
        yield GaugeMetricFamily(
            "pointsman_decisions_waiting", "Decisions that wait for a classifier now", classifiers.waiting
        )
        yield GaugeMetricFamily(
            "pointsman_decisions_waiting_limit",
            "Decisions that may wait for a classifier at once; beyond it callers are answered overloaded",
            classifiers.max_in_flight,
        )

    def _store(self) -> Iterator[Metric]:
        status = self._parts.store.status
        yield GaugeMetricFamily(
            "pointsman_store_recording", "1 while the store takes what it is given", int(status.recording)
        )
        yield GaugeMetricFamily(
            "pointsman_store_buffered_decisions", "Decisions that wait to be written to the store", status.buffered
        )
        yield CounterMetricFamily(
            "pointsman_store_dropped_decisions", "Decisions that were never written to the store", status.dropped
        )
        dropped = 0 if self._log is None else self._log.dropped
        yield CounterMetricFamily("pointsman_log_lines_dropped", "Log lines that stderr did not take", dropped)
        yield GaugeMetricFamily(
            "pointsman_learned_outcomes",
            "Outcomes that the forecast has learned from",
            self._parts.learner.report().outcomes,
        )

    def _executions(self) -> Iterator[Metric]:
        executions = self._parts.executions
        if executions is not None:
            yield GaugeMetricFamily(
                "pointsman_executions_running", "Executions that run in this process now", executions.running
            )
            yield GaugeMetricFamily(
                "pointsman_executions_queued", "Executions that wait in this process", executions.queued
            )

    def _files(self) -> Iterator[Metric]:
        status = self._parts.reloader.status
        yield GaugeMetricFamily(
            "pointsman_reload_refused",
            "1 while changed files were refused and the last good ones stay",
            int(status.problem is not None),
        )
        reloads = CounterMetricFamily("pointsman_reloads", "Changed files that were read", labels=["result"])
        reloads.add_metric(["adopted"], status.reloads)
        reloads.add_metric(["refused"], status.refused)
        yield reloads
        yield GaugeMetricFamily(
            "pointsman_restart_needed",
            "1 while the settings file differs from what runs in a section that only a restart changes",
            int(bool(status.needs_restart)),
        )
