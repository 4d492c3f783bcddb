"""Container engines that build k8s/Dockerfile as it is and run what it makes on the pod's terms.

`Crun` is buildah and crun, two packages of Debian's that need no daemon, on stand-ins for the base images. `Docker` is
Docker or Podman, where one answers and can pull the real base images.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.support.image import DOCKERFILE, ROOT
from tests.support.stand_in import NODE, PYTHON, machine_mounts, make_node, make_python

USER = 65532
LAUNCHER = Path(__file__).with_name("crun_launcher.py")
BASES = ("python:3.12-slim", "node:22-slim")
HOW_TO_GET_ONE = (
    "needs root on Debian with `apt-get install buildah crun mmdebstrap`, or root on Linux with Docker or Podman and "
    f"the images {' and '.join(BASES)}"
)
_LIMITS = ("--ulimit=nofile=20000:20000", "--ulimit=nproc=4096:4096")
"""What a build step may have; left out, buildah takes its defaults, which chroot isolation may not be able to raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an engine says about an image that it built."""

    tag: str
    config: Mapping[str, Any]
    layers: int
    size: int
    """Bytes, uncompressed, with its base."""
    seconds: float
    """How long the build took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a container is run; everything but the user and the volumes is as the pod has it."""

    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    volumes: Mapping[str, Path] = field(default_factory=dict[str, Path])
    read_only: Mapping[str, Path] = field(default_factory=dict[str, Path])
    temporary: Mapping[str, int] = field(default_factory=lambda: {"/tmp": 256 * 1024})
    """Memory file systems by path, with their size in KiB."""
    user: int = USER
    entrypoint: Sequence[str] = ()
    """In the place of the image's."""


class Engine(Protocol):
    """What the tests need of one."""

    def build(self, target: str, labels: Mapping[str, str]) -> Image:
        """Builds a target with these build arguments; RuntimeError with the end of its output where it fails."""
        ...

    def base(self) -> Image:
        """The base image of the service."""
        ...

    def program(self, image: Image, name: str, terms: Terms) -> list[str]:
        """The command, to which the program's arguments are appended, that runs a container and ends with its code."""
        ...

    def pid(self, name: str) -> int:
        """Process 1 of a running container, as this machine counts."""
        ...

    def clean(self) -> None:
        """Takes away the containers and what only former builds had."""
        ...


def find_engine() -> "Engine | None":
    """The one of this machine; Docker or Podman first, for they can have the real base images. Root only: the volumes
    belong to a group of nobody's, and what runs in a container is looked at from outside.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    for program in ("docker", "podman"):
        if shutil.which(program) and _answers([program, "info"]) and all(_has(program, base) for base in BASES):
            return Docker(program)
    tools = ("buildah", "crun", "mmdebstrap", "unshare")
    if all(map(shutil.which, tools)):
        return Crun(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pointsman-image")
    return None


class Crun:
    """buildah builds, crun runs. Its storage is a folder of its own, so that nobody else's images are touched."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._containers: list[str] = []
        # What is mounted is gone after a restart of the machine, and so is what lies in /run.
        places = [f"--root={folder / 'storage'}", "--runroot=/run/pointsman-image", "--storage-driver=overlay"]
        self._buildah = ["buildah", *places]

    def build(self, target: str, labels: Mapping[str, str]) -> Image:
        """With what an earlier build left of the same steps."""
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._make_bases()
            started = time.monotonic()
            tag = f"localhost/pointsman:{target}"
            _run(
                [
                    *[*self._buildah, "bud", "--isolation=chroot", "--layers", "--pull=never", *_LIMITS],
                    *machine_mounts(self._folder),
                    *_arguments(labels),
                    *["--file", str(DOCKERFILE), "--target", target, "--tag", tag, str(ROOT)],
                ]
            )
            return self._inspect(tag, time.monotonic() - started)

    def base(self) -> Image:
        return self._inspect(PYTHON, 0.0)

    def program(self, image: Image, name: str, terms: Terms) -> list[str]:
        """The container's root is mounted here, and stays so until `clean`."""
        container = _run([*self._buildah, "from", "--pull=never", "--name", name, image.tag])
        self._containers.append(container)
        root = _run([*self._buildah, "mount", container])
        plan = {
            "name": container,
            "bundle": str(self._bundle(name)),
            "state": str(self._folder / "crun"),
            "root": root,
            "user": terms.user,
            "entrypoint": list(terms.entrypoint) or list(image.config["Entrypoint"]),
            "environ": [*image.config["Env"], *(f"{key}={value}" for key, value in terms.environ.items())],
            "folder": image.config["WorkingDir"],
            "volumes": {path: str(source) for path, source in terms.volumes.items()},
            "read_only": {path: str(source) for path, source in terms.read_only.items()},
            "temporary": dict(terms.temporary),
        }
        return [sys.executable, "-I", str(LAUNCHER), json.dumps(plan)]

    def pid(self, name: str) -> int:
        return int((self._bundle(name) / "pid").read_text())

    def clean(self) -> None:
        """Takes away the containers' roots and what only former builds had; each target's steps are kept."""
        for name in self._containers:
            _answers(["crun", "--root", str(self._folder / "crun"), "delete", "--force", name])
        if self._containers:
            _run([*self._buildah, "rm", *self._containers])
        _run([*self._buildah, "rmi", "--prune"])
        shutil.rmtree(self._bundle(""), ignore_errors=True)

    def _make_bases(self) -> None:
        if not _answers([*self._buildah, "inspect", "--type=image", PYTHON]):
            make_python(self._buildah)
        if not _answers([*self._buildah, "inspect", "--type=image", NODE]):
            make_node(self._buildah)

    def _inspect(self, tag: str, seconds: float) -> Image:
        said: Any = json.loads(_run([*self._buildah, "inspect", "--type=image", tag]))
        layers: list[Mapping[str, Any]] = json.loads(said["Manifest"])["layers"]
        config = {**said["OCIv1"]["config"], "Healthcheck": said["Docker"]["config"].get("Healthcheck")}
        return Image(
            tag=tag, config=config, layers=len(layers), size=sum(layer["size"] for layer in layers), seconds=seconds
        )

    def _bundle(self, name: str) -> Path:
        return self._folder / f"bundles-{os.getpid()}" / name


