"""Registers the fixtures that several test files share: every `tests/support/*_fixtures.py`."""

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

# No time limit for one example: machines are noisy. In CI the same examples each time, so that what fails there fails
# for what was changed; new ones are looked for at a desk.
settings.register_profile("pointsman", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("pointsman")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it runs in the background like that, and every program started here would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_FIXTURES = (Path(__file__).parent / "support").glob("*_fixtures.py")

pytest_plugins = ["tests.support.turns", *(f"tests.support.{file.stem}" for file in sorted(_FIXTURES))]


@pytest.fixture
def bare_environ(tmp_path: Path) -> Mapping[str, str]:
    """An environment with a home of its own and nothing of the developer's: no settings, no logins, no agent CLI."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
    return {**kept, "HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "error"}


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """What a command under test does to logging in this process ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
