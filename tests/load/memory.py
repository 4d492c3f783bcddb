"""Is the service's memory flat: over many requests, and under each fault?

    python -m tests.load.memory --requests 100000 --per-fault 2000

Each request is another task, so that nothing is answered from memory. Prints resident memory after each tenth of the
requests, then before and after each fault, and one JSON line for each part. The first tenth is warming up. Exit 0 where
it grows by less than 10 MB from there to the end, and by less than 10 MB under each fault.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from tests.load.soak import descriptors, resident_mb
from tests.support.fault_server import FaultServer
from tests.support.faults import endpoint_faults
from tests.support.http_fixtures import CATALOG
from tests.support.plain_http import PlainClient
from tests.support.service_process import ServiceProcess
from tests.support.tireless import PROGRAM

MOST_MB = 10.0


async def send(url: str, start: int, count: int, *, at_once: int, deadline_ms: int) -> int:
    """`count` tasks; gives how many were not answered 200."""
    numbers = iter(range(start, start + count))
    failed = 0

    async def one() -> None:
        nonlocal failed
        async with PlainClient(url) as client:
            for number in numbers:
                task = {
                    "instructions": f"Fix the login of shop {number}. " * 10,
                    "labels": {"repo": f"r{number % 50}", "task": f"t{number}"},
                    "deadline_ms": deadline_ms,
                }
                failed += (await client.ask("POST", "/v1/classify", task)).status != 200

    await asyncio.gather(*(one() for _ in range(at_once)))
    return failed


def many(service: ServiceProcess, server: FaultServer, requests: int, at_once: int) -> dict[str, Any]:
    """Memory over many healthy requests."""
    pid, tenth = service.process.pid, requests // 10
    points: list[float] = []
    failed = 0
    started = time.monotonic()
    for part in range(10):
        failed += uvloop.run(send(service.url, part * tenth, tenth, at_once=at_once, deadline_ms=10_000))
        server.show("good")  # and forgets what it recorded
        points.append(round(resident_mb(pid), 1))
        print(
            f"{(part + 1) * tenth:8d} requests  {points[-1]:6.1f} MB  {time.monotonic() - started:6.0f} s", flush=True
        )
    return {"requests": tenth * 10, "memory_mb": points, "grown_mb": round(points[-1] - points[0], 1), "failed": failed}


def under(service: ServiceProcess, server: FaultServer, fault: str, requests: int, at_once: int) -> dict[str, Any]:
    """Memory under one fault, after a warming-up of a tenth."""
    pid = service.process.pid
    server.show(fault)
    failed = uvloop.run(send(service.url, 0, max(1, requests // 10), at_once=at_once, deadline_ms=150))
    before, open_then = resident_mb(pid), descriptors(pid)
    failed += uvloop.run(send(service.url, 10**6, requests, at_once=at_once, deadline_ms=150))
    after, open_now = resident_mb(pid), descriptors(pid)
    print(f"{fault:28s} {before:6.1f} -> {after:6.1f} MB   descriptors {open_then} -> {open_now}", flush=True)
    return {
        "fault": fault,
        "requests": requests,
        "memory_mb": [round(before, 1), round(after, 1)],
        "grown_mb": round(after - before, 1),
        "descriptors": [open_then, open_now],
        "failed": failed,
    }


def run(*, requests: int, per_fault: int, at_once: int, faults: list[str]) -> list[dict[str, Any]]:
    """All of it; one entry for each part."""
    with tempfile.TemporaryDirectory() as name, FaultServer() as server:
        folder = Path(name)
        (folder / "catalog.toml").write_text(CATALOG)
        environ = {
            "HOME": name,
            "PATH": "/usr/bin:/bin",
            "POINTSMAN_CATALOG__PATH": str(folder / "catalog.toml"),
            "POINTSMAN_STORE__URL": f"sqlite:///{folder / 'store.db'}",
            "POINTSMAN_STORE__KEEP_DECISIONS": "10000",
            "POINTSMAN_LOCAL_MODEL__ENDPOINT": server.url,
            "POINTSMAN_LOCAL_MODEL__MODEL": "fake",
            "POINTSMAN_LOCAL_MODEL__MAX_CONCURRENCY": str(at_once),
            "POINTSMAN_CLI__PRESET": "",
            "POINTSMAN_SERVER__LOG_LEVEL": "warning",
        }
        parts: list[dict[str, Any]] = []
        with ServiceProcess(environ, folder / "serve.log", program=PROGRAM) as service:
            if requests:
                parts.append(many(service, server, requests, at_once))
                print(json.dumps(parts[-1]), flush=True)
            for fault in faults:
                parts.append(under(service, server, fault, per_fault, at_once))
                print(json.dumps(parts[-1]), flush=True)
    return parts


def _main() -> None:
    parser = argparse.ArgumentParser(description="Is the service's memory flat?")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--per-fault", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=8)
    arguments = parser.parse_args()
    parts = run(
        requests=arguments.requests,
        per_fault=arguments.per_fault,
        at_once=arguments.at_once,
        faults=list(endpoint_faults()) if arguments.per_fault else [],
    )
    grown = [part.get("fault", "many") for part in parts if part["grown_mb"] > MOST_MB or part["failed"]]
    print(f"{len(parts)} parts; not flat: {', '.join(grown) or 'none'}")
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    _main()
