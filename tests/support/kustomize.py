"""What `kubectl kustomize` makes of the folders below k8s/: the real program, found on PATH."""

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
TARGETS = ("base", *sorted(f"overlays/{folder.name}" for folder in (K8S / "overlays").iterdir()))
"""Everything that an operator can apply."""

Manifest: TypeAlias = Mapping[str, Any]


@cache
def build(target: str) -> tuple[Manifest, ...]:
    """All objects of one of `TARGETS`, built once; skips the test where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl, whose `kustomize` builds the manifests")
    done = subprocess.run([kubectl, "kustomize", K8S / target], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"kubectl kustomize k8s/{target}: {done.stderr}")
    return tuple(yaml.safe_load_all(done.stdout))


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
        (f"{manifest['kind']}/{manifest['metadata']['name']}", manifest["spec"]["template"])
        for manifest in of_kind(manifests, "Deployment", "StatefulSet", "DaemonSet", "Job")
    ]


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
