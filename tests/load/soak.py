"""Mixed requests under mixed faults for a long time: is every answer right and in time, and is memory flat?

    python -m tests.load.soak --seconds 1200

A real service with its database in a file; a model server that answers well in some share of all cases and else shows
any fault; a program behind it that shows any fault too. Many callers at once: plain tasks, batches, tasks with limits,
with attempts, strict ones, hostile texts, bodies that are no JSON, callers that hang up, outcomes, status and metrics.
Every answer is checked against what was asked. Prints one line a minute and one JSON document; exit 0 where nothing is
wrong.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from service.contract.decision import Decision
from tests.data.injections import INJECTIONS
from tests.support.fault_server import FaultServer
from tests.support.faults import mixed_program
from tests.support.http_fixtures import CATALOG
from tests.support.plain_http import Answer, PlainClient
from tests.support.service_process import ServiceProcess

GRACE_MS = 25.0
HEALTHY = (0.95, 0.8, 0.5, 0.9, 0.2)
"""Shares of good answers, in turn: where few are good the breakers rest most of the time, where many are never."""
PAIRS = {("claude", "opus"): 0.8, ("claude", "haiku"): 0.05, ("gemini", "flash"): 0.02, ("local", "fake"): 0.0}
SOURCES = {"local_model", "cli", "forecast", "requested", "only_candidate"}
FIELDS = {field.name for field in msgspec.structs.fields(Decision)} - {"explanation"}


@dataclass(slots=True)
class Tally:
    """What happened."""

    requests: Counter[str] = field(default_factory=Counter[str])
    statuses: Counter[str] = field(default_factory=Counter[str])
    sources: Counter[str] = field(default_factory=Counter[str])
    faults: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])
    late: int = 0
    timed: int = 0
    latest_ms: float = 0.0
    left: int = 0
    memory_mb: list[float] = field(default_factory=list[float])

    def blame(self, what: str, task: object, document: object) -> None:
        """Something is not as it must be."""
        if len(self.wrong) < 50:
            self.wrong.append(f"{what}: {json.dumps(task)[:400]} -> {json.dumps(document)[:600]}")


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def make_task(source: random.Random) -> dict[str, Any]:
    """A task of some kind, hostile in a fifth of all cases, with limits in half of them."""
    text = source.choice(INJECTIONS).text if source.random() < 0.2 else f"Fix bug {source.randrange(200)} in the shop."
    task: dict[str, Any] = {"instructions": text, "deadline_ms": source.choice([150, 300, 600, 1500, 3000])}
    if source.random() < 0.1:
        task["instructions"] += " More of it." * source.randrange(10_000)
    if source.random() < 0.5:
        task["labels"] = {"repo": source.choice("abc"), "kind": source.choice(["bug", "feature"])}
    match source.randrange(8):
        case 0:
            task["require"] = {"max_cost_usd": 0.1}
        case 1:
            task["require"] = {"agent_types": source.sample(["claude", "gemini", "local"], 2)}
        case 2:
            task["require"] = {"local_only": True}
        case 3:
            task["require"] = {"exclude": [{"agent_type": "claude", "model": "opus"}]}
        case 4:
            task["attempts"] = [{"agent_type": "gemini", "model": "flash", "result": "failed"}]
        case 5:
            task["fleet"] = {"claude": {"running": 2, "slots": 2}}
        case _:
            task["objective"] = source.choice(["economy", "balanced", "quality"])
    if source.random() < 0.1:
        task["strict"] = True
    return task


def may_take(task: dict[str, Any], pair: tuple[str, str]) -> bool:
    """Whether the rules let that pair take the task, worked out here a second time."""
    require: dict[str, Any] = task.get("require", {})
    if pair not in PAIRS:
        return False
    if "agent_types" in require and pair[0] not in require["agent_types"]:
        return False
    if require.get("local_only") and pair[0] != "local":
        return False
    if any((e["agent_type"], e["model"]) == pair for e in require.get("exclude", [])):
        return False
    if any((a["agent_type"], a["model"]) == pair for a in task.get("attempts", [])):
        return False
    return not ("fleet" in task and pair[0] == "claude")


def check_decision(task: dict[str, Any], document: dict[str, Any], tally: Tally) -> None:
    """One decision against its task."""
    tally.sources[document["source"]] += 1
    for failure in document["failures"]:
        tally.faults[f"{failure['source']}:{failure['problem']}"] += 1
    steps = [(step["agent_type"], step["model"]) for step in document["plan"]]
    limit = task.get("require", {}).get("max_cost_usd")
    excluded = {(entry["agent_type"], entry["model"]) for entry in document["excluded"]}
    if set(document) != FIELDS:
        tally.blame("fields", task, document)
    if document["source"] not in SOURCES or steps[0] != (document["agent_type"], document["model"]):
        tally.blame("source or plan", task, document)
    if not all(may_take(task, pair) for pair in steps):
        tally.blame("ineligible", task, document)
    if excluded & set(steps) or not excluded <= set(PAIRS):
        tally.blame("excluded", task, document)
    if limit is not None and any(step["cost_usd"] > limit for step in document["plan"]):
        tally.blame("too dear", task, document)
    if document["degraded"] != bool(document["failures"]):
        tally.blame("degraded", task, document)
    reason = document["reason"]
    if not reason or len(reason) > 500 or not reason.isprintable():
        tally.blame("reason", task, document)


def check(task: dict[str, Any], answer: Answer, tally: Tally) -> None:
    """One answer against its task: 200, or for a strict one the documented problem."""
    tally.timed += 1
    past = answer.seconds * 1000 - task["deadline_ms"]
    tally.latest_ms = max(tally.latest_ms, past)
    tally.late += past > GRACE_MS
    tally.statuses[str(answer.status)] += 1
    document = answer.json
    if answer.status == 200:
        check_decision(task, document, tally)
    elif task.get("strict") and answer.status in {502, 504}:
        for failure in document["failures"]:
            tally.faults[f"{failure['source']}:{failure['problem']}"] += 1
    elif answer.status == 503 and document["type"] == "urn:pointsman:overloaded":
        tally.faults["overloaded"] += 1
    else:
        tally.blame(f"status {answer.status}", task, document)


async def _caller(url: str, source: random.Random, until: float, tally: Tally) -> None:
    async with PlainClient(url) as client:
        while time.monotonic() < until:
            await _one(client, source, tally)
            await asyncio.sleep(source.expovariate(20.0))


async def _one(client: PlainClient, source: random.Random, tally: Tally) -> None:
    kind = source.choices(
        ["plain", "batch", "left", "broken", "outcome", "reading"], weights=[76, 4, 8, 4, 4, 4]
    )[0]  # fmt: skip
    tally.requests[kind] += 1
    task = make_task(source)
    if kind == "plain":
        check(task, await client.ask("POST", "/v1/classify", task), tally)
    elif kind == "batch":
        await _batch(client, source, tally)
    elif kind == "left":
        await client.send("POST", "/v1/classify", json.dumps(task).encode())
        await asyncio.sleep(source.random() * 0.2)
        client.close()
        tally.left += 1
    elif kind == "broken":
        body = source.choice([b"", b"{", b"\xff\xfe", b"[" * 5000, b'{"instructions": 5}', b'{"instruction": "x"}'])
        answer = await client.ask("POST", "/v1/classify", body)
        if answer.status != 400:
            tally.blame("broken body", body.decode("latin-1"), answer.status)
    elif kind == "outcome":
        pair = source.choice(list(PAIRS))
        outcome = {"agent_type": pair[0], "model": pair[1], "solved": source.random() < 0.5, "cost_usd": 0.1}
        answer = await client.ask("POST", "/v1/outcomes", outcome)
        if answer.status != 201:
            tally.blame("outcome", outcome, answer.json)
    else:
        path = source.choice(["/v1/status", "/metrics", "/healthz", "/v1/decisions?limit=5", "/v1/catalog"])
        answer = await client.ask("GET", path)
        if answer.status != 200:
            tally.blame("reading", path, answer.status)


async def _batch(client: PlainClient, source: random.Random, tally: Tally) -> None:
    tasks = [make_task(source) for _ in range(source.randrange(1, 30))]
    answer = await client.ask("POST", "/v1/classify/batch", {"tasks": [*tasks, {"instructions": ""}]})
    results = answer.json["results"]
    if answer.status != 200 or len(results) != len(tasks) + 1 or results[-1].get("status") != 400:
        tally.blame("batch", len(tasks), answer.json)
        return
    for task, result in zip(tasks, results, strict=False):
        if "decision_id" in result:
            check_decision(task, result, tally)
        elif result["status"] not in ({502, 503, 504} if task.get("strict") else {503}):
            tally.blame("in a batch", task, result)


async def _watch(pid: int, until: float, tally: Tally, *, every: float) -> None:
    while time.monotonic() < until:
        tally.memory_mb.append(round(resident_mb(pid), 1))
        await asyncio.sleep(every)


async def soak(url: str, pid: int, *, seconds: float, callers: int, seed: int, server: FaultServer) -> Tally:
    """So many callers for so long."""
    tally, until = Tally(), time.monotonic() + seconds
    every = min(60.0, seconds / 10)

    async def report() -> None:
        while time.monotonic() < until:
            await asyncio.sleep(min(every, max(0.0, until - time.monotonic())))
            step = len(tally.memory_mb)
            server.show(f"mixed {step} {HEALTHY[step % len(HEALTHY)]}")  # and forgets what it recorded
            print(
                f"{seconds - (until - time.monotonic()):6.0f} s  {sum(tally.requests.values())} requests, "
                f"late {tally.late}, wrong {len(tally.wrong)}, {resident_mb(pid):.0f} MB",
                flush=True,
            )

    await asyncio.gather(
        *(_caller(url, random.Random(f"{seed}-{number}"), until, tally) for number in range(callers)),
        _watch(pid, until, tally, every=every),
        report(),
    )
    return tally


def descriptors(pid: int) -> int:
    """Open descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def children(pid: int) -> int:
    """Its children, zombies included."""
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def run(*, seconds: float, callers: int, seed: int) -> dict[str, Any]:
    """The whole of it, and what is to be reported."""
    with tempfile.TemporaryDirectory() as name, FaultServer() as server:
        folder = Path(name)
        (folder / "catalog.toml").write_text(CATALOG)
        server.show(f"mixed {seed} {HEALTHY[0]}")
        environ = {
            "HOME": name,
            "PATH": "/usr/bin:/bin",
            "TMPDIR": name,
            "POINTSMAN_CATALOG__PATH": str(folder / "catalog.toml"),
            "POINTSMAN_STORE__URL": f"sqlite:///{folder / 'store.db'}",
            "POINTSMAN_LOCAL_MODEL__ENDPOINT": server.url,
            "POINTSMAN_LOCAL_MODEL__MODEL": "fake",
            "POINTSMAN_CLI__COMMAND": json.dumps(mixed_program(folder)),
            "POINTSMAN_DECISION__CACHE_SECONDS": "5",
            "POINTSMAN_SERVER__LOG_LEVEL": "warning",
        }
        with ServiceProcess(environ, folder / "serve.log") as service:
            pid = service.process.pid
            uvloop.run(soak(service.url, pid, seconds=seconds / 20, callers=callers, seed=seed + 1, server=server))
            start, open_then = resident_mb(pid), descriptors(pid)
            tally = uvloop.run(soak(service.url, pid, seconds=seconds, callers=callers, seed=seed, server=server))
            time.sleep(2.0)  # the last programs are being ended
            end, open_now, left_over = resident_mb(pid), descriptors(pid), children(pid)
            code = service.stop()
            defects = [line for line in service.log_text.splitlines() if '"event":"defect"' in line]
    return {
        "seconds": seconds,
        "callers": callers,
        "requests": dict(tally.requests.most_common()),
        "statuses": dict(tally.statuses.most_common()),
        "sources": dict(tally.sources.most_common()),
        "faults": dict(tally.faults.most_common()),
        "timed": tally.timed,
        "late": tally.late,
        "latest_ms_past_deadline": round(tally.latest_ms, 1),
        "wrong": tally.wrong,
        "memory_mb": {"start": round(start, 1), "end": round(end, 1), "by_minute": tally.memory_mb},
        "descriptors": {"start": open_then, "end": open_now},
        "children_left": left_over,
        "exit_code": code,
        "defects": defects[:5],
    }


def _main() -> None:
    parser = argparse.ArgumentParser(description="Mixed requests under mixed faults for a long time.")
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--callers", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report = run(seconds=arguments.seconds, callers=arguments.callers, seed=arguments.seed)
    print(json.dumps(report, indent=1))
    sys.exit(1 if report["wrong"] or report["defects"] or report["exit_code"] else 0)


if __name__ == "__main__":
    _main()
