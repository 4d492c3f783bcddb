"""(b) Requests a second, the service against a bare Litestar endpoint with the same bodies.

    python -m tests.load.bench_throughput [--short] [--rounds N]

Closed loop, 1 and 32 connections, each server on one core and the generator on another. The ratio by processor time
(requests for each second that the server's core worked) is the steadier one where others use the machine too.
"""

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.load.servers import KINDS, Server
from tests.load.support import Load, Report, alternating, arguments, parsed, pin, task_body

CONNECTIONS = (1, 32)


def main() -> None:
    """The command."""
    given = parsed(arguments(__doc__ or ""))
    seconds = 1.0 if given.short else 3.0
    report = Report("throughput", given)
    pin(1)
    rates: dict[tuple[str, int], list[float]] = {}
    by_cpu: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {kind: stack.enter_context(Server(kind, Path(folder))) for kind in KINDS}
        loads = {kind: Load(server.url) for kind, server in servers.items()}
        for kind in KINDS:
            loads[kind].closed_loop(task_body, connections=32, seconds=1.0)
        for connections in CONNECTIONS:
            for _, kind in alternating(given.rounds, KINDS):
                before = servers[kind].cpu_seconds
                sample = loads[kind].closed_loop(task_body, connections=connections, seconds=seconds)
                if sample.failed:
                    raise SystemExit(f"{sample.failed} requests to {kind} failed")
                spent = servers[kind].cpu_seconds - before
                rates.setdefault((kind, connections), []).append(sample.per_second)
                by_cpu.setdefault((kind, connections), []).append(len(sample.milliseconds) / spent)
    report.say("requests a second: median (lowest to highest of the rounds)")
    report.say("                                       by the clock            for a second of the server's core")
    for connections in CONNECTIONS:
        for kind in KINDS:
            name = f"{kind}, {connections} connections"
            clock = report.figure(f"{name}, per second", rates[kind, connections])
            core = report.figure(f"{name}, per core second", by_cpu[kind, connections])
            report.say(f"  {name:28} {clock!s:>32} {core!s:>32}")
    report.say(f"  a decision's own cost beyond the bare endpoint: {_own(by_cpu):.0f} µs of processor time")
    for connections in CONNECTIONS:
        for kind in KINDS[1:]:
            for what, values in (("clock", rates), ("core", by_cpu)):
                pairs = zip(values[kind, connections], values["bare", connections], strict=True)
                report.ratio(f"{kind}/bare, {connections} connections, {what}", [a / b for a, b in pairs])
    report.end()


def _own(by_cpu: dict[tuple[str, int], list[float]]) -> float:
    stub, bare = (statistics.median(by_cpu[kind, 32]) for kind in ("stub", "bare"))
    return 1e6 / stub - 1e6 / bare


if __name__ == "__main__":
    main()
