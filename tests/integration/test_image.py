"""The image, built by a real engine from the Dockerfile as it is, and run by one on the pod's own terms."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import httpx
import pytest

from tests.support.engines import HOW_TO_GET_ONE, USER, Engine, Image, Terms, find_engine
from tests.support.image import ROOT
from tests.support.kustomize import K8S, build, container, workloads
from tests.support.sbom import locked_names
from tests.support.service_process import ServiceProcess
from tests.support.tell_fixtures import Tell

pytestmark = pytest.mark.timeout(600)  # the first build on a machine makes its base images and downloads the packages

STATE = "/var/lib/pointsman"
REVISION = {"REVISION": "4f2c", "SOURCE": "https://git.example/pointsman"}
MEGABYTES, CLI_MEGABYTES, LAYERS = 190, 240, 1
"""Above the base: the service with its packages, and what the agent CLI adds. What is bounded does not grow unseen."""

OUTCOME = {"agent_type": "codex", "model": "gpt-5-mini", "solved": True, "cost_usd": 0.03}
NUMBERS = count()
"""For names that no other container has."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A running container and its client."""

    process: ServiceProcess
    client: httpx.Client
    pid: int


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """This machine's."""
    found = find_engine()
    if found is None:
        pytest.skip(HOW_TO_GET_ONE)
    yield found
    found.clean()


@pytest.fixture(scope="module")
def image(engine: Engine) -> Image:
    """The target `service`; the stage `build` keeps a name, so that another run need not do it anew."""
    engine.build("build", REVISION)
    return engine.build("service", REVISION)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The projected volume as the kubelet lays it out: links into a folder that is swapped as a whole."""
    folder = tmp_path_factory.mktemp("config")
    data = folder / "..2026_11_22"
    (data / "prompts").mkdir(parents=True)
    shutil.copy(ROOT / "k8s/base/pointsman.toml", data)
    shutil.copy(ROOT / "service/catalog.toml", data)
    for file in (ROOT / "prompts").glob("*.txt"):
        shutil.copy(file, data / "prompts")
    (folder / "..data").symlink_to(data.name)
    for name in ("pointsman.toml", "catalog.toml", "prompts"):
        (folder / name).symlink_to(f"..data/{name}")
    folder.chmod(0o755)
    return folder


@pytest.fixture
def pods(engine: Engine, image: Image, tmp_path: Path, config: Path) -> "Pods":
    """For containers over one volume of the test's own."""
    return Pods(engine, image, tmp_path, config)


def test_the_image_says_what_it_is(image: Image) -> None:
    """Labels of OCI: version and licence as in pyproject.toml, source and revision as the builder tells them."""
    project: Any = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = {
        name.removeprefix("org.opencontainers.image."): text
        for name, text in image.config["Labels"].items()
        if name.startswith("org.opencontainers.image.")
    }
    assert (labels["version"], labels["licenses"]) == (project["version"], project["license"])
    assert (labels["revision"], labels["source"]) == (REVISION["REVISION"], REVISION["SOURCE"])
    assert (image.config["User"], image.config.get("Healthcheck")) == (f"{USER}:{USER}", None)


def test_the_image_is_no_larger_than_it_must_be(engine: Engine, image: Image, tell: Tell) -> None:
    """One layer over its base, of a bounded size; both are printed."""
    base = engine.base()
    megabytes = (image.size - base.size) / 1e6
    tell(
        f"image: built in {image.seconds:.0f} s, {image.layers} layers, {image.size / 1e6:.0f} MB, "
        f"of which {megabytes:.0f} MB are over the base"
    )
    assert image.layers - base.layers == LAYERS
    assert 0 < megabytes < MEGABYTES


def test_the_image_holds_what_the_lock_names_and_nothing_else(engine: Engine, image: Image) -> None:
    """The locked packages and the service: no development dependency, no build tool, no pip."""
    code = "import importlib.metadata as m, json; print(json.dumps([d.metadata['Name'] for d in m.distributions()]))"
    found = {_plain(name) for name in json.loads(_run(engine, image, "packages", "python", "-Ic", code))}
    assert found == {"pointsman", *locked_names()}
    assert not {"pip", "pytest", "hatchling", "setuptools", "polyfactory", "faker"} & found


