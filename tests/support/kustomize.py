"""What `kubectl kustomize` makes of the folders below k8s/: the real program, found on PATH."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
NEEDS = {
    "backup-postgresql": ("replicas",),
    "gpu-nodes": ("vllm",),
    "keda": ("replicas",),
    "kube-prometheus-stack": ("monitoring",),
    "openshift": ("ollama", "vllm", "backup-sqlite"),
}
"""Components that stand after others, as each says at its head."""


def _folders(name: str) -> list[str]:
    return sorted(f"{name}/{folder.name}" for folder in (K8S / name).iterdir())


_OVERLAYS = _folders("overlays")
_ALONE = [folder for folder in _folders("components") if folder.replace("components", "overlays") not in _OVERLAYS]
TARGETS = ("base", *_OVERLAYS, *_ALONE)
"""Everything an operator can apply; a component that has no overlay of its name, with the base and what it needs."""
COPIES = tuple(_folders("copy"))
"""What takes one database over into another, while no pod runs."""
STATES = tuple(_folders("state"))
"""What is applied before and stays: the namespace and the claims."""

Manifest: TypeAlias = Mapping[str, Any]


@cache
def build(target: str) -> tuple[Manifest, ...]:
    """All objects of one of `TARGETS`, built once; skips the test where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl, whose `kustomize` builds the manifests")
    kind, _, name = target.partition("/")
    with tempfile.TemporaryDirectory() as folder:
        place = _with_base(name, Path(folder)) if kind == "components" else K8S / target
        done = subprocess.run([kubectl, "kustomize", place], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"kubectl kustomize k8s/{target}: {done.stderr}")
    return tuple(yaml.safe_load_all(done.stdout))


def _with_base(component: str, folder: Path) -> Path:
    """A kustomization as an operator writes it."""

    def reach(part: str) -> str:
        return os.path.relpath(K8S / part, folder.resolve())

    used = [*NEEDS.get(component, ()), component]
    made = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "pointsman",
        "resources": [reach("base")],
        "components": [reach(f"components/{name}") for name in used],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
    return folder


def of_kind(manifests: Iterable[Manifest], *kinds: str) -> list[Manifest]:
    """Those of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def one(manifests: Iterable[Manifest], kind: str, name: str = "pointsman") -> Manifest:
    """The one of this kind and name."""
    (found,) = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name]
    return found


def config_map(manifests: Iterable[Manifest], name: str) -> Mapping[str, str]:
    """The data of the ConfigMap of this name, whatever hash kustomize put after it."""
    (found,) = [m for m in of_kind(manifests, "ConfigMap") if m["metadata"]["name"].startswith(name)]
    data: Mapping[str, str] = found["data"]
    return data


def workloads(manifests: Iterable[Manifest]) -> list[tuple[str, Manifest]]:
    """Each object that makes pods, by kind and name, with its pod template."""
    return [
        (f"{manifest['kind']}/{manifest['metadata']['name']}", _template(manifest["spec"]))
        for manifest in of_kind(manifests, "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
    ]


def _template(spec: Manifest) -> Manifest:
    found: Manifest = spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
    return found


def container(template: Manifest) -> Manifest:
    """The first container of a pod template."""
    found: Manifest = template["spec"]["containers"][0]
    return found


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector (matchLabels, matchExpressions with In) takes these labels; an empty one takes all."""
    selector = selector or {}
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    expressions: list[Mapping[str, Any]] = selector.get("matchExpressions", [])
    if any(expression["operator"] != "In" for expression in expressions):
        raise ValueError(f"only In is understood: {expressions}")
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )
