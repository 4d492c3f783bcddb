"""The objects that kustomize builds: valid for the API, and kept to the project's own rules."""

import copy
import importlib
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.kustomize import K8S, TARGETS, build, container, of_kind, one, selects, workloads

VERSIONS = ("1.30", "1.34", "1.37")
"""The oldest where `preStop.sleep` is on by default, one between, and the newest whose schemas are at hand."""
CUSTOM = {"ServiceMonitor", "PrometheusRule"}
"""Of the Prometheus operator; no schema of theirs is at hand, so their own tests look at them."""
RESTRICTED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
}

validate: Callable[..., str] = importlib.import_module("kubernetes_validate").validate
"""Imported by name, because the package has no types."""


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    """Each folder that an operator can apply."""
    name: str = request.param
    return name


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_schema_of_each_kubernetes_version(target: str, version: str) -> None:
    """A misspelt or misplaced field is refused by the strict schema of the version."""
    manifests = [manifest for manifest in build(target) if manifest["kind"] not in CUSTOM]
    assert len(manifests) >= 9
    for manifest in manifests:
        assert validate(manifest, version, strict=True) == version


def test_the_schemas_refuse_a_misspelt_field() -> None:
    """The check above can fail: the same object with one letter wrong is refused."""
    wrong: Any = copy.deepcopy(one(build("base"), "Deployment"))
    wrong["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 1
    with pytest.raises(Exception, match="terminationGracePeriodSecond"):
        validate(wrong, VERSIONS[-1], strict=True)


def test_every_object_lies_in_the_namespace(target: str) -> None:
    """Nothing lands in whatever namespace kubectl happens to use."""
    for manifest in build(target):
        if manifest["kind"] == "Namespace":
            assert manifest["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        else:
            assert manifest["metadata"]["namespace"] == "pointsman"


def test_every_pod_passes_the_restricted_pod_security_standard(target: str) -> None:
    """The namespace enforces it, so that a pod that does not pass would never start."""
    found = {name: _violations(template["spec"]) for name, template in workloads(build(target))}
    assert found
    assert {name: violations for name, violations in found.items() if violations} == {}


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        pytest.param({"hostNetwork": True}, "hostNetwork", id="host-network"),
        pytest.param({"securityContext": {}}, "runAsNonRoot", id="root"),
        pytest.param({"securityContext": {"runAsNonRoot": True, "runAsUser": 0}}, "runAsUser", id="user-0"),
        pytest.param({"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "hostPath", id="host-path"),
        pytest.param({"containers": [{"name": "x", "image": "x:1"}]}, "capabilities", id="capabilities"),
    ],
)
def test_the_pod_security_rules_find(change: dict[str, Any], violation: str) -> None:
    """The check above can fail: a pod that breaks a rule is named with it."""
    spec = {**one(build("base"), "Deployment")["spec"]["template"]["spec"], **change}
    assert any(violation in found for found in _violations(spec))


def test_every_container_is_pinned_limited_and_cannot_write_its_image(target: str) -> None:
    """No tag that moves, requests and limits for CPU and memory, a read-only root."""
    for name, template in workloads(build(target)):
        assert template["spec"]["automountServiceAccountToken"] is False, name
        for each in template["spec"]["containers"]:
            assert re.fullmatch(r"[a-z0-9/._-]+:v?\d+\.\d+\.\d+", each["image"]), name
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= each["resources"][kind].keys(), name
            assert each["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert each["args"], name


def test_no_empty_dir_is_without_a_limit(target: str) -> None:
    """A program that writes without end loses its pod, and not the node."""
    for name, template in workloads(build(target)):
        for volume in template["spec"].get("volumes", []):
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"], f"{name}: {volume['name']}"


def test_every_selector_finds_its_pods(target: str) -> None:
    """Service, disruption budget, network policy and topology spread each take the pods that they are for."""
    manifests = build(target)
    labels = {template_of: template["metadata"]["labels"] for template_of, template in workloads(manifests)}
    for service in of_kind(manifests, "Service"):
        name = service["metadata"]["name"]
        chosen = [at for at, found in labels.items() if selects({"matchLabels": service["spec"]["selector"]}, found)]
        assert chosen == [f"Deployment/{name}"]
    for policy in of_kind(manifests, "NetworkPolicy"):
        chosen = [at for at, found in labels.items() if selects(policy["spec"]["podSelector"], found)]
        assert [at.partition("/")[2] for at in chosen] == [policy["metadata"]["name"]]
    ours = labels["Deployment/pointsman"]
    assert selects(one(manifests, "PodDisruptionBudget")["spec"]["selector"], ours)
    spread = one(manifests, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert len(spread) == 2
    assert all(selects(constraint["labelSelector"], ours) for constraint in spread)


def test_every_pod_is_behind_a_network_policy_both_ways(target: str) -> None:
    """Nothing is reached, and reaches, that no policy names."""
    manifests = build(target)
    policies = {policy["metadata"]["name"]: policy for policy in of_kind(manifests, "NetworkPolicy")}
    for name, _ in workloads(manifests):
        assert policies[name.partition("/")[2]]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_the_network_policy_lets_in_the_scheduler_and_monitoring_and_out_what_it_needs() -> None:
    """In: two kinds of peers, to the one port. Out: DNS, model server, database; nothing without a peer."""
    spec = one(build("base"), "NetworkPolicy")["spec"]
    ((peers, ports),) = [(rule["from"], rule["ports"]) for rule in spec["ingress"]]
    assert selects(peers[0]["podSelector"], {"pointsman.dev/client": "true"})
    assert not selects(peers[0]["podSelector"], {"app.kubernetes.io/name": "anything-else"})
    assert peers[1] == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert ports == [{"protocol": "TCP", "port": "http"}]
    out = [(rule["to"][0]["podSelector"]["matchLabels"], rule.get("ports")) for rule in spec["egress"]]
    assert out == [
        ({"k8s-app": "kube-dns"}, [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]),
        ({"app.kubernetes.io/component": "model-server"}, None),
        ({"app.kubernetes.io/component": "database"}, [{"protocol": "TCP", "port": 5432}]),
    ]


def test_ports_agree(target: str) -> None:
    """Every port that a service, probe or policy names is a port of the container behind it."""
    manifests = build(target)
    named = {
        name.partition("/")[2]: {port["name"]: port["containerPort"] for port in container(template).get("ports", [])}
        for name, template in workloads(manifests)
    }
    for service in of_kind(manifests, "Service"):
        assert all(port["targetPort"] in named[service["metadata"]["name"]] for port in service["spec"]["ports"])
    for name, template in workloads(manifests):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in container(template):
                assert container(template)[probe]["httpGet"]["port"] in named[name.partition("/")[2]]
    for policy in of_kind(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert all(port["port"] in named[policy["metadata"]["name"]] for port in rule["ports"])


@pytest.mark.parametrize("name", ["ollama", "vllm"])
def test_the_model_server_is_where_pointsman_looks_for_it(name: str) -> None:
    """The endpoint names a service of the same build and its port, and both policies let the request pass."""
    manifests = build(f"overlays/{name}")
    endpoint = urlsplit(_environ(manifests)["POINTSMAN_LOCAL_MODEL__ENDPOINT"])
    assert (endpoint.hostname, endpoint.path) == (name, "/v1")
    assert endpoint.port in [port["port"] for port in one(manifests, "Service", name)["spec"]["ports"]]
    server = one(manifests, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
    ours = one(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    egress = one(manifests, "NetworkPolicy")["spec"]["egress"]
    assert any(selects(peer["podSelector"], server) for rule in egress for peer in rule["to"])
    (ingress,) = one(manifests, "NetworkPolicy", name)["spec"]["ingress"]
    assert any(selects(peer["podSelector"], ours) for peer in ingress["from"])


def test_the_same_model_is_fetched_and_asked_for() -> None:
    """Ollama: the job's model. vLLM: the name that it serves under."""
    ollama, vllm = build("overlays/ollama"), build("overlays/vllm")
    fetched = container(one(ollama, "Job", "ollama-fetch-model")["spec"]["template"])["args"]
    assert fetched == ["pull", _environ(ollama)["POINTSMAN_LOCAL_MODEL__MODEL"]]
    served = container(one(vllm, "Deployment", "vllm")["spec"]["template"])["args"]
    assert f"--served-model-name={_environ(vllm)['POINTSMAN_LOCAL_MODEL__MODEL']}" in served
    assert f"--max-num-seqs={_environ(vllm)['POINTSMAN_LOCAL_MODEL__MAX_CONCURRENCY']}" in served


def test_the_gpu_is_asked_for_and_its_taint_tolerated() -> None:
    """vLLM's pod gets one GPU, also on nodes that keep other pods away."""
    spec = one(build("overlays/vllm"), "Deployment", "vllm")["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]


def test_no_rollout_is_called_failed_while_a_pod_may_still_start(target: str) -> None:
    """progressDeadlineSeconds (600 where none is set) is above what the startup probe allows."""
    for deployment in of_kind(build(target), "Deployment"):
        probe = container(deployment["spec"]["template"])["startupProbe"]
        allowed = probe["periodSeconds"] * probe["failureThreshold"]
        assert deployment["spec"].get("progressDeadlineSeconds", 600) > allowed, deployment["metadata"]["name"]


def test_one_replica_on_sqlite_never_shares_its_file() -> None:
    """The base has one pod at a time on a claim of its own, so that nothing recorded is lost with a pod."""
    manifests = build("base")
    spec = one(manifests, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert _volume(spec, "state") == {"persistentVolumeClaim": {"claimName": "pointsman-state"}}
    assert one(manifests, "PersistentVolumeClaim", "pointsman-state")["spec"]["accessModes"] == ["ReadWriteOncePod"]


@pytest.mark.parametrize("overlay", ["replicas", "production"])
def test_replicas_share_a_database_scale_and_are_replaced_one_more_at_a_time(overlay: str) -> None:
    """The URL is a secret, the autoscaler alone says how many, and no replica goes before a new one is ready."""
    manifests = build(f"overlays/{overlay}")
    spec = one(manifests, "Deployment")["spec"]
    (url,) = [each for each in container(spec["template"])["env"] if each["name"] == "POINTSMAN_STORE__URL"]
    assert url["valueFrom"] == {"secretKeyRef": {"name": "pointsman-database", "key": "url"}}
    assert "replicas" not in spec
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert _volume(spec, "state").keys() == {"emptyDir"}
    claims = of_kind(manifests, "PersistentVolumeClaim")
    assert "pointsman-state" not in [claim["metadata"]["name"] for claim in claims]
    scaler = one(manifests, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "pointsman"}
    assert scaler["minReplicas"] == 3


def test_every_component_has_an_overlay() -> None:
    """What can be added can be applied alone, and is so held to these tests."""
    assert {f"overlays/{folder.name}" for folder in (K8S / "components").iterdir()} <= set(TARGETS)


def _environ(manifests: Any) -> dict[str, str]:  # noqa: ANN401 - what `build` gives
    return {
        each["name"]: each.get("value", "")
        for each in container(one(manifests, "Deployment")["spec"]["template"])["env"]
    }


def _volume(spec: Any, name: str) -> dict[str, Any]:  # noqa: ANN401 - parsed YAML
    (found,) = [volume for volume in spec["template"]["spec"]["volumes"] if volume["name"] == name]
    return {key: value for key, value in found.items() if key != "name"}


def _violations(spec: Any) -> list[str]:  # noqa: ANN401 - parsed YAML
    """The controls of kubernetes.io's page on Pod Security Standards, level restricted, that a spec breaks."""
    pod = spec.get("securityContext", {})
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    for volume in spec.get("volumes", []):
        found += [f"volume {kind}" for kind in volume.keys() - {"name"} - RESTRICTED_VOLUMES]
    for each in [*spec["containers"], *spec.get("initContainers", [])]:
        context = {**pod, **each.get("securityContext", {})}
        found += [] if context.get("runAsNonRoot") is True else ["runAsNonRoot"]
        found += ["runAsUser"] if context.get("runAsUser") == 0 else []
        found += ["privileged"] if context.get("privileged") else []
        found += [] if context.get("allowPrivilegeEscalation") is False else ["allowPrivilegeEscalation"]
        found += [] if context.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"} else ["seccomp"]
        capabilities = context.get("capabilities", {})
        found += [] if capabilities.get("drop") == ["ALL"] else ["capabilities.drop"]
        found += [] if set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"} else ["capabilities.add"]
        found += ["hostPort"] if any("hostPort" in port for port in each.get("ports", [])) else []
    return found
