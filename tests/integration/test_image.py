"""The image's own build steps, and its program under the restrictions of the pod."""

import re
import shutil
import signal
import subprocess
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.image import ROOT, USER, ImageRoot, build, read_stages, why_not

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "can run"),
    pytest.mark.timeout(400),  # a cold machine downloads the packages first
]


@dataclass(frozen=True, slots=True)
class Service:
    """The running program, and where its volumes lie."""

    root: ImageRoot
    url: str
    process: "subprocess.Popen[bytes]"
    state: Path


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage `build` leaves."""
    made = tmp_path_factory.mktemp("build") / "layer"
    made.mkdir()
    build(read_stages()["build"], made)
    return made


@pytest.fixture
def service(layer: Path, tmp_path: Path) -> Iterator[Service]:
    """The image's entry point and command, running."""
    with _running(layer, tmp_path) as started:
        yield started


def test_the_image_holds_what_the_lock_names_and_nothing_else(layer: Path) -> None:
    """The build stage's commands work as they stand, and leave the locked packages and the service: no development
    dependency, no build tool, no pip.
    """
    found = {_plain(found.name) for found in distributions(path=[str(_site_packages(layer))])}
    locked = {
        _plain(name)
        for name in re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    }
    assert found - {"pointsman"} <= locked
    assert {"pointsman", "litestar", "asyncpg", "numpy"} <= found
    assert not {"pip", "pytest", "hatchling", "setuptools"} & found
    assert (layer / "opt/pointsman/bin/pointsman").is_file()


def test_the_image_decides_without_rights_shell_or_a_tree_it_could_write(service: Service) -> None:
    """As another user, with no capability left or to be had, it starts, decides, and keeps what it decided."""
    with httpx.Client(base_url=service.url, trust_env=False, timeout=30.0) as client:
        answer = client.post("/v1/classify", json={"instructions": "Fix the flaky login test."})
        assert answer.status_code == 200
        decision = answer.json()
        assert (decision["source"], decision["degraded"]) == ("forecast", False)
        kept = client.get(f"/v1/decisions/{decision['decision_id']}")
        assert kept.status_code == 200
        assert client.get("/v1/status").json()["store"]["recording"] is True
    status = dict(re.findall(r"^(\w+):\t(.*)$", Path(f"/proc/{service.root.pid}/status").read_text(), re.MULTILINE))
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(USER)}
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["NSpid"].split()[-1] == "1"
    assert _writable(service.root.pid) == {"/tmp", "/var/lib/pointsman"}
    root = Path(f"/proc/{service.root.pid}/root")
    assert not [name for name in ("bin/sh", "usr/bin/sh", "bin/bash", "usr/bin/bash") if (root / name).is_file()]
    assert (service.state / "pointsman.db").stat().st_uid == USER


def test_the_image_ends_in_good_order_as_process_one(service: Service) -> None:
    """SIGTERM ends it with 0, although it is process 1, for which signals have no default action."""
    service.root.signal(signal.SIGTERM)
    assert service.process.wait(timeout=30) == 0


def test_a_volume_that_cannot_be_written_is_told_and_does_not_keep_it_from_deciding(
    layer: Path, tmp_path: Path
) -> None:
    """Without fsGroup the volume would be root's: decisions go on, and /v1/status names the problem."""
    with _running(layer, tmp_path, state_mode=0o755) as service:
        with httpx.Client(base_url=service.url, trust_env=False, timeout=30.0) as client:
            assert client.post("/v1/classify", json={"instructions": "Fix it."}).status_code == 200
            store = client.get("/v1/status").json()["store"]
        assert store["recording"] is False
        assert "pointsman.db" in store["problem"]


def test_the_cli_target_holds_a_gemini_that_runs_in_the_pod(layer: Path, tmp_path: Path) -> None:
    """The node stage's command works as it stands, and the program starts from a read-only tree as the image's user."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm on PATH, as the node image has them")
    made = tmp_path / "layer"
    made.mkdir()
    build(read_stages()["node"], made)
    tree = made / "opt/cli"
    layers = {"/opt/pointsman": layer / "opt/pointsman", "/opt/cli": tree}
    programs = [Path(node), Path(shutil.which("env") or "/usr/bin/env")]
    environ = {"PATH": f"/opt/cli/node_modules/.bin:{Path(node).parent}:/usr/bin", "HOME": "/tmp"}
    with ImageRoot(
        tmp_path / "run", layers=layers, volumes=_volumes(tmp_path, 0o2775), environ=environ, programs=programs
    ) as root:
        output, errors = root.start("/opt/cli/node_modules/.bin/gemini", "--version").communicate(timeout=60)
    assert output.decode().strip() == "0.61.0", errors.decode()


@contextmanager
def _running(layer: Path, folder: Path, *, state_mode: int = 0o2775) -> Generator[Service]:
    stages = read_stages()
    last = {instruction.name: instruction for instruction in stages["service"]}
    volumes = _volumes(folder, state_mode)
    layers = {"/opt/pointsman": layer / "opt/pointsman", "/etc/pointsman": _config(folder / "config")}
    with ImageRoot(folder / "run", layers=layers, volumes=volumes, environ=_environ(last["ENV"].text)) as root:
        # The port alone is not the pod's: several tests may run at once.
        process = root.start(*last["ENTRYPOINT"].words, *last["CMD"].words, "--host", "127.0.0.1", "--port", "0")
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        found = re.search(r"http://\S+", line)
        if found is None:
            _, errors = process.communicate(timeout=30)
            raise RuntimeError(f"it did not start: {errors.decode()[-2000:]}")
        httpx.get(f"{found[0]}/readyz", timeout=30.0, trust_env=False).raise_for_status()
        yield Service(root, found[0], process, volumes["/var/lib/pointsman"])


def _volumes(folder: Path, state_mode: int) -> dict[str, Path]:
    """As the kubelet makes them: an emptyDir for everybody, and a claim that belongs to fsGroup."""
    temporary, state = folder / "tmp", folder / "state"
    temporary.mkdir()
    temporary.chmod(0o1777)
    state.mkdir()
    shutil.chown(state, group=USER)
    state.chmod(state_mode)
    return {"/tmp": temporary, "/var/lib/pointsman": state}


def _config(folder: Path) -> Path:
    """The projected volume as the kubelet lays it out: links into a folder that is swapped as a whole."""
    data = folder / "..2026_11_22"
    (data / "prompts").mkdir(parents=True)
    shutil.copy(ROOT / "k8s/base/pointsman.toml", data)
    shutil.copy(ROOT / "service/catalog.toml", data)
    for file in (ROOT / "prompts").glob("*.txt"):
        shutil.copy(file, data / "prompts")
    (folder / "..data").symlink_to(data.name)
    for name in ("pointsman.toml", "catalog.toml", "prompts"):
        (folder / name).symlink_to(f"..data/{name}")
    return folder


def _environ(text: str) -> Mapping[str, str]:
    """What the image sets, and what the pod adds."""
    pairs: Any = (word.partition("=")[::2] for word in text.split())
    return {**dict(pairs), "POINTSMAN_CONFIG": "/etc/pointsman/pointsman.toml"}


def _writable(pid: int) -> set[str]:
    """Mount points that are not read-only, devices aside."""
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {fields[4] for fields in mounts if "ro" not in fields[5].split(",") and not fields[4].startswith("/dev/")}


def _site_packages(layer: Path) -> Path:
    return next((layer / "opt/pointsman/lib").glob("python3*/site-packages"))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
