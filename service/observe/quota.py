"""What callers last told of quota pools: the windows of each, as gauges. Nothing is computed, only passed on."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.contract.decision import LoggedDecision
from service.contract.quota import PoolState
from service.knowledge.knowledge import InUse

MOST_POOLS = 100
"""Pools that are shown; only those of the catalog are, so that no caller makes series as they please."""


class QuotaWindows(Collector):
    """Is told of each decision, and keeps of each pool what was told last."""

    def __init__(self, in_use: InUse) -> None:
        self._in_use = in_use
        self._told: dict[str, PoolState] = {}

    def decided(self, logged: LoggedDecision) -> None:
        """Never waits."""
        if logged.request is not None and logged.request.pools:
            candidates = self._in_use.knowledge.catalog.candidates
            known = {candidate.quota_pool for candidate in candidates}
            for pool, state in logged.request.pools.items():
                if pool in known and (pool in self._told or len(self._told) < MOST_POOLS):
                    self._told[pool] = state

    def collect(self) -> Iterator[Metric]:
        """As of the last decision that told of each pool."""
        labels = ["pool", "minutes"]
        used = GaugeMetricFamily("pointsman_quota_window_used_ratio", "Share used of a window, as told", labels=labels)
        begins = GaugeMetricFamily(
            "pointsman_quota_window_resets_timestamp_seconds", "When a window begins anew, as told", labels=labels
        )
        for pool, state in list(self._told.items()):
            for minutes, window in {f"{window.minutes:g}": window for window in state.windows}.items():
                used.add_metric([pool, minutes], window.used)
                begins.add_metric([pool, minutes], window.resets_at.timestamp())
        yield from (used, begins)
