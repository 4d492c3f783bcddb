"""What the manifests say to the service: accepted by its own loaders, and true of it."""

import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from litestar import Litestar

from service.app import create_app
from service.classifiers.prompt import Prompts
from service.commands.check import command as check
from service.contract.catalog_file import load_catalog
from service.contract.settings import ServerSettings, Settings, StoreSettings, load_settings
from tests.support.image import read_stages
from tests.support.kustomize import ROOT, TARGETS, build, config_map, container, of_kind, one

MOUNT = "/etc/pointsman"
STATE = "/var/lib/pointsman"


@pytest.mark.parametrize("target", TARGETS)
def test_settings_catalog_and_prompts_are_accepted(target: str, tmp_path: Path) -> None:
    """File and environment are read as the pod reads them; what they name lies in the projected volume."""
    config = _project(target, tmp_path)
    settings = load_settings(str(config / "pointsman.toml"), _environ(target))
    catalog = load_catalog(config / Path(settings.catalog.path).relative_to(MOUNT))
    prompts = Prompts(config / Path(settings.prompts.path).relative_to(MOUNT), catalog)
    assert len(catalog.candidates) > 0
    assert prompts.version
    assert Path(settings.executions.log_dir).is_relative_to(STATE)
    assert _mounts(target)[STATE] == "state"


def test_pointsman_check_accepts_the_config_map(tmp_path: Path) -> None:
    """`pointsman check` ends with 0 on what the base mounts, with only the folders put elsewhere."""
    config = _project("base", tmp_path)
    state = tmp_path / "state"
    state.mkdir()
    file = config / "pointsman.toml"
    file.write_text(file.read_text().replace(MOUNT, str(config)).replace(STATE, str(state)))
    done = CliRunner().invoke(check, ["--config", str(file)])
    assert done.exit_code == 0, done.output
    assert "recording" in done.output
    assert (state / "pointsman.db").exists()


def test_the_config_maps_hold_the_files_that_ship() -> None:
    """Catalog and prompts are the repository's, byte for byte, and none of the prompts is left out."""
    manifests = build("base")
    shipped = {file.name: file.read_text() for file in (ROOT / "prompts").glob("*.txt")}
    assert config_map(manifests, "pointsman-prompts") == shipped
    assert config_map(manifests, "pointsman-catalog") == {"catalog.toml": (ROOT / "service/catalog.toml").read_text()}


def test_what_can_be_reloaded_keeps_its_name_and_what_cannot_replaces_the_pods() -> None:
    """A changed catalog reaches running pods; changed settings make a new name, and so a rollout."""
    names = {manifest["metadata"]["name"] for manifest in of_kind(build("base"), "ConfigMap")}
    assert {"pointsman-catalog", "pointsman-prompts"} < names
    (settings,) = names - {"pointsman-catalog", "pointsman-prompts"}
    assert settings.startswith("pointsman-config-")


