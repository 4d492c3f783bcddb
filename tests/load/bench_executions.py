"""Do executions slow decisions down, and how soon does a follower see a delta?

    python -m tests.load.bench_executions --rounds 16 --seconds 4

A real service process; a stub of a model server, in a process of its own, answers classifications at once and streams
to executions for as long as they run, each delta with the time at which it was sent. Rounds without and with every
execution slot busy alternate, decisions come at a fixed rate in both (open loop, timed from when each was due). Each
execution has a follower. Prints a table and one JSON line. Target: p99 ratio ≤ 1.3, deltas within 50 ms.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.fake_behaviours import deltas, events, sse, verdict
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.fake_exchange import Behaviour, Exchange, RecordedRequest
from tests.support.service_process import ROOT, ServiceProcess

EXECUTIONS = "/v1/executions"


class Connection:
    """A kept-alive HTTP/1.1 connection that costs next to nothing: the client must not be what is measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: tuple[str, int]) -> "Connection":
        """Connects."""
        return cls(*await asyncio.open_connection(*address, limit=1 << 22))

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        """Sends a request."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self.writer.write(head.encode() + b"\r\n\r\n" + body)

    async def ask(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        """One request and its JSON answer."""
        self.send(method, path, body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        assert head[9:10] == b"2", (head, body)
        answer: dict[str, Any] = json.loads(body)
        return answer


@dataclass
class Load:
    """Decisions at a fixed rate, over as many connections as it takes."""

    address: tuple[str, int]
    idle: list[Connection] = field(default_factory=list[Connection])
    number: int = 0

    async def run(self, *, per_second: float, seconds: float) -> list[float]:
        """Milliseconds from when each was due to its answer."""
        started, count = time.perf_counter(), int(per_second * seconds)
        times: list[float] = []
        tasks: list[asyncio.Task[None]] = []
        for index in range(count):
            due = started + index / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self._one(due, times)))
        await asyncio.gather(*tasks)
        return times

    async def _one(self, due: float, times: list[float]) -> None:
        self.number += 1
        connection = self.idle.pop() if self.idle else await Connection.open(self.address)
        task = {"instructions": f"Fix the failing test number {self.number} in the parser.", "labels": {"repo": "x"}}
        decision = await connection.ask("POST", "/v1/classify", json.dumps(task).encode())
        assert decision["source"] == "local_model", decision
        times.append((time.perf_counter() - due) * 1000)
        self.idle.append(connection)


async def _ask(address: tuple[str, int], method: str, path: str, body: bytes = b"") -> dict[str, Any]:
    connection = await Connection.open(address)
    answer = await connection.ask(method, path, body)
    connection.writer.close()
    return answer


async def _follow(address: tuple[str, int], execution_id: str, late: list[float]) -> None:
    """Notes for each delta how many milliseconds ago the model server sent it."""
    connection = await Connection.open(address)
    connection.send("GET", f"{EXECUTIONS}/{execution_id}/stdout.log?follow=true")
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            line = await connection.reader.readuntil(b"\n")
            if b'"text_delta"' in line:
                sent = json.loads(line)["event"]["delta"]["text"]
                late.append((time.monotonic_ns() - int(sent)) / 1e6)
            elif b'"type":"result"' in line:
                break
    connection.writer.close()


async def _measure(address: tuple[str, int], options: argparse.Namespace) -> dict[str, Any]:
    load = Load(address)
    times: dict[bool, list[list[float]]] = {False: [], True: []}
    late: list[float] = []
    await load.run(per_second=options.rate, seconds=3)
    for number in range(2 * options.rounds):
        busy = number % 4 in (1, 2)  # idle, busy, busy, idle: what drifts hits both alike
        ids: list[str] = []
        followers: list[asyncio.Task[None]] = []
        if busy:
            for _ in range(options.slots):
                ids.append((await _ask(address, "POST", EXECUTIONS, b'{"instructions": "Work."}'))["execution_id"])
                followers.append(asyncio.create_task(_follow(address, ids[-1], late)))
            await asyncio.sleep(0.5)
        found = await load.run(per_second=options.rate, seconds=options.seconds)
        if busy:
            assert (await _ask(address, "GET", "/v1/status"))["executions"]["running"] == options.slots
        for execution_id in ids:
            await _ask(address, "DELETE", f"{EXECUTIONS}/{execution_id}")
        await asyncio.gather(*followers)
        times[busy].append(found)
        p50, p99 = _percentiles(found)
        print(f"round {number + 1:2}  {'busy' if busy else 'idle'}  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms", flush=True)
    return _report(times, late, options)


def _report(times: dict[bool, list[list[float]]], late: list[float], options: argparse.Namespace) -> dict[str, Any]:
    pooled = {busy: [one for found in rounds for one in found] for busy, rounds in times.items()}
    p99 = {busy: statistics.median(_percentiles(found)[1] for found in rounds) for busy, rounds in times.items()}
    late50, late99 = _percentiles(late)
    return {
        "decisions_per_second": options.rate,
        "slots": options.slots,
        "deltas_per_second_and_slot": options.deltas,
        "cores": os.cpu_count(),
        "idle_ms": {
            "p50": _percentiles(pooled[False])[0],
            "p99": p99[False],
            "p99_pooled": _percentiles(pooled[False])[1],
        },
        "busy_ms": {
            "p50": _percentiles(pooled[True])[0],
            "p99": p99[True],
            "p99_pooled": _percentiles(pooled[True])[1],
        },
        "p99_ratio": p99[True] / p99[False],
        "p99_ratio_pooled": _percentiles(pooled[True])[1] / _percentiles(pooled[False])[1],
        "delta_ms": {"n": len(late), "p50": late50, "p99": late99, "max": max(late)},
    }


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


def _stub(deltas_per_second: float) -> None:
    """The model server: runs until its stdin is closed."""

    def choose(request: RecordedRequest) -> Behaviour:
        return _work(1 / deltas_per_second) if request.json.get("stream") else verdict("claude", "claude-opus-4-8")

    with FakeEndpoint() as fake:
        fake.choose(choose)
        print(fake.url, flush=True)
        sys.stdin.read()


def _work(pause: float) -> Behaviour:
    async def endless(exchange: Exchange) -> None:
        while True:
            [_, chunk] = deltas(str(time.monotonic_ns()), finish_reason=None, usage=None)
            piece = events(chunk, done=False)
            await exchange.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await asyncio.sleep(pause)

    return sse(b"", end=endless)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Do executions slow decisions down?")
    parser.add_argument("--rounds", type=int, default=4, help="of each kind")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each round")
    parser.add_argument("--rate", type=float, default=50.0, help="decisions a second")
    parser.add_argument("--slots", type=int, default=2, help="executions at once")
    parser.add_argument("--deltas", type=float, default=50.0, help="a second, of each execution")
    parser.add_argument("--stub", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stub:
        _stub(options.deltas)
        return
    stub = subprocess.Popen(
        [sys.executable, "-m", "tests.load.bench_executions", "--stub", f"--deltas={options.deltas}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert stub.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "HOME": folder,
            "PATH": os.environ["PATH"],
            "POINTSMAN_LOCAL_MODEL__ENDPOINT": stub.stdout.readline().strip(),
            "POINTSMAN_LOCAL_MODEL__MODEL": "stub",
            "POINTSMAN_EXECUTIONS__MAX_CONCURRENCY": str(options.slots),
            "POINTSMAN_STORE__URL": f"sqlite:///{folder}/p.db",
            "POINTSMAN_CLI__PRESET": "",
        }
        with ServiceProcess(environ, Path(folder, "log")) as service:
            host, port = service.url.removeprefix("http://").split(":")
            report = asyncio.run(_measure((host, int(port)), options))
    stub.communicate()
    for name in ("idle", "busy"):
        print(
            f"{name}: p50 {report[f'{name}_ms']['p50']:.2f} ms, p99 {report[f'{name}_ms']['p99']:.2f} ms (median round)"
        )
    print(f"p99 ratio {report['p99_ratio']:.2f}; {report['delta_ms']['n']} deltas seen after")
    print("  p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {max:.2f} ms".format(**report["delta_ms"]))
    print(json.dumps(report))


if __name__ == "__main__":
    _main()
