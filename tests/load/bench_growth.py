"""(f) How the cost of a decision grows with the work: length, catalog, batch, concurrency, decision log.

    python -m tests.load.bench_growth [length|catalog|batch|concurrency|log ...] [--short] [--rounds N]

The classifier is stubbed where a decision is asked for one by one, so that what grows is the service's own work. Each
point is measured once a round, the points in turn; processor time is that of the server's process.
"""

import sqlite3
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import msgspec

from tests.load.servers import Server
from tests.load.support import Bodies, Load, Report, alternating, arguments, parsed, pin, task_body

SECONDS = 1.0
ROW = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
INSERT INTO decisions (decision_id, decided_at, task_id, agent_type, model, source, degraded, body, explanation)
SELECT printf('%08x-%04x-7000-8000-%012x', (?1 + i * 1000) >> 16, (?1 + i * 1000) & 65535, i),
       '2026-01-01T00:00:00.000000Z', 'old-' || i, 'claude', 'claude-opus-4-8', 'forecast', 0,
       '{"name":"","labels":{},"decision":{}}', '{}' FROM n
"""
"""Old decisions, one a second; the first half of an id is its time in milliseconds."""


class Growth:
    """Servers and measurements of one run."""

    def __init__(self, report: Report, rounds: int, folder: Path, *, short: bool) -> None:
        self._report = report
        self._rounds = rounds
        self._folder = folder
        self._short = short
        self._found: dict[tuple[str, str, int], list[float]] = {}

    def length(self) -> None:
        """Task length in characters."""
        points = (100, 1000, 10_000, 200_000) if not self._short else (100, 10_000)
        for kind in ("stub", "forecast", "bare"):
            with Server(kind, self._folder) as server:
                bodies: dict[str, Bodies] = {str(n): _of_length(n) for n in points}
                self._compare(f"length, {kind}", bodies, dict.fromkeys(bodies, server))

    def catalog(self) -> None:
        """Candidates in the catalog; the tasks differ in what they are worth, so that no plan is found twice."""
        points = (2, 9, 14, 30, 50) if not self._short else (2, 14)
        with ExitStack() as stack:
            servers: dict[str, Server] = {}
            for count in points:
                folder = self._folder / f"catalog-{count}"
                folder.mkdir()
                file = folder / "catalog.toml"
                file.write_text(_catalog(count))
                servers[str(count)] = stack.enter_context(Server("stub", folder, catalog=str(file)))
            self._compare("catalog", dict.fromkeys(servers, _of_any_value), servers)

    def batch(self) -> None:
        """Tasks in one batch; the figures are for one task of it."""
        points = (1, 10, 100) if not self._short else (1, 10)
        for kind in ("forecast", "bare"):
            with Server(kind, self._folder) as server:
                bodies: dict[str, Bodies] = {str(n): _batch_of(n) for n in points}
                self._compare(f"batch, {kind}", bodies, dict.fromkeys(bodies, server), path="/v1/classify/batch")

    def concurrency(self) -> None:
        """Connections that each wait for their answer before they ask again."""
        points = (1, 4, 16, 64, 256) if not self._short else (1, 16)
        with Server("stub", self._folder) as server:
            load = Load(server.url)
            for n, point in alternating(self._rounds, [str(point) for point in points]):
                before = server.cpu_seconds
                sample = load.closed_loop(task_body, connections=int(point), seconds=SECONDS)
                if n == 0 and sample.failed:
                    raise SystemExit(f"{sample.failed} requests failed with {point} connections")
                spent = (server.cpu_seconds - before) / len(sample.milliseconds) * 1e6
                self._keep("concurrency", point, spent, sample.quantile(0.5), sample.quantile(0.99))
        self._tell("concurrency", points)

    def log(self) -> None:
        """Decisions in the log: deciding, and reading the newest hundred and those of one task."""
        points = (0, 10_000, 100_000, 1_000_000) if not self._short else (0, 10_000)
        with ExitStack() as stack:
            servers: dict[str, Server] = {}
            for count in points:
                folder = self._folder / f"log-{count}"
                folder.mkdir()
                with Server("forecast", folder):
                    pass  # it makes the tables
                _fill(folder / "forecast.db", count)
                servers[str(count)] = stack.enter_context(Server("forecast", folder))
            self._compare("log", dict.fromkeys(servers, task_body), servers)
            client = stack.enter_context(httpx.Client(trust_env=False))
            for query in ("limit=100", "task_id=t-1"):
                for _, point in alternating(self._rounds, list(servers)):
                    begun = time.perf_counter()
                    client.get(f"{servers[point].url}/v1/decisions?{query}").raise_for_status()
                    taken = (time.perf_counter() - begun) * 1000
                    self._keep(f"log, {query}", point, taken)
                told = "  ".join(f"{point}: {self._spread(f'log, {query}', point, 0)}" for point in servers)
                self._report.say(f"  GET /v1/decisions?{query}, ms   {told}")

    def _compare(
        self, name: str, bodies: dict[str, Bodies], servers: Mapping[str, Server], path: str = "/v1/classify"
    ) -> None:
        loads = {point: Load(servers[point].url, path) for point in bodies}
        for point, load in loads.items():
            load.closed_loop(bodies[point], connections=1, seconds=0.3)
        for _, point in alternating(self._rounds, list(bodies)):
            server = servers[point]
            before = server.cpu_seconds
            sample = loads[point].closed_loop(bodies[point], connections=1, seconds=SECONDS)
            if sample.failed:
                raise SystemExit(f"{name}, {point}: {sample.failed} requests failed")
            share = int(point) if name.startswith("batch") else 1
            spent = (server.cpu_seconds - before) / len(sample.milliseconds) * 1e6 / share
            self._keep(name, point, spent, sample.quantile(0.5) / share, sample.quantile(0.99) / share)
        for load in loads.values():
            load.close()
        self._tell(name, list(bodies))

    def _keep(self, name: str, point: str, *values: float) -> None:
        for index, value in enumerate(values):
            self._found.setdefault((name, point, index), []).append(value)

    def _spread(self, name: str, point: str, index: int) -> str:
        unit = ("µs" if "limit" not in name and "task_id" not in name else "ms", "p50 ms", "p99 ms")[index]
        return str(self._report.figure(f"{name}, {point}, {unit}", self._found[name, point, index]))

    def _tell(self, name: str, points: Sequence[object]) -> None:
        self._report.say(f"{name:24} processor time, µs            p50, ms                        p99, ms")
        for point in map(str, points):
            columns = [self._spread(name, point, index) for index in range(3)]
            self._report.say(f"  {point:>12}  " + "".join(f"{column:>30}" for column in columns))
        first, last = (self._found[name, str(point), 0] for point in (points[0], points[-1]))
        self._report.ratio(f"{name}, {points[-1]}/{points[0]}", [b / a for a, b in zip(first, last, strict=True)])


def _of_length(characters: int) -> Bodies:
    return lambda number: task_body(number, characters=characters)


def _of_any_value(number: int) -> bytes:
    return task_body(number)[:-1] + f', "value_usd": {1 + number % 1009 / 100}}}'.encode()


def _batch_of(count: int) -> Bodies:
    def body(number: int) -> bytes:
        tasks = [msgspec.Raw(task_body(number * count + i, characters=300)) for i in range(count)]
        return msgspec.json.encode({"tasks": tasks})

    return body


def _catalog(count: int) -> str:
    models = (
        f'[[agent.model]]\nid = "m{i}"\ndescription = "Model number {i}."\nsolve_rate = {0.2 + 0.6 * i / count:.3f}\n'
        f"cost_usd = {0.01 * 1.15**i:.4f}\n"
        for i in range(count)
    )
    return '[[agent]]\ntype = "any"\ndescription = "Any."\n' + "".join(models)


def _fill(file: Path, count: int) -> None:
    if not count:
        return
    with sqlite3.connect(file) as database:
        database.execute(ROW, (int(time.time() * 1000) - 1000 * count - 3_600_000, count))
    database.close()


PARTS = ("length", "catalog", "batch", "concurrency", "log")


def main() -> None:
    """The command."""
    parser = arguments(__doc__ or "", rounds=5, short_rounds=3)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    given = parsed(parser)
    pin(1)
    report = Report("growth", given)
    for part in given.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            getattr(Growth(report, given.rounds, Path(folder), short=given.short), part)()
    report.end()


if __name__ == "__main__":
    main()