@pytest.mark.parametrize("target", TARGETS)
def test_what_the_probes_ask_for_exists(target: str) -> None:
    """Path and port of every probe are those of the application."""
    each = container(one(build(target), "Deployment")["spec"]["template"])
    paths = {each[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"/readyz", "/healthz"}
    assert paths <= _routes(_app())
    assert each["livenessProbe"]["httpGet"]["path"] == "/healthz", "liveness depends on nothing but the process"
    settings = tomllib.loads(config_map(build(target), "pointsman-config")["pointsman.toml"])
    assert each["ports"] == [{"name": "http", "containerPort": settings["server"]["port"]}]
    assert settings["server"]["host"] == "0.0.0.0"


@pytest.mark.parametrize("target", TARGETS)
def test_a_pod_has_the_time_to_end_what_it_began(target: str) -> None:
    """Grace period > preStop + drain + shutdown, and shutdown > the deadline: no decision is cut off."""
    spec, server, before = _leaving(target)
    assert server.shutdown_seconds * 1000 > _settings(target).decision.deadline_ms
    store_seconds = 8
    total = before + server.drain_seconds + server.shutdown_seconds + store_seconds
    assert spec["terminationGracePeriodSeconds"] > total


@pytest.mark.parametrize("target", TARGETS)
def test_a_pod_waits_before_it_leaves_only_where_another_can_take_over(target: str) -> None:
    """With one pod at a time nothing is won by waiting; with several, nodes and clients need to hear of it first."""
    _, server, before = _leaving(target)
    if one(build(target), "Deployment")["spec"]["strategy"] == {"type": "Recreate"}:
        assert (before, server.drain_seconds) == (0, 0)
    else:
        assert before >= 5, "what kube-proxy needs on a large cluster"
        assert server.drain_seconds > 5, "httpx and others keep an idle connection for 5 s"


@pytest.mark.parametrize("target", TARGETS)
def test_a_hung_process_is_replaced_within_40_seconds(target: str) -> None:
    """From its last answer to the next first one; it does not hear SIGTERM, so the grace period counts in full."""
    each = container(one(build(target), "Deployment")["spec"]["template"])
    probe, start_seconds = each["livenessProbe"], 2
    failing = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert failing + probe["terminationGracePeriodSeconds"] + start_seconds <= 40
    assert probe["failureThreshold"] >= 3, "one slow answer is no reason to lose what is under way"


def test_the_image_is_the_one_that_the_pod_expects() -> None:
    """User, port and command of the Dockerfile agree with the Deployment."""
    last = {instruction.name: instruction.text for instruction in read_stages()["service"]}
    pod = one(build("base"), "Deployment")["spec"]["template"]
    user, _, group = last["USER"].partition(":")
    assert (int(user), int(group)) == (
        pod["spec"]["securityContext"]["runAsUser"],
        pod["spec"]["securityContext"]["runAsGroup"],
    )
    assert last["EXPOSE"] == str(container(pod)["ports"][0]["containerPort"])
    assert "HEALTHCHECK" not in last, "OCI images have none; the kubelet asks /readyz and /healthz"
    assert last["CMD"] == '["serve"]'
    assert container(pod)["args"] == ["serve"]


def _project(target: str, folder: Path) -> Path:
    """The projected volume `config` as files."""
    manifests = build(target)
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "config"]
    assert _mounts(target)[MOUNT] == "config"
    for source in volume["projected"]["sources"]:
        wanted = source["configMap"]
        data = one(manifests, "ConfigMap", wanted["name"])["data"]
        items = wanted.get("items", [{"key": key, "path": key} for key in data])
        for item in items:
            file = folder / "config" / item["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(data[item["key"]])
    return folder / "config"


def _mounts(target: str) -> dict[str, str]:
    mounts: Any = container(one(build(target), "Deployment")["spec"]["template"])["volumeMounts"]
    return {mount["mountPath"]: mount["name"] for mount in mounts}


def _environ(target: str) -> dict[str, str]:
    """The container's environment, with something in the place of each secret."""
    each = container(one(build(target), "Deployment")["spec"]["template"])
    secrets = {"POINTSMAN_STORE__URL": "postgresql://user:password@database/pointsman"}
    return {entry["name"]: entry.get("value", secrets.get(entry["name"], "secret")) for entry in each["env"]}


def _settings(target: str) -> Settings:
    """File and environment, as the pod reads them."""
    with tempfile.TemporaryDirectory() as folder:
        return load_settings(str(_project(target, Path(folder)) / "pointsman.toml"), _environ(target))


def _leaving(target: str) -> tuple[Any, ServerSettings, float]:
    """The pod's spec, `[server]`, and the seconds between the pod's deletion and SIGTERM."""
    spec = one(build(target), "Deployment")["spec"]["template"]["spec"]
    before = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    return spec, _settings(target).server, before


def _app() -> Litestar:
    return create_app(Settings(store=StoreSettings(url="sqlite://")), environ={})


def _routes(app: Litestar) -> set[str]:
    return {route.path for route in app.routes}
