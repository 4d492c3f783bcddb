"""For tests of programs: event loops to run on, and a look at what a run left behind."""

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from tests.support.agent_clis import AgentCli, agent_cli

T = TypeVar("T")

RunOn = Callable[[Coroutine[Any, Any, T]], T]

_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

_PATIENCE_SECONDS = 5.0
"""How long an orphan may take until init has reaped it."""


@pytest.fixture(params=sorted(_LOOPS))
def run_on(request: pytest.FixtureRequest) -> Generator[RunOn[Any]]:
    """Runs a coroutine to its end, once on asyncio's own loop and once on uvloop."""
    with asyncio.Runner(loop_factory=_LOOPS[request.param]) as runner:
        yield runner.run


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What there was before. `environ` marks every program that is started with it, however far it runs away."""

    directory: Path
    token: str
    descriptors: frozenset[str]
    children: frozenset[int]

    @property
    def environ(self) -> Mapping[str, str]:
        """An environment for the program under test."""
        return {"PATH": os.environ["PATH"], "TRACE": self.token}

    def processes(self) -> list[str]:
        """Command lines of the living processes with the mark."""
        mark = f"TRACE={self.token}".encode()
        found: list[str] = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (path / "environ").read_bytes().split(b"\0"):
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
        return found

    def check_nothing_left(self) -> None:
        """No process with the mark, no new child (a zombie is one), no new descriptor, no file."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while self.processes() and time.monotonic() < until:
            time.sleep(0.01)
        assert self.processes() == []
        assert children() - self.children == set()
        assert descriptors() - self.descriptors == set()
        assert list(self.directory.iterdir()) == []


@pytest.fixture
def traces(tmp_path: Path) -> Traces:
    """The state before a run, to compare with; `directory` is an empty one for workspaces."""
    directory = tmp_path / "workspaces"
    directory.mkdir()
    return Traces(
        directory=directory,
        token=uuid.uuid4().hex,
        descriptors=frozenset(descriptors()),
        children=frozenset(children()),
    )


def children() -> set[int]:
    """Process ids of this process's children, zombies included."""
    me, found = os.getpid(), set[int]()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat = (path / "stat").read_bytes()
        except OSError:
            continue
        if int(stat[stat.rindex(b")") + 2 :].split()[1]) == me:
            found.add(int(path.name))
    return found


def descriptors() -> set[str]:
    """Open descriptors with what they are; an event loop's own are not counted."""
    found: set[str] = set()
    for path in Path("/proc/self/fd").iterdir():
        try:
            target = str(path.readlink())
        except OSError:
            continue
        if target.startswith("pipe:") or "pidfd" in target:
            found.add(f"{path.name} {target}")
    return found


@pytest.fixture(scope="session")
def claude_cli() -> AgentCli:
    """The real `claude` program; skips with a reason where it cannot be had."""
    return agent_cli("claude")


@pytest.fixture(scope="session")
def gemini_cli() -> AgentCli:
    """The real `gemini` program; skips with a reason where it cannot be had."""
    return agent_cli("gemini")
