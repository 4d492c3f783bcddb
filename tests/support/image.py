"""k8s/Dockerfile read, and its steps done without a container engine.

`build` runs a stage's own commands in an overlay over this machine's root, so that what they write is what a layer of
the image would hold. The base image's place is taken by this machine: its Python, its C library. `ImageRoot` then runs
the image's program where the kubelet would have put it: a root that cannot be written and holds no shell, the image's
user, no capabilities, a process namespace of its own. Both need root on Linux.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "k8s" / "Dockerfile"
LAUNCHER = Path(__file__).with_name("image_launcher.py")
USER = 65532


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line, joined where it was continued: `RUN`, and what stands after it."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments: of an exec form, or of a plain line without its flags."""
        if self.text.startswith("["):
            words: list[str] = json.loads(self.text)
            return words
        return [word for word in shlex.split(self.text) if not word.startswith("--")]


def read_stages(file: Path = DOCKERFILE) -> dict[str, list[Instruction]]:
    """Stages by name (the last one may have none: ""), each with its FROM first."""
    stages: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, text = line.strip().partition(" ")
        if name == "FROM":
            current = stages.setdefault(text.partition(" AS ")[2], [])
        current.append(Instruction(name, " ".join(text.split())))
    return stages


def why_not() -> str:
    """Why images cannot be built and run here, or nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux: overlay mounts, chroot and another user"
    missing = [tool for tool in ("unshare", "mount", "chroot") if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    probe = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "may not make namespaces here"


def build(stage: Sequence[Instruction], layer: Path) -> None:
    """Does WORKDIR, COPY from the context, and RUN; `layer` then holds all that was written. RuntimeError with the
    output of a command that failed.
    """
    workdir = "/"
    for instruction in stage:
        if instruction.name == "WORKDIR":
            workdir = instruction.text
            (layer / workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif instruction.name == "COPY":
            _copy(instruction.words, layer / workdir.lstrip("/"))
        elif instruction.name == "RUN":
            _run(instruction.words, layer, workdir)
        elif instruction.name != "FROM":
            raise RuntimeError(f"cannot do {instruction.name}")


def _copy(words: Sequence[str], folder: Path) -> None:
    *sources, target = words
    for source in sources:
        if (ROOT / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, folder / target, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copy(ROOT / source, folder / target)


def _run(words: Sequence[str], layer: Path, workdir: str) -> None:
    work, merged = layer.with_name(f"{layer.name}.work"), layer.with_name(f"{layer.name}.merged")
    work.mkdir(exist_ok=True)
    merged.mkdir(exist_ok=True)
    script = (
        'set -e; mount -t overlay overlay -o "lowerdir=/,upperdir=$1,workdir=$2" "$3"; mount --rbind /dev "$3/dev"; '
        'mount -t proc proc "$3/proc"; mount -t tmpfs tmpfs "$3/tmp"; root=$3; dir=$4; shift 4; '
        'exec chroot "$root" sh -c \'cd "$0" && exec "$@"\' "$dir" "$@"'
    )
    # The base image has one Python, which comes first on its PATH.
    path = os.pathsep.join([str(Path(sys.base_prefix, "bin")), os.environ["PATH"]])
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, "sh", layer, work, merged, workdir, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(words)}: {(done.stdout + done.stderr)[-3000:]}")


class ImageRoot:
    """The image's program in a root of its own. A context manager; the network is this machine's."""

    def __init__(
        self,
        folder: Path,
        *,
        layers: Mapping[str, Path],
        volumes: Mapping[str, Path],
        environ: Mapping[str, str],
        programs: Sequence[Path] = (),
    ) -> None:
        """`layers` by path cannot be written, like all else; `volumes` by path can where their permissions allow.

        `programs` of this machine are put where they lie, besides Python.
        """
        self._folder = folder
        self._plan = {
            "root": str(folder / "root"),
            "read_only": {path: str(source) for path, source in layers.items()},
            "writable": {path: str(source) for path, source in volumes.items()},
            "libraries": [sys.base_prefix, *map(str, programs)],
            "user": USER,
        }
        self._environ = dict(environ)
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Makes the folders."""
        (self._folder / "root").mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kills what runs; its mounts and all that it started go with its namespaces."""
        if self._keeper is None:
            return
        if self._keeper.poll() is None:
            self.signal(signal.SIGKILL)
        self._keeper.communicate()

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Starts a program as process 1; its output comes through pipes."""
        launch = [sys.executable, "-I", str(LAUNCHER), json.dumps(self._plan), *command]
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", *launch],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environ,
        )
        return self._keeper

    @property
    def pid(self) -> int:
        """Of the program, as this machine counts."""
        assert self._keeper is not None
        children = Path(f"/proc/{self._keeper.pid}/task/{self._keeper.pid}/children").read_text().split()
        return int(children[0])

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal from outside, as the kubelet does."""
        os.kill(self.pid, number)
