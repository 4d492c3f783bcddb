"""What is not counted as it happens but read off the running parts each time the metrics are asked for."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.decide.pipeline import Pipeline
from service.executions.executions import Executions
from service.knowledge.learner import Learner
from service.knowledge.reload import Reloader
from service.logs.writer import LogWriter
from service.store import Store

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

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        store: Store,
        reloader: Reloader,
        learner: Learner,
        executions: Executions | None,
        workers: Mapping[str, Worker],
        max_in_flight: int,
        log: LogWriter | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._reloader = reloader
        self._learner = learner
        self._executions = executions
        self._workers = workers
        self._max_in_flight = max_in_flight
        self._log = log

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        yield from self._classifiers()
        yield from self._state()
        yield from self._files()

    def _classifiers(self) -> Iterator[Metric]:
        state = GaugeMetricFamily("pointsman_breaker_state", "0 closed, 1 half-open, 2 open", labels=["classifier"])
        for stage in self._pipeline.ladder.stages:
            state.add_metric([stage.classifier.source], _BREAKER_NUMBERS[stage.breaker.state])
        yield state
        under_way = GaugeMetricFamily(
            "pointsman_classifier_calls_in_flight", "Calls of a classifier under way now", labels=["classifier"]
        )
        waiting = GaugeMetricFamily(
            "pointsman_classifier_calls_queued",
            "Calls that wait for one of a classifier's slots",
            labels=["classifier"],
        )
        for source, worker in self._workers.items():
            under_way.add_metric([source], worker.under_way)
            waiting.add_metric([source], worker.waiting)
        yield under_way
        yield waiting
        yield GaugeMetricFamily(
            "pointsman_decisions_waiting_limit",
            "Decisions that may wait for a classifier at once; beyond it callers are answered overloaded",
            self._max_in_flight,
        )

    def _state(self) -> Iterator[Metric]:
        store = self._store.status
        yield GaugeMetricFamily(
            "pointsman_store_recording", "1 while the store takes what it is given", int(store.recording)
        )
        yield GaugeMetricFamily(
            "pointsman_store_buffered_decisions", "Decisions that wait to be written to the store", store.buffered
        )
        yield CounterMetricFamily(
            "pointsman_store_dropped_decisions", "Decisions that were never written to the store", store.dropped
        )
        yield CounterMetricFamily(
            "pointsman_log_lines_dropped",
            "Log lines that stderr did not take",
            0 if self._log is None else self._log.dropped,
        )
        learned = self._learner.report()
        yield GaugeMetricFamily(
            "pointsman_learned_outcomes", "Outcomes that the forecast has learned from", learned["outcomes"]
        )
        if self._executions is not None:
            yield GaugeMetricFamily(
                "pointsman_executions_running", "Executions that run in this process now", self._executions.running
            )
            yield GaugeMetricFamily(
                "pointsman_executions_queued", "Executions that wait in this process", self._executions.queued
            )

    def _files(self) -> Iterator[Metric]:
        status = self._reloader.status
        yield GaugeMetricFamily(
            "pointsman_reload_refused",
            "1 while changed files were refused and the last good ones stay",
            0 if status.problem is None else 1,
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