def test_the_image_decides_without_rights_or_a_tree_it_could_write(pods: "Pods", tmp_path: Path) -> None:
    """As another user, with no capability left or to be had, it starts, decides, and keeps what it decided."""
    with pods.run("pod") as pod:
        answer = pod.client.post("/v1/classify", json={"instructions": "Fix the flaky login test."})
        assert answer.status_code == 200
        decision = answer.json()
        assert (decision["source"], decision["degraded"]) == ("forecast", False)
        assert pod.client.get(f"/v1/decisions/{decision['decision_id']}").status_code == 200
        assert pod.client.get("/v1/status").json()["store"]["recording"] is True
        said = dict(re.findall(r"^(\w+):\t(.*)$", Path(f"/proc/{pod.pid}/status").read_text(), re.MULTILINE))
        assert set(said["Uid"].split()) == set(said["Gid"].split()) == {str(USER)}
        assert {int(said[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert said["NoNewPrivs"] == "1"
        assert said["NSpid"].split()[-1] == "1"
        assert _writable(pod.pid) == {"/tmp", STATE}
    assert (tmp_path / "state/pointsman.db").stat().st_uid == USER


def test_an_update_keeps_what_was_reported_and_ends_the_old_pod_in_good_order(pods: "Pods") -> None:
    """SIGTERM ends process 1 with 0, and a second container on the same volume has learned what the first was told."""
    with pods.run("old") as pod:
        outcome_id = pod.client.post("/v1/outcomes", json=OUTCOME).json()["outcome_id"]
        decision = pod.client.post("/v1/classify", json={"instructions": "Fix it."}).json()
        pod.process.signal(signal.SIGTERM)
        assert pod.process.wait(30) == 0
    with pods.run("new") as pod:
        assert pod.client.get(f"/v1/decisions/{decision['decision_id']}").status_code == 200
        assert pod.client.request("DELETE", f"/v1/outcomes/{outcome_id}").status_code in {200, 204}


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        pytest.param({"mode": 0o755}, "pointsman.db", id="volume-of-another-user"),
        pytest.param({"volume": False}, "pointsman.db", id="no-volume"),
        pytest.param(
            {"volume": False, "temporary": {"/tmp": 65_536, STATE: 16}}, "the disk is full", id="full-file-system"
        ),
    ],
)
def test_a_volume_that_cannot_be_written_is_told_and_does_not_keep_it_from_deciding(
    pods: "Pods", terms: Mapping[str, Any], words: str
) -> None:
    """Decisions go on, and /v1/status names the problem."""
    with pods.run("pod", **terms) as pod:
        assert pod.client.get("/readyz").status_code == 200
        assert pod.client.post("/v1/classify", json={"instructions": "Fix it."}).status_code == 200
        store = pod.client.get("/v1/status").json()["store"]
    assert store["recording"] is False
    assert words in store["problem"]


def test_of_two_pods_started_at_once_on_one_claim_one_records_and_the_other_takes_over(pods: "Pods") -> None:
    """As an autoscaler that was left behind would start them: the second decides, refuses outcomes, says who has the
    file and what to do, and records once the first has gone.
    """
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        starting = [pool.submit(stack.enter_context, pods.run(name)) for name in ("first", "second")]
        running = [each.result() for each in starting]
        # Ready comes before the first word of the store where the machine is slow.
        _wait_until(lambda: all(_store(pod)["recording"] or "belongs to" in _store(pod)["problem"] for pod in running))
        owner, other = sorted(running, key=lambda pod: not _store(pod)["recording"])
        assert owner.client.get("/v1/status").json()["store"]["recording"] is True
        store = other.client.get("/v1/status").json()["store"]
        assert store["recording"] is False
        assert "uses this SQLite file, which belongs to one pod or machine at a time" in store["problem"]
        assert other.client.post("/v1/classify", json={"instructions": "Fix it."}).status_code == 200
        assert owner.client.post("/v1/outcomes", json=OUTCOME).status_code == 201
        assert other.client.post("/v1/outcomes", json=OUTCOME).status_code == 503
        assert owner.process.stop() == 0
        _wait_until(lambda: other.client.get("/v1/status").json()["store"]["recording"])
        assert other.client.post("/v1/outcomes", json=OUTCOME).status_code == 201


def test_the_backup_s_job_runs_in_the_image_beside_the_pod(
    engine: Engine, image: Image, pods: "Pods", tmp_path: Path
) -> None:
    """Its command and terms are the manifest's; a restore is refused while the pod runs, and done once it has ended."""
    backup, script = tmp_path / "backup", K8S / "components/backup-sqlite/backup.py"
    backup.mkdir(mode=0o777)
    backup.chmod(0o777)
    jobs = {name: container(template) for name, template in workloads(build("components/backup-sqlite"))}

    def run(job: str) -> "subprocess.CompletedProcess[str]":
        each = jobs[f"CronJob/{job}"]
        terms = Terms(
            entrypoint=[*each["command"], *each["args"]],
            volumes={STATE: tmp_path / "state", "/backup": backup},
            read_only={"/scripts/backup.py": script},
            temporary={},
        )
        program = engine.program(image, f"{job}-{os.getpid()}-{next(NUMBERS)}", terms)
        return subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)

    with pods.run("pod") as pod:
        assert pod.client.post("/v1/outcomes", json=OUTCOME).status_code == 201
        saved = run("pointsman-backup")
        assert (saved.returncode, saved.stdout[:5]) == (0, "saved"), saved.stderr
        refused = run("pointsman-restore")
        assert refused.returncode == 1
        assert "scale the deployment to 0 first" in refused.stderr
    restored = run("pointsman-restore")
    assert (restored.returncode, restored.stdout[:8]) == (0, "restored"), restored.stderr


