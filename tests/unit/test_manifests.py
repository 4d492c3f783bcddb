"""The objects that kustomize builds: valid for the API, and kept to the project's own rules."""

import copy
import importlib
import json
import re
import tomllib
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest

from tests.support.custom_schemas import SCHEMAS
from tests.support.custom_schemas import validate as validate_custom
from tests.support.kustomize import COPIES, K8S, STATES, TARGETS, build, container, of_kind, one, selects, workloads

VERSIONS = ("1.30", "1.34", "1.37")
"""The oldest where `preStop.sleep` is on by default, one between, and the newest whose schemas are at hand."""
ADDED = {"pointsman-edge": "pointsman", "node-local-dns": None, "openshift-dns": None}
"""Policies that only add to others: to one kind of pods, or to all."""
PINNED = r"[a-z0-9/._-]+(:v?\d+\.\d+(\.\d+)?|@sha256:[0-9a-f]{64})"
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
    """A misspelt or misplaced field is refused by the strict schema of the version, or of the custom resource."""
    manifests = build(target)
    assert len(manifests) >= 8
    for manifest in manifests:
        if manifest["kind"] in SCHEMAS:
            validate_custom(manifest)
        else:
            _fits(json.dumps(manifest), version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("state", STATES)
def test_what_stays_fits_the_schemas_too(state: str, version: str) -> None:
    """The namespace and the claims, which are applied before."""
    for manifest in build(state):
        assert validate(manifest, version, strict=True) == version


def test_every_custom_resource_has_a_schema_that_is_used() -> None:
    """All of another API group than Kubernetes' own; a schema that no object needs is one that nobody keeps."""
    found = {manifest["kind"] for target in TARGETS for manifest in build(target) if _is_custom(manifest)}
    assert found == SCHEMAS.keys()


def test_the_schemas_refuse_a_misspelt_field() -> None:
    """The checks above can fail: the same object with one letter wrong is refused."""
    wrong: Any = copy.deepcopy(one(build("base"), "Deployment"))
    wrong["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 1
    with pytest.raises(Exception, match="terminationGracePeriodSecond"):
        validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.parametrize(
    ("target", "kind", "path", "wrong"),
    [
        pytest.param("monitoring", "ServiceMonitor", ("endpoints", 0), {"ports": "http"}, id="service-monitor"),
        pytest.param("monitoring", "PrometheusRule", ("groups", 0, "rules", 0), {"for": "2 minutes"}, id="rule"),
        pytest.param("keda", "ScaledObject", ("triggers", 0, "metadata"), {"threshold": 16}, id="scaled-object"),
        pytest.param("gateway", "Gateway", ("listeners", 0), {"protocol": "https"}, id="gateway"),
        pytest.param("gateway", "HTTPRoute", ("rules", 0), {"timeout": {"request": "1s"}}, id="http-route"),
    ],
)
def test_the_schemas_of_custom_resources_refuse(
    target: str, kind: str, path: tuple[str | int, ...], wrong: dict[str, Any]
) -> None:
    """A misspelt field, a number where a text must be, a word that is none of theirs."""
    manifest: Any = copy.deepcopy(one(build(f"components/{target}"), kind))
    validate_custom(manifest)
    place = manifest["spec"]
    for step in path:
        place = place[step]
    place |= wrong
    with pytest.raises(jsonschema.ValidationError):
        validate_custom(manifest)


@pytest.mark.parametrize("copy", COPIES)
def test_the_job_that_copies_a_database_is_held_to_the_same_rules(copy: str) -> None:
    """Valid, restricted, pinned, behind a policy of its own that lets it reach the database; no pod of the Service."""
    manifests = build(copy)
    for manifest in manifests:
        assert manifest["metadata"]["namespace"] == "pointsman"
        for version in VERSIONS:
            _fits(json.dumps(manifest), version)
    ((_, template),) = workloads(manifests)
    assert _violations(template["spec"]) == []
    assert re.fullmatch(PINNED, container(template)["image"])
    (policy,) = of_kind(manifests, "NetworkPolicy")
    assert selects(policy["spec"]["podSelector"], template["metadata"]["labels"])
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    service = one(build("base"), "Service")["spec"]["selector"]
    assert not selects({"matchLabels": service}, template["metadata"]["labels"])
    ours = one(build("base"), "NetworkPolicy")["spec"]["egress"]
    assert all(rule in ours for rule in policy["spec"]["egress"])


def test_each_way_has_its_copy() -> None:
    """From the file to the database, and back; both are the ones that the service uses."""
    to, back = (container(workloads(build(f"copy/to-{name}"))[0][1]) for name in ("postgresql", "sqlite"))
    assert to["args"] == ["store", "copy", "$(SQLITE)", "$(POSTGRESQL)"]
    assert back["args"] == ["store", "copy", "$(POSTGRESQL)", "$(SQLITE)"]
    settings = tomllib.loads((K8S / "base/pointsman.toml").read_text())
    file, database = to["env"]
    assert file["value"] == settings["store"]["url"]
    replicas = container(one(build("overlays/replicas"), "Deployment")["spec"]["template"])["env"]
    (url,) = [each for each in replicas if each["name"] == "POINTSMAN_STORE__URL"]
    assert database["valueFrom"] == url["valueFrom"]


def test_every_object_lies_in_the_namespace(target: str) -> None:
    """Nothing lands in whatever namespace kubectl happens to use."""
    for manifest in build(target):
        assert manifest["metadata"]["namespace"] == "pointsman"


def test_what_is_deleted_with_the_rest_holds_neither_the_namespace_nor_what_was_recorded(target: str) -> None:
    """`kubectl delete -k` of anything leaves the namespace, and the claims of database and backups, which the pods find
    under the names that k8s/state gives them.
    """
    assert not of_kind(build(target), "Namespace")
    kept = {claim["metadata"]["name"] for state in STATES for claim in of_kind(build(state), "PersistentVolumeClaim")}
    own = {claim["metadata"]["name"] for claim in of_kind(build(target), "PersistentVolumeClaim")}
    assert kept == {"pointsman-state", "pointsman-backup"}
    assert not own & kept
    for name, template in workloads(build(target)):
        for volume in template["spec"].get("volumes", []):
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in own | kept, name


def test_the_namespace_enforces_the_restricted_standard() -> None:
    """Whichever state is chosen."""
    for state in STATES:
        labels = one(build(state), "Namespace")["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


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
            assert re.fullmatch(PINNED, each["image"]), name
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
        name = policy["metadata"]["name"]
        chosen = [found for found in labels.values() if selects(policy["spec"]["podSelector"], found)]
        taken = ADDED.get(name, name)
        assert chosen == [found for found in labels.values() if taken in {None, found["app.kubernetes.io/name"]}], name
    ours = labels["Deployment/pointsman"]
    assert selects(one(manifests, "PodDisruptionBudget")["spec"]["selector"], ours)
    spread = one(manifests, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert len(spread) == 2
    assert all(selects(constraint["labelSelector"], ours) for constraint in spread)


def test_every_pod_is_behind_a_network_policy_both_ways(target: str) -> None:
    """Nothing is reached, and reaches, that no policy names."""
    manifests = build(target)
    policies = {policy["metadata"]["name"]: policy for policy in of_kind(manifests, "NetworkPolicy")}
    for _, template in workloads(manifests):
        policy = policies[template["metadata"]["labels"]["app.kubernetes.io/name"]]
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


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
            name = policy["metadata"]["name"]
            assert all(port["port"] in named[ADDED.get(name, name) or ""] for port in rule["ports"])


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
    assert _access("state/sqlite") == ["ReadWriteOncePod"]


def test_a_backup_can_mount_the_claim_beside_the_service() -> None:
    """On the same node, with a claim that allows it; and it is written while the service writes."""
    assert _access("state/sqlite-backup") == ["ReadWriteOnce"]
    job = one(build("components/backup-sqlite"), "CronJob", "pointsman-backup")["spec"]["jobTemplate"]["spec"][
        "template"
    ]
    (term,) = job["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    service = one(build("components/backup-sqlite"), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert selects(term["labelSelector"], service)


def test_the_way_back_from_replicas_names_all_that_would_be_left_behind() -> None:
    """What an overlay with several pods has and the base does not is named in its head, with the command that takes it
    away: an autoscaler that was left behind would scale the base to three pods on one file.
    """
    base = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in build("base")}
    for component, kinds in (("replicas", ["HorizontalPodAutoscaler"]), ("keda", ["ScaledObject"])):
        left = [m["kind"] for m in build(f"components/{component}") if (m["kind"], m["metadata"]["name"]) not in base]
        assert left == kinds
        head = (K8S / "components" / component / "kustomization.yaml").read_text()
        assert f"kubectl delete {kinds[0].lower()}/pointsman -n pointsman" in head
        assert f"{kinds[0].lower()}/pointsman" in (K8S / "README.md").read_text()


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
    scaler = one(manifests, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "pointsman"}
    assert scaler["minReplicas"] == 3


def test_production_takes_images_by_digest() -> None:
    """A tag can be moved."""
    for name, template in workloads(build("overlays/production")):
        assert "@sha256:" in container(template)["image"], name


def test_nobody_is_let_in_from_outside_without_a_token_or_to_more_than_the_api() -> None:
    """Behind an Ingress or a Gateway no pod starts without the secret, TLS ends there, and only /v1 is reached."""
    for component in ("ingress", "gateway"):
        manifests = build(f"components/{component}")
        environ = container(one(manifests, "Deployment")["spec"]["template"])["env"]
        (token,) = [each for each in environ if each["name"] == "POINTSMAN_SERVER__TOKEN"]
        assert token["valueFrom"]["secretKeyRef"]["optional"] is False
    (rule,) = one(manifests, "HTTPRoute")["spec"]["rules"]
    assert [match["path"] for match in rule["matches"]] == [{"type": "PathPrefix", "value": "/v1"}]
    (listener,) = one(manifests, "Gateway")["spec"]["listeners"]
    assert (listener["protocol"], listener["tls"]["certificateRefs"]) == ("HTTPS", [{"name": "pointsman-tls"}])
    spec = one(build("components/ingress"), "Ingress")["spec"]
    assert [entry["secretName"] for entry in spec["tls"]] == ["pointsman-tls"]
    assert [path["path"] for entry in spec["rules"] for path in entry["http"]["paths"]] == ["/v1"]


def test_openshift_chooses_the_users() -> None:
    """Its constraints refuse a pod that names one; everything else of the restricted standard stays."""
    for name, template in workloads(build("components/openshift")):
        context = template["spec"]["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys(), name
        assert context["runAsNonRoot"] is True


def test_the_model_is_of_one_revision() -> None:
    """A full commit: a restart never brings other weights."""
    arguments = container(one(build("overlays/vllm"), "Deployment", "vllm")["spec"]["template"])["args"]
    (revision,) = [each for each in arguments if each.startswith("--revision=")]
    assert re.fullmatch(r"--revision=[0-9a-f]{40}", revision)


def test_the_stack_finds_monitor_and_rules() -> None:
    """By the label of its release."""
    manifests = of_kind(build("components/kube-prometheus-stack"), "ServiceMonitor", "PrometheusRule")
    assert [manifest["metadata"]["labels"]["release"] for manifest in manifests] == ["kube-prometheus-stack"] * 2


def _environ(manifests: Any) -> dict[str, str]:  # noqa: ANN401 - what `build` gives
    return {
        each["name"]: each.get("value", "")
        for each in container(one(manifests, "Deployment")["spec"]["template"])["env"]
    }


@cache
def _fits(manifest: str, version: str) -> None:
    """Once for each text, since most objects are the same in all targets."""
    assert validate(json.loads(manifest), version, strict=True) == version


def _access(state: str) -> list[str]:
    found: list[str] = one(build(state), "PersistentVolumeClaim", "pointsman-state")["spec"]["accessModes"]
    return found


def _is_custom(manifest: Any) -> bool:  # noqa: ANN401 - parsed YAML
    group, _, version = manifest["apiVersion"].rpartition("/")
    return "." in group and not (group.endswith(".k8s.io") and not group.startswith("gateway.")) and bool(version)


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
