"""(e) How long the commands take to start, and what they hold in memory.

    python -m tests.load.bench_start [--short] [--rounds N]

Each round runs, in turn: a bare interpreter, one that imports the framework, `pointsman classify` without a server, and
`pointsman serve` until it says that it is ready. All warm: the first round is not counted.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.load.support import Load, Report, alternating, arguments, parsed, resident_mb, task_body
from tests.support.service_process import POINTSMAN, ServiceProcess, process_environ

KINDS = ("python", "import litestar", "classify", "serve")
COMMANDS: dict[str, tuple[str, ...]] = {
    "python": (sys.executable, "-c", "pass"),
    "import litestar": (sys.executable, "-c", "import litestar, msgspec"),
    "classify": (*POINTSMAN, "classify", "Fix a typo in the README", "--json"),
}


def main() -> None:
    """The command."""
    given = parsed(arguments(__doc__ or "", rounds=11))
    report = Report("start", given)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    memory: dict[str, list[float]] = {kind: [] for kind in (*KINDS, "serve, after 2,000 requests")}
    with tempfile.TemporaryDirectory() as folder:
        environ = {"HOME": folder, "PATH": "/usr/bin:/bin", "POINTSMAN_CLI__PRESET": ""}
        for n, kind in alternating(given.rounds + 1, KINDS):
            if kind == "serve":
                taken, held, later = _serve(environ, Path(folder), requests=0 if n < given.rounds else 2000)
                if later:
                    memory["serve, after 2,000 requests"].append(later)
            else:
                taken, held = _command(COMMANDS[kind], environ)
            if n:
                seconds[kind].append(taken)
                memory[kind].append(held)
    report.say("                                   seconds                    resident MB")
    for kind in KINDS:
        told = report.figure(f"{kind}, s", seconds[kind])
        # A child's peak counts what its parent held when it was forked, which hides the small ones.
        held_mb = report.figure(f"{kind}, MB", memory[kind]) if kind in {"classify", "serve"} else ""
        report.say(f"  {kind:20} {told!s:>30} {held_mb!s:>28}")
    grown = report.figure("serve, after 2,000 requests, MB", memory["serve, after 2,000 requests"])
    report.say(f"  {'serve, 2,000 requests':20} {'':>29} {grown!s:>28}")
    for kind in ("classify", "serve"):
        pairs = zip(seconds[kind], seconds["import litestar"], strict=True)
        report.ratio(f"{kind} / import of the framework", [a / b for a, b in pairs])
    report.end()


def _command(command: tuple[str, ...], environ: dict[str, str]) -> tuple[float, float]:
    """Seconds, and the most MB it held."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=process_environ(environ), cwd=environ["HOME"]
    )
    _, status, usage = os.wait4(process.pid, 0)
    taken = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not look for it again
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return taken, usage.ru_maxrss / 1024


def _serve(environ: dict[str, str], folder: Path, *, requests: int) -> tuple[float, float, float]:
    """Seconds until it is ready, MB it holds then, and after so many requests."""
    begun = time.perf_counter()
    with ServiceProcess({**environ, "POINTSMAN_STORE__URL": f"sqlite:///{folder}/start.db"}, folder / "log") as service:
        httpx.get(f"{service.url}/readyz", trust_env=False).raise_for_status()
        taken = time.perf_counter() - begun
        held = resident_mb(service.process.pid)
        if not requests:
            return taken, held, 0.0
        load = Load(service.url)
        load.open_loop(task_body, rate=400, seconds=requests / 400)
        load.close()
        return taken, held, resident_mb(service.process.pid)


if __name__ == "__main__":
    main()