class Docker:
    """Docker, or Podman, which takes the same words. Its containers share this machine's network."""

    def __init__(self, program: str) -> None:
        self._docker = program

    def build(self, target: str, labels: Mapping[str, str]) -> Image:
        started = time.monotonic()
        tag = f"pointsman-test:{target}"
        _run(
            [
                *[self._docker, "build", *_arguments(labels), "--file", str(DOCKERFILE), "--target", target],
                *["--tag", tag, str(ROOT)],
            ]
        )
        return self._inspect(tag, time.monotonic() - started)

    def base(self) -> Image:
        return self._inspect(BASES[0], 0.0)

    def program(self, image: Image, name: str, terms: Terms) -> list[str]:
        options = ["--rm", f"--name={name}", "--network=host", "--read-only", "--cap-drop=ALL"]
        options += ["--security-opt=no-new-privileges", f"--user={terms.user}:{terms.user}"]
        options += [f"--env={key}={value}" for key, value in terms.environ.items()]
        options += [f"--tmpfs={path}:size={size}k,mode=1777" for path, size in terms.temporary.items()]
        options += [f"--volume={source}:{path}" for path, source in terms.volumes.items()]
        options += [f"--volume={source}:{path}:ro" for path, source in terms.read_only.items()]
        options += [f"--entrypoint={terms.entrypoint[0]}"] if terms.entrypoint else []
        return [self._docker, "run", *options, image.tag, *terms.entrypoint[1:]]

    def pid(self, name: str) -> int:
        return int(_run([self._docker, "inspect", "--format={{.State.Pid}}", name]))

    def clean(self) -> None:
        """Containers go with their end; images are this machine's to keep."""

    def _inspect(self, tag: str, seconds: float) -> Image:
        said: Any = json.loads(_run([self._docker, "image", "inspect", tag]))[0]
        return Image(
            tag=tag, config=said["Config"], layers=len(said["RootFS"]["Layers"]), size=said["Size"], seconds=seconds
        )


def _arguments(labels: Mapping[str, str]) -> list[str]:
    return [f"--build-arg={name}={value}" for name, value in labels.items()]


def _has(program: str, base: str) -> bool:
    return _answers([program, "image", "inspect", base]) or _answers([program, "pull", base], seconds=90)


def _answers(command: Sequence[str], seconds: float = 20) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=seconds).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:4])} …: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout.strip()
