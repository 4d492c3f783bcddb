"""Alerts, dashboard and autoscaler: they ask for metrics that exist, and say why."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from service.contract.problem import TYPES, URN
from service.contract.settings import LocalModelSettings, Settings, StoreSettings
from service.core import Core
from tests.support.kustomize import K8S, build, config_map, one

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",), "info": ("_info",)}
TARGET_LABELS = {"namespace", "pod", "job", "instance", "le"}
"""What Prometheus adds to each series, and a histogram to its buckets."""


def test_every_alert_says_what_it_asks_and_what_to_do() -> None:
    """Each has a question, a summary and an action for a person, and one of two urgencies."""
    alerts = _alerts()
    assert len({alert["alert"] for alert in alerts}) == len(alerts) >= 8
    for alert in alerts:
        notes = alert["annotations"]
        assert notes["question"].endswith("?"), alert["alert"]
        assert notes["summary"].endswith("."), alert["alert"]
        assert len(notes["action"]) > 40, alert["alert"]
        assert alert["labels"]["severity"] in {"page", "ticket"}


def test_an_alert_on_the_state_of_a_moment_waits() -> None:
    """Only what looks at a window of time may fire at once; a blink wakes nobody."""
    at_once = [alert for alert in _alerts() if "for" not in alert]
    assert at_once
    assert all("[" in alert["expr"] for alert in at_once)


@pytest.mark.parametrize("place", ["alerts", "dashboard"])
def test_every_metric_and_label_that_is_asked_for_exists(place: str) -> None:
    """The expressions parse, name metrics of this service only, and match on labels that those have."""
    known = _known()
    expressions = [alert["expr"] for alert in _alerts()] if place == "alerts" else _panel_expressions()
    asked = [selector for expression in expressions for selector in _selectors(expression)]
    assert len(asked) >= 10
    for name, labels in asked:
        assert name in known
        assert labels <= known[name] | TARGET_LABELS, name


def test_the_problems_that_alerts_wait_for_exist() -> None:
    """A matcher on a problem's type takes at least one that the service answers, each of its branches."""
    matchers = re.findall(r'type(=~?)"([^"]+)"', "\n".join(alert["expr"] for alert in _alerts()))
    assert matchers
    types = [URN + name for name in TYPES]
    for _, pattern in matchers:
        assert [kind for kind in types if re.fullmatch(pattern, kind)], pattern
    branches = "urn:pointsman:no-(eligible-candidate|candidate-available)"
    assert len([kind for kind in types if re.fullmatch(branches, kind)]) == 2


def test_the_autoscaler_follows_a_metric_of_the_pods() -> None:
    """Its metric is a gauge of the service, so that an average of it over the pods has a meaning."""
    (metric,) = one(build("overlays/replicas"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    gauges = {family.name for family in _core().metrics.registry.collect() if family.type == "gauge"}
    assert metric["type"] == "Pods"
    assert metric["pods"]["metric"]["name"] in gauges


def test_the_adapter_serves_the_metric_that_the_autoscaler_asks_for() -> None:
    """Values for prometheus-adapter: found by pod and namespace, under the same name, with a query that parses."""
    values = yaml.safe_load((K8S / "prometheus-adapter/values.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    (metric,) = one(build("overlays/replicas"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    wanted = metric["pods"]["metric"]["name"]
    ((series, labels),) = _selectors(rule["seriesQuery"])
    assert (series, labels) == (wanted, {"namespace", "pod"})
    assert rule["name"] == {"matches": wanted, "as": wanted}
    assert set(rule["resources"]["overrides"]) == labels
    filled = {"<<.Series>>": series, "<<.LabelMatchers>>": 'namespace="x",pod=~"a|b"', "<<.GroupBy>>": "pod"}
    query = rule["metricsQuery"]
    for name, text in filled.items():
        query = query.replace(name, text)
    assert list(_selectors(query)) == [(wanted, labels)]


def test_keda_scales_on_the_same_numbers() -> None:
    """Metric, bounds, target and behaviour of the autoscaler that it takes the place of; both together would fight."""
    keda = build("components/keda")
    assert not [manifest for manifest in keda if manifest["kind"] == "HorizontalPodAutoscaler"]
    scaled, scaler = (
        one(keda, "ScaledObject")["spec"],
        one(build("overlays/replicas"), "HorizontalPodAutoscaler")["spec"],
    )
    (trigger,), (metric,) = scaled["triggers"], scaler["metrics"]
    assert scaled["scaleTargetRef"] == scaler["scaleTargetRef"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (scaler["minReplicas"], scaler["maxReplicas"])
    assert scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == scaler["behavior"]
    assert trigger["metadata"]["threshold"] == metric["pods"]["target"]["averageValue"]
    assert trigger["metricType"] == metric["pods"]["target"]["type"]
    assert [name for name, _ in _selectors(trigger["metadata"]["query"])] == [metric["pods"]["metric"]["name"]]


def test_the_service_is_scraped_where_it_answers() -> None:
    """The monitor finds the Service by its label and names one of its ports."""
    manifests = build("overlays/monitoring")
    monitor, service = one(manifests, "ServiceMonitor")["spec"], one(manifests, "Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]


def test_every_panel_says_what_it_asks() -> None:
    """The dashboard is one that the sidecar finds, and each panel's description has its question."""
    manifests = build("overlays/monitoring")
    assert one(manifests, "ConfigMap", "pointsman-dashboard")["metadata"]["labels"] == {"grafana_dashboard": "1"}
    panels = _dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 10
    assert all("?" in panel["description"] for panel in panels)


def _alerts() -> list[dict[str, Any]]:
    groups = one(build("overlays/monitoring"), "PrometheusRule")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _dashboard() -> dict[str, Any]:
    data = config_map(build("overlays/monitoring"), "pointsman-dashboard")
    parsed: dict[str, Any] = json.loads(data["pointsman-dashboard.json"])
    return parsed


def _panel_expressions() -> list[str]:
    """With a length in the place of Grafana's variable."""
    panels = _dashboard()["panels"]
    return [target["expr"].replace("$__rate_interval", "5m") for panel in panels for target in panel["targets"]]


def _selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics of an expression, each with the labels that it is matched on or grouped by."""
    found: list[tuple[str, set[str]]] = []

    def visit(node: object) -> None:
        selector: Any = getattr(node, "vector_selector", node)
        if isinstance(selector, promql_parser.VectorSelector):
            found.append((selector.name or "", {matcher.name for matcher in selector.matchers.matchers}))

    promql_parser.walk(promql_parser.parse(expression), visit)
    grouped = {name.strip() for names in re.findall(r"\bby \(([^)]*)\)", expression) for name in names.split(",")}
    yield from ((name, labels | grouped) for name, labels in found)


def _known() -> dict[str, set[str]]:
    """Every series name of the service, with its label names."""
    registry = _core().metrics.registry
    labels: dict[str, set[str]] = {}
    collectors: list[Any] = [*vars(_core().metrics).values()]
    for collector in collectors:
        if isinstance(collector, MetricWrapperBase):
            untyped: Any = collector
            labels[untyped._name] = set(untyped._labelnames)
    known: dict[str, set[str]] = {}
    for family in registry.collect():
        names = labels.get(family.name, set(getattr(family, "_labelnames", ())))
        known |= {family.name + suffix: names for suffix in SUFFIXES[family.type]}
    return known


def _core() -> Core:
    """With a local model, so that the parts which only then exist have their metrics too."""
    local_model = LocalModelSettings(endpoint="http://127.0.0.1:9/v1", model="any")
    return Core(Settings(store=StoreSettings(url="sqlite://"), local_model=local_model), environ={})
