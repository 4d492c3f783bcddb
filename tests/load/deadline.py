"""Is every decision answered in time, whatever the model server or the classifying program does?

    python -m tests.load.deadline --calls 2000

A real service, a fake model server and programs with faults, each a process of its own. The breakers never open here,
so that every single call meets the fault. For each fault `--calls` tasks with the given deadline, so many at once; a
call is late where its answer is complete later than `deadline_ms` + 25 ms after its first byte was sent. Prints a table
and one JSON line for each fault; exit 0 where none is late at p99.9 and every answer is what the contract says.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from tests.support.fault_server import FaultServer
from tests.support.faults import endpoint_faults, program_faults
from tests.support.http_fixtures import CATALOG
from tests.support.plain_http import PlainClient
from tests.support.service_process import ServiceProcess
from tests.support.tireless import PROGRAM

GRACE_MS = 25.0
PROGRAM_CALLERS = 20
"""Four run at once and sixteen wait, which is as many as may."""
CHOICES = {("claude", "haiku"), ("gemini", "flash"), ("local", "fake")}
OK_STATUSES = {False: {200}, True: {200, 502, 504}}


@dataclass(slots=True)
class Measured:
    """One fault's calls."""

    fault: str
    deadline_ms: int
    strict: bool
    at_once: int
    late_ms: list[float] = field(default_factory=list[float])
    inside_late_ms: list[float] = field(default_factory=list[float])
    statuses: Counter[int] = field(default_factory=Counter[int])
    problems: Counter[str] = field(default_factory=Counter[str])
    wrong: int = 0
    jitter_ms: list[float] = field(default_factory=list[float])
    """How late this process wakes from a sleep meanwhile: what the machine does to every process, the service too."""

    def report(self) -> dict[str, Any]:
        """Lateness in milliseconds relative to the deadline: negative is early."""
        return {
            "fault": self.fault,
            "strict": self.strict,
            "calls": len(self.late_ms),
            "at_once": self.at_once,
            "deadline_ms": self.deadline_ms,
            "past_deadline_ms": {name: round(_at(self.late_ms, q), 1) for name, q in _QUANTILES.items()},
            "past_deadline_inside_ms": {name: round(_at(self.inside_late_ms, q), 1) for name, q in _QUANTILES.items()}
            if self.inside_late_ms
            else None,
            "sleep_overshoot_ms": {name: round(_at(self.jitter_ms, q), 1) for name, q in _QUANTILES.items()},
            "late": sum(late > GRACE_MS for late in self.late_ms),
            "wrong": self.wrong,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "problems": dict(self.problems.most_common(4)),
        }

    @property
    def kept(self) -> bool:
        """Nothing wrong, and nothing late at p99.9."""
        return not self.wrong and _at(self.late_ms, 0.999) <= GRACE_MS


_QUANTILES: Mapping[str, float] = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def _at(values: list[float], quantile: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))] if ordered else 0.0


async def _call(client: PlainClient, number: int, measured: Measured) -> None:
    task: dict[str, Any] = {
        "instructions": f"Fix the login of shop {number}. " * 20,
        "deadline_ms": measured.deadline_ms,
        "strict": measured.strict,
        "require": {"exclude": [{"agent_type": "claude", "model": "opus"}]},
    }
    answer = await client.ask("POST", "/v1/classify", task)
    measured.late_ms.append(answer.seconds * 1000 - measured.deadline_ms)
    measured.statuses[answer.status] += 1
    document = answer.json
    if answer.status == 200:
        measured.inside_late_ms.append(document["timings_ms"]["total"] - measured.deadline_ms)
        if (document["agent_type"], document["model"]) not in CHOICES:
            measured.wrong += 1
        if document["degraded"] != bool(document["failures"]):
            measured.wrong += 1
    for failure in document.get("failures", []):
        measured.problems[f"{failure['source']}:{failure['problem']}"] += 1
    measured.wrong += answer.status not in OK_STATUSES[measured.strict]


async def measure(url: str, measured: Measured, calls: int) -> None:
    """`calls` decisions, `measured.at_once` at any moment."""
    numbers = iter(range(calls))

    async def one() -> None:
        async with PlainClient(url) as client:
            for number in numbers:
                await _call(client, number, measured)

    async def wake() -> None:
        while True:
            asleep = time.perf_counter()
            await asyncio.sleep(0.01)
            measured.jitter_ms.append((time.perf_counter() - asleep) * 1000 - 10.0)

    waking = asyncio.create_task(wake())
    await asyncio.gather(*(one() for _ in range(measured.at_once)))
    waking.cancel()


