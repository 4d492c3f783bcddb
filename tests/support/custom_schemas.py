"""Schemas of the custom resources in k8s/, written down to the fields that are used: another field is refused.

By hand after the CustomResourceDefinitions of the projects, which ship no schema in a package: prometheus-operator 0.84
(example/prometheus-operator-crd), KEDA 2.17 (config/crd/bases) and Gateway API 1.2 (config/crd/standard). What they
require is required here; enumerations and patterns are theirs.
"""

from collections.abc import Mapping
from typing import Any

import jsonschema

Schema = Mapping[str, Any]

DURATION = {
    "type": "string",
    "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?)$",
}
GATEWAY_DURATION = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
HOSTNAME = {"type": "string", "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"}
STRING: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 253}
COUNT: Schema = {"type": "integer", "minimum": 0}
STRINGS: Schema = {"type": "object", "additionalProperties": STRING}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _array(items: Schema, at_most: int | None = None) -> Schema:
    return {"type": "array", "items": items, "minItems": 1} | ({} if at_most is None else {"maxItems": at_most})


def _resource(api: str, kind: str, spec: Schema) -> Schema:
    metadata = _object({"name": NAME}, {"namespace": NAME, "labels": STRINGS, "annotations": STRINGS})
    return _object({"apiVersion": {"const": api}, "kind": {"const": kind}, "metadata": metadata, "spec": spec})


_MONITORING, _GATEWAY = "monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1"
_RULE = _object(
    {"alert": STRING, "expr": STRING},
    {"for": DURATION, "keep_firing_for": DURATION, "labels": STRINGS, "annotations": STRINGS},
)
_SCALING = _object(
    {},
    {
        "stabilizationWindowSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
        "policies": _array(
            _object(
                {
                    "type": {"enum": ["Pods", "Percent"]},
                    "value": {"type": "integer", "minimum": 1},
                    "periodSeconds": {"type": "integer", "minimum": 1, "maximum": 1800},
                }
            )
        ),
        "selectPolicy": {"enum": ["Max", "Min", "Disabled"]},
    },
)
_TLS = _object(
    {"certificateRefs": _array(_object({"name": NAME}, {"namespace": NAME}), 64)},
    {"mode": {"enum": ["Terminate", "Passthrough"]}},
)
_LISTENER = _object(
    {
        "name": NAME,
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "protocol": {"enum": ["HTTP", "HTTPS", "TLS", "TCP", "UDP"]},
    },
    {
        "hostname": HOSTNAME,
        "tls": _TLS,
        "allowedRoutes": _object({}, {"namespaces": _object({"from": {"enum": ["All", "Selector", "Same"]}})}),
    },
)
_PATH = _object({"type": {"enum": ["Exact", "PathPrefix", "RegularExpression"]}, "value": STRING})
_ROUTE_RULE = _object(
    {"backendRefs": _array(_object({"name": NAME, "port": {"type": "integer"}}, {"weight": COUNT}), 16)},
    {
        "matches": _array(_object({"path": _PATH}), 64),
        "timeouts": _object({}, {"request": GATEWAY_DURATION, "backendRequest": GATEWAY_DURATION}),
    },
)

SCHEMAS: Mapping[str, Schema] = {
    "ServiceMonitor": _resource(
        _MONITORING,
        "ServiceMonitor",
        _object(
            {
                "selector": _object({}, {"matchLabels": STRINGS}),
                "endpoints": _array(
                    _object(
                        {},
                        {
                            "port": STRING,
                            "path": STRING,
                            "scheme": {"enum": ["http", "https"]},
                            "interval": DURATION,
                            "scrapeTimeout": DURATION,
                        },
                    )
                ),
            },
            {"namespaceSelector": _object({}, {"any": {"type": "boolean"}, "matchNames": _array(NAME)})},
        ),
    ),
    "PrometheusRule": _resource(
        _MONITORING,
        "PrometheusRule",
        _object({"groups": _array(_object({"name": NAME, "rules": _array(_RULE)}, {"interval": DURATION}))}),
    ),
    "ScaledObject": _resource(
        "keda.sh/v1alpha1",
        "ScaledObject",
        _object(
            {
                "scaleTargetRef": _object({"name": NAME}, {"apiVersion": STRING, "kind": STRING}),
                "triggers": _array(
                    _object(
                        {"type": STRING, "metadata": STRINGS},
                        {"name": STRING, "metricType": {"enum": ["AverageValue", "Value", "Utilization"]}},
                    )
                ),
            },
            {
                "minReplicaCount": COUNT,
                "maxReplicaCount": COUNT,
                "pollingInterval": COUNT,
                "cooldownPeriod": COUNT,
                "fallback": _object({"failureThreshold": COUNT, "replicas": COUNT}),
                "advanced": _object(
                    {},
                    {
                        "restoreToOriginalReplicaCount": {"type": "boolean"},
                        "horizontalPodAutoscalerConfig": _object(
                            {}, {"name": NAME, "behavior": _object({}, {"scaleUp": _SCALING, "scaleDown": _SCALING})}
                        ),
                    },
                ),
            },
        ),
    ),
    "Gateway": _resource(_GATEWAY, "Gateway", _object({"gatewayClassName": NAME, "listeners": _array(_LISTENER, 64)})),
    "HTTPRoute": _resource(
        _GATEWAY,
        "HTTPRoute",
        _object(
            {
                "parentRefs": _array(_object({"name": NAME}, {"namespace": NAME, "sectionName": NAME}), 32),
                "rules": _array(_ROUTE_RULE, 16),
            },
            {"hostnames": _array(HOSTNAME, 16)},
        ),
    ),
}
"""By kind."""


def validate(manifest: Mapping[str, Any]) -> None:
    """jsonschema.ValidationError that names the place where a custom resource does not fit."""
    validator: Any = jsonschema.Draft202012Validator(SCHEMAS[manifest["kind"]])
    validator.validate(manifest)