def test_any_user_that_the_cluster_chooses_can_run_it(pods: "Pods") -> None:
    """OpenShift gives each namespace users of its own, with a volume of their group."""
    with pods.run("pod", user=1_000_660_000, mode=0o2777) as pod:
        assert pod.client.post("/v1/outcomes", json=OUTCOME).status_code == 201


def test_run_as_root_it_works_and_what_it_wrote_is_told_to_the_user_that_cannot_write_it(pods: "Pods") -> None:
    """Nothing in the image needs another user. A file of root's is named by the next pod, which is not root."""
    with pods.run("root", user=0) as pod:
        assert pod.client.post("/v1/classify", json={"instructions": "Fix it."}).status_code == 200
        assert pod.client.get("/v1/status").json()["store"]["recording"] is True
    with pods.run("after-root") as pod:
        assert pod.client.post("/v1/classify", json={"instructions": "Fix it."}).status_code == 200
        store = pod.client.get("/v1/status").json()["store"]
    assert store["recording"] is False
    assert "pointsman.db" in store["problem"]


def test_the_cli_target_holds_a_gemini_that_runs_in_the_pod(engine: Engine, image: Image, tell: Tell) -> None:
    """The locked program starts from a read-only tree as the image's user, and adds a bounded size."""
    made = engine.build("cli", REVISION)
    engine.build("node", REVISION)
    tell(f"image cli: built in {made.seconds:.0f} s, {made.layers} layers, {made.size / 1e6:.0f} MB")
    assert made.layers == image.layers + 2
    assert (made.size - image.size) / 1e6 < CLI_MEGABYTES
    assert made.config["Entrypoint"] == image.config["Entrypoint"]
    locked: Any = json.loads((ROOT / "k8s/cli/package.json").read_text())["dependencies"]
    version = _run(engine, made, "gemini", "node", "/opt/cli/node_modules/.bin/gemini", "--version")
    assert version == locked["@google/gemini-cli"]


class Pods:
    """Starts containers of one image whose volume is a folder of the test's."""

    def __init__(self, engine: Engine, image: Image, folder: Path, config: Path) -> None:
        self._engine = engine
        self._image = image
        self._folder = folder
        self._config = config
        self._making = Lock()

    @contextmanager
    def run(self, name: str, *, volume: bool = True, mode: int = 0o2775, **terms: Any) -> Generator[Pod]:  # noqa: ANN401 - those of `Terms`
        """One that is ready, with a volume as the kubelet makes it, which belongs to fsGroup; ended by SIGTERM."""
        state = self._folder / "state"
        with self._making:  # two pods may be started at the same moment
            if volume and not state.exists():
                state.mkdir()
                shutil.chown(state, group=USER)
                state.chmod(mode)
        name = f"{name}-{os.getpid()}-{next(NUMBERS)}"
        program = self._engine.program(
            self._image,
            name,
            Terms(
                environ={"POINTSMAN_CONFIG": "/etc/pointsman/pointsman.toml"},
                volumes={STATE: state} if volume else {},
                read_only={"/etc/pointsman": self._config},
                **terms,
            ),
        )
        # The port alone is not the pod's: several tests may run at once.
        arguments = ("--host", "127.0.0.1", "--port", "0")
        with ServiceProcess(os.environ, self._folder / f"{name}.log", arguments, program) as process:
            try:
                with process.client() as client:
                    yield Pod(process, client, self._engine.pid(name))
            except BaseException:
                # To kill the engine's own process would leave the container running, and its pipes open.
                process.process.terminate()
                process.process.wait(30)
                raise
            if process.process.poll() is None:
                assert process.stop() == 0


def _run(engine: Engine, image: Image, name: str, *command: str) -> str:
    """What another program of the image prints, on the same terms."""
    program = engine.program(image, f"{name}-{os.getpid()}-{next(NUMBERS)}", Terms(entrypoint=command))
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _store(pod: "Pod") -> dict[str, Any]:
    """What its status says of the store."""
    said: dict[str, Any] = pod.client.get("/v1/status").json()["store"]
    return said


def _wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.05)


def _writable(pid: int) -> set[str]:
    """Mount points that are not read-only, devices and /proc aside."""
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    writable = {fields[4] for fields in mounts if "ro" not in fields[5].split(",")}
    return {path for path in writable if not path.startswith(("/dev", "/proc"))}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
