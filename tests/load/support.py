"""What the benchmarks share: a load generator, medians with their spread, and one way to report.

The generator runs in the benchmark's own process, on a core of its own where there are two, over raw sockets, so that
it costs little beside what it measures. Open loop: requests leave at fixed moments whether earlier ones were answered
or not, and each latency counts from the moment it was due (no coordinated omission).
"""

import argparse
import json
import os
import platform
import select
import socket
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

BASELINE = Path(__file__).with_name("baseline.json")
"""Ratios of the last release, by benchmark; each run prints its own beside them, and with `--keep` replaces them."""

TEXT = (
    "The login page answers 500 when the user name has a plus sign in it. Find the cause, fix it, and add a test that "
    "fails without the fix. The form posts to accounts/views.py; the trace ends in urllib's quote. "
)

Bodies = Callable[[int], bytes]
"""The body of the n-th request."""


def task_body(number: int, *, characters: int = 1200) -> bytes:
    """A usual request, unlike every other one, so that no answer is taken from a cache; some 1.4 KB by default."""
    text = (TEXT * (characters // len(TEXT) + 1))[: max(0, characters - 12)] + f" {number:010d}."
    task = {"name": "Login fails", "task_id": f"t-{number}", "labels": {"repo": "shop", "team": "web"}}
    return json.dumps({**task, "instructions": text}).encode()


@dataclass(slots=True)
class Sample:
    """One stretch of load: milliseconds each request took, how late each one left, and what was not a 200."""

    milliseconds: list[float] = field(default_factory=list[float])
    late: list[float] = field(default_factory=list[float])
    failed: int = 0
    seconds: float = 0.0

    def quantile(self, share: float) -> float:
        """The latency in milliseconds that this share of the requests keeps within."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def per_second(self) -> float:
        """Requests answered in a second."""
        return len(self.milliseconds) / self.seconds


class _Connection:
    """One kept-alive connection; `due` is when its request was to leave, None while it is free."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._got = b""

    def fileno(self) -> int:
        """For select."""
        return self.socket.fileno()

    def receive(self) -> int | None:
        """Reads what is there; the status once the answer is complete."""
        piece = self.socket.recv(1 << 20)
        if not piece:
            raise ConnectionError("the server closed the connection")
        self._got += piece
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return None
        self._got = b""
        return int(head[9:12])


class Load:
    """Sends POSTs to one path of one server. A context manager is not needed: `close` ends its connections."""

    def __init__(self, url: str, path: str = "/v1/classify") -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: "
        self._connections: list[_Connection] = []
        self._number = 0

    def open_loop(self, bodies: Bodies, *, rate: float, seconds: float, connections: int = 64) -> Sample:
        """`rate` requests a second, evenly spaced, whatever becomes of them."""
        total = int(rate * seconds)
        free, busy = deque(self._open(connections)), set[_Connection]()
        waiting: deque[float] = deque()
        sample, sent, begun = Sample(), 0, time.perf_counter() + 0.01
        while len(sample.milliseconds) < total:
            now = time.perf_counter()
            while sent < total and begun + sent / rate <= now:
                waiting.append(begun + sent / rate)
                sent += 1
            while waiting and free:
                connection = free.popleft()
                connection.due = waiting.popleft()
                sample.late.append((time.perf_counter() - connection.due) * 1000)
                self._send(connection, bodies)
                busy.add(connection)
            pause = begun + sent / rate - time.perf_counter() if sent < total else 5.0
            # select and not epoll: its timeout is in microseconds
            for connection in select.select(busy, (), (), max(0.0, pause))[0]:
                if self._finished(connection, sample):
                    busy.discard(connection)
                    free.append(connection)
        sample.seconds = time.perf_counter() - begun
        return sample

    def closed_loop(self, bodies: Bodies, *, connections: int, seconds: float) -> Sample:
        """As fast as it goes: each connection sends its next request once the last one is answered."""
        busy = set(self._open(connections))
        sample, begun = Sample(), time.perf_counter()
        end = begun + seconds
        for connection in busy:
            connection.due = time.perf_counter()
            self._send(connection, bodies)
        while busy:
            for connection in select.select(busy, (), (), 60.0)[0]:
                if not self._finished(connection, sample):
                    continue
                connection.due = time.perf_counter()
                if connection.due < end:
                    self._send(connection, bodies)
                else:
                    busy.discard(connection)
        sample.seconds = time.perf_counter() - begun
        return sample

    def close(self) -> None:
        """Closes the connections."""
        for connection in self._connections:
            connection.socket.close()
        self._connections.clear()

    def _open(self, count: int) -> list[_Connection]:
        """Fresh ones for each stretch: the server closes those that were idle while others were measured."""
        self.close()
        self._connections = [_Connection(self._host, self._port) for _ in range(count)]
        time.sleep(0.1)  # the server takes one in each turn of its loop, and turns are long once it has work
        return self._connections

    def _send(self, connection: _Connection, bodies: Bodies) -> None:
        body = bodies(self._number)
        self._number += 1
        connection.socket.sendall(f"{self._head}{len(body)}\r\n\r\n".encode() + body)

    def _finished(self, connection: _Connection, sample: Sample) -> bool:
        status = connection.receive()
        if status is None:
            return False
        sample.milliseconds.append((time.perf_counter() - connection.due) * 1000)
        sample.failed += status != 200
        return True


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The median, and the lowest and highest of the rounds."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        """`median (low to high)`."""
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


class Report:
    """One benchmark's table and its JSON line, with the ratios of the last release beside its own."""

    def __init__(self, name: str, given: argparse.Namespace) -> None:
        self._name = name
        self._short: bool = given.short
        self._keep: bool = given.keep
        self._figures: dict[str, float] = {}
        self._spreads: dict[str, tuple[float, float]] = {}
        self._ratios: dict[str, float] = {}

    def say(self, line: str = "") -> None:
        """A line of the table."""
        print(line, flush=True)

    def figure(self, name: str, values: Sequence[float] | float) -> Spread:
        """Keeps a figure of this machine."""
        spread = Spread.of([values] if isinstance(values, (int, float)) else values)
        self._figures[name] = round(spread.median, 4)
        self._spreads[name] = (round(spread.low, 4), round(spread.high, 4))
        return spread

    def ratio(self, name: str, values: Sequence[float] | float) -> Spread:
        """Keeps a figure that another machine should find too."""
        spread = self.figure(name, values)
        self._ratios[name] = round(spread.median, 4)
        return spread

    def end(self) -> None:
        """Prints the comparison with the last release, then the JSON line."""
        kept: dict[str, dict[str, float]] = json.loads(BASELINE.read_text()) if BASELINE.is_file() else {}
        before = kept.get(self._name, {})
        if self._keep and self._ratios:
            kept[self._name] = self._ratios
            BASELINE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
        if self._ratios:
            self.say("\nratios" + " " * 46 + "now   last release")
            for name, value in self._ratios.items():
                self.say(f"  {name:48} {value:7.3f}   {before.get(name, float('nan')):7.3f}")
        line = {
            "benchmark": self._name,
            "short": self._short,
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "figures": self._figures,
            "spread": self._spreads,
            "ratios": self._ratios,
        }
        self.say(json.dumps(line))


def arguments(about: str, *, rounds: int = 7, short_rounds: int = 3) -> argparse.ArgumentParser:
    """`--short`, `--keep` and `--rounds`, which every benchmark has; read them with `parsed`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="less of everything: for CI")
    parser.add_argument("--keep", action="store_true", help="keep the ratios as those of the last release")
    parser.add_argument("--rounds", type=int, help=f"default {rounds}, with --short {short_rounds}")
    parser.set_defaults(usual=rounds, few=short_rounds)
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, with the number of rounds settled."""
    given = parser.parse_args()
    given.rounds = given.rounds or (given.few if given.short else given.usual)
    return given


def alternating(rounds: int, kinds: Sequence[str]) -> list[tuple[int, str]]:
    """Which kind is measured when: in turn, every other round in the reverse order."""
    return [(n, kind) for n in range(rounds) for kind in (kinds if n % 2 == 0 else tuple(reversed(kinds)))]


def pin(cpu: int) -> None:
    """Keeps this process on one core, where the system can; so that server and generator do not share one."""
    if sys.platform == "linux" and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {cpu})


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its living threads so far, to the nanosecond where Linux tells it."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_mb(pid: int) -> float:
    """Resident memory in MB (2²⁰ bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