def _print(measured: Measured) -> None:
    report = measured.report()
    past = report["past_deadline_ms"]
    shown = " ".join(f"{name} {past[name]:8.1f}" for name in _QUANTILES)
    name = f"{measured.fault}{' (strict)' if measured.strict else ''}"
    jitter = _at(measured.jitter_ms, 0.999)
    counts = f"late {report['late']:4d}  wrong {report['wrong']}"
    print(f"{name:36s} {shown}   jitter {jitter:5.1f}   {counts}  {report['problems']}", flush=True)
    print(json.dumps(report), flush=True)


def _environ(folder: Path, **more: str) -> dict[str, str]:
    (folder / "catalog.toml").write_text(CATALOG)
    return {
        "HOME": str(folder),
        "PATH": "/usr/bin:/bin",
        "TMPDIR": str(folder),
        "POINTSMAN_CATALOG__PATH": str(folder / "catalog.toml"),
        "POINTSMAN_CLI__PRESET": "",
        "POINTSMAN_SERVER__LOG_LEVEL": "warning",
        **more,
    }


def endpoint_runs(folder: Path, names: list[str], arguments: argparse.Namespace) -> list[Measured]:
    """Each fault of the model server; and strict variants of some."""
    done: list[Measured] = []
    with FaultServer() as server:
        environ = _environ(
            folder,
            POINTSMAN_LOCAL_MODEL__ENDPOINT=server.url,
            POINTSMAN_LOCAL_MODEL__MODEL="fake",
            POINTSMAN_LOCAL_MODEL__MAX_CONCURRENCY=str(arguments.slots or arguments.at_once),
        )
        with ServiceProcess(environ, folder / "serve.log", program=PROGRAM) as service:
            for name in names:
                for strict in (False, True) if name in {"never-answers", "500"} else (False,):
                    server.show(name)
                    measured = Measured(name, arguments.deadline_ms, strict, arguments.at_once)
                    uvloop.run(measure(service.url, measured, arguments.calls))
                    _print(measured)
                    done.append(measured)
    return done


def refusing_runs(folder: Path, arguments: argparse.Namespace) -> list[Measured]:
    """Endpoints to which there is no connection at all."""
    done: list[Measured] = []
    with FaultServer(tls=True) as untrusted:
        for name, url in {
            "refuses": "http://127.0.0.1:9/v1",
            "dns-fails": "http://no-such-host.invalid/v1",
            "tls-fails": untrusted.url,
        }.items():
            environ = _environ(folder, POINTSMAN_LOCAL_MODEL__ENDPOINT=url, POINTSMAN_LOCAL_MODEL__MODEL="fake")
            with ServiceProcess(environ, folder / "serve.log", program=PROGRAM) as service:
                measured = Measured(name, arguments.deadline_ms, False, arguments.at_once)
                uvloop.run(measure(service.url, measured, arguments.calls))
            _print(measured)
            done.append(measured)
    return done


def program_runs(folder: Path, names: list[str], arguments: argparse.Namespace) -> list[Measured]:
    """Each fault of the program; it is not started with less than a second, so the deadline is longer."""
    done: list[Measured] = []
    commands = program_faults(folder)
    for name in names:
        environ = _environ(
            folder,
            POINTSMAN_CLI__COMMAND=json.dumps(commands[name]),
            POINTSMAN_CLI__MAX_CONCURRENCY=str(arguments.programs),
        )
        with ServiceProcess(environ, folder / "serve.log", program=PROGRAM) as service:
            for strict in (False, True) if name == "hangs" else (False,):
                measured = Measured(f"program-{name}", 1300, strict, PROGRAM_CALLERS)
                uvloop.run(measure(service.url, measured, arguments.calls))
                _print(measured)
                done.append(measured)
    return done


def _main() -> None:
    parser = argparse.ArgumentParser(description="Is every decision answered in time under every fault?")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--slots", type=int, help="requests at the model server at once; as many as calls if not said")
    parser.add_argument("--programs", type=int, default=4, help="programs at once")
    parser.add_argument("--deadline-ms", type=int, default=250)
    parser.add_argument("--only", nargs="*", help="names of faults; those of programs begin with `program-`")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = set(arguments.only or [])
        endpoint = [fault for fault in endpoint_faults() if not wanted or fault in wanted]
        programs = [fault for fault in program_faults(folder) if not wanted or f"program-{fault}" in wanted]
        done = endpoint_runs(folder, endpoint, arguments) if endpoint else []
        if not wanted or "refuses" in wanted:
            done += refusing_runs(folder, arguments)
        done += program_runs(folder, programs, arguments)
    late = [measured.fault for measured in done if not measured.kept]
    print(f"{len(done)} faults, {sum(len(m.late_ms) for m in done)} calls; not kept: {', '.join(late) or 'none'}")
    sys.exit(1 if late else 0)


if __name__ == "__main__":
    _main()
