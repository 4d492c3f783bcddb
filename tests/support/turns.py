"""Two test processes at once (pytest-xdist), and tests that run alone: while one of those runs, the other waits.

They are the ones that are marked `alone`, because they measure so closely that work beside them shows, and those that
start real servers and processes, which have deadlines of their own.

Ordinary tests share one lock and those that are alone have it for themselves. Whoever wants it passes a gate first, so
that one who waits to be alone is not overtaken by all the others.
"""

import fcntl
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

_FOLDERS_ALONE = frozenset({"integration", "browser"})

_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
_TURNS = pytest.StashKey["Turns"]()


class Turns:
    """The two locks, in a folder that all processes of one run know."""

    def __init__(self, folder: Path) -> None:
        self._gate = (folder / "gate").open("ab")
        self._room = (folder / "room").open("ab")

    @contextmanager
    def taken(self, *, alone: bool) -> Generator[None]:
        """For the length of one test."""
        with _locked(self._gate, fcntl.LOCK_EX):
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Gives up what it holds."""
        self._gate.close()
        self._room.close()


@contextmanager
def _locked(file: IO[bytes], how: int) -> Generator[None]:
    fcntl.flock(file, how)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def pytest_configure(config: pytest.Config) -> None:
    """In a worker: the folder that the first process made."""
    config.addinivalue_line("markers", "alone: measures so closely that no other test may run beside it")
    given: dict[str, Any] = getattr(config, "workerinput", {})
    if "turns" in given:
        config.stash[_TURNS] = Turns(Path(given["turns"]))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - xdist has no types
    """In the first process, for each worker: makes the folder, and tells where it is."""
    stash: pytest.Stash = node.config.stash
    if _FOLDER not in stash:
        stash[_FOLDER] = tempfile.TemporaryDirectory(prefix="pointsman-turns-")
    node.workerinput["turns"] = stash[_FOLDER].name


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves nothing behind."""
    if _TURNS in config.stash:
        config.stash[_TURNS].close()
    if _FOLDER in config.stash:
        config.stash[_FOLDER].cleanup()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Waits for its turn; around everything, so that waiting does not count against the time-out of the test."""
    turns = item.config.stash.get(_TURNS, None)
    if turns is None:
        return (yield)
    alone = item.get_closest_marker("alone") is not None or _FOLDERS_ALONE.intersection(item.path.parts)
    with turns.taken(alone=bool(alone)):
        return (yield)
