"""(a) What a decision adds to the time of an answer: the service with its classifier stubbed, against a bare endpoint.

    python -m tests.load.bench_latency [--short] [--rounds N]

Open loop at fixed rates, latency from the moment a request was due. The differences are taken round by round, the two
servers in turn. The second table says what logging and metrics have of it, in-process.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from service.contract.catalog_file import DEFAULT_CATALOG
from service.contract.task import Task
from service.decide.pipeline import Pipeline
from service.logs.lines import configure_logging
from tests.load.servers import Server, service_app
from tests.load.support import Load, Report, Sample, Spread, alternating, arguments, parsed, pin, task_body

RATES = (50, 200, 400)
KINDS = ("bare", "stub", "forecast")
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def main() -> None:
    """The command."""
    given = parsed(arguments(__doc__ or "", rounds=5))
    report = Report("latency", given)
    over_http(report, given.rounds, seconds=2.0 if given.short else 10.0, rates=RATES[1:2] if given.short else RATES)
    parts(report, given.rounds)
    report.end()


def over_http(report: Report, rounds: int, *, seconds: float, rates: tuple[int, ...]) -> None:
    """Latency at each rate, and the difference to the bare endpoint."""
    pin(1)
    found: dict[tuple[int, str], list[Sample]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {kind: stack.enter_context(Server(kind, Path(folder))) for kind in KINDS}
        loads = {kind: Load(server.url) for kind, server in servers.items()}
        for load in loads.values():
            load.open_loop(task_body, rate=200, seconds=2.0)
        for rate in rates:
            for _, kind in alternating(rounds, KINDS):
                sample = loads[kind].open_loop(task_body, rate=rate, seconds=seconds)
                if sample.failed:
                    raise SystemExit(f"{sample.failed} requests to {kind} failed")
                found.setdefault((rate, kind), []).append(sample)
    report.say("milliseconds from when a request was due: median of the rounds (lowest to highest)")
    for rate in rates:
        for kind in KINDS:
            samples = found[rate, kind]
            columns = [
                report.figure(f"{kind}, {rate}/s, {name}", [sample.quantile(share) for sample in samples])
                for name, share in SHARES.items()
            ]
            late = statistics.median(statistics.median(sample.late) for sample in samples)
            told = "".join(f"{name} {column!s:24}" for name, column in zip(SHARES, columns, strict=True))
            report.say(f"  {rate:4}/s {kind:9} {told} (generator late by {late:.3f})")
        for kind in KINDS[1:]:
            added = {name: _added(found[rate, kind], found[rate, "bare"], share) for name, share in SHARES.items()}
            for name, values in added.items():
                report.figure(f"added by {kind}, {rate}/s, {name}", values)
            told = "".join(f"{name} {Spread.of(values)!s:24}" for name, values in added.items())
            report.say(f"  {rate:4}/s {kind + ' −':9} {told}")


def _added(service: list[Sample], bare: list[Sample], share: float) -> list[float]:
    return [a.quantile(share) - b.quantile(share) for a, b in zip(service, bare, strict=True)]


def parts(report: Report, rounds: int) -> None:
    """Microseconds of processor time of one decision in-process: all, without its log line, without any record."""
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - this process logs there until its end
    configure_logging("info")
    tasks = [msgspec.json.decode(task_body(n), type=Task) for n in range(300)]

    async def measure() -> dict[str, list[float]]:
        app = service_app("stub", store="sqlite://", catalog=str(DEFAULT_CATALOG))
        async with app.lifespan():
            pipeline: Pipeline = app.state.core.pipeline
            everything = pipeline.observers
            kinds = {
                "all": everything,
                "without its log line": everything[:-1],
                "without log, metrics and record": (),
            }
            spent: dict[str, list[float]] = {}
            for _, kind in alternating(max(rounds, 5), tuple(kinds)):
                pipeline.observers = kinds[kind]
                begun = time.thread_time()
                for task in tasks:
                    await pipeline.decide(task)
                spent.setdefault(kind, []).append((time.thread_time() - begun) / len(tasks) * 1e6)
                pipeline.classifiers._recent._kept.clear()
                await asyncio.sleep(0.3)  # the store writes what it holds
            return spent

    spent = asyncio.run(measure())
    report.say("\nmicroseconds of one decision in-process, classifier stubbed")
    for kind, values in spent.items():
        report.say(f"  {kind:34} {report.figure(f'decision, {kind}, µs', values)}")
    without = zip(spent["all"], spent["without log, metrics and record"], strict=True)
    report.ratio("log, metrics and record, share of a decision", [1 - less / all_ for all_, less in without])


if __name__ == "__main__":
    main()
