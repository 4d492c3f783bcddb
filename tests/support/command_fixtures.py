"""The command line in-process: one command, its exit code and what it printed."""

import logging
import os
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner

from service.cli import pointsman
from tests.support.service_process import Ended

Command = Callable[..., Ended]
"""`command("classify", "Fix it", stdin=…, POINTSMAN_CLI__PRESET=…)`."""


@pytest.fixture
def command(
    tmp_path: Path, bare_environ: Mapping[str, str], catalog_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[Command]:
    """Runs commands with the catalog of three candidates, a database in memory and no classifier."""
    monkeypatch.chdir(tmp_path)  # where no pointsman.toml lies
    runner = CliRunner()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    # A variable that is none of a test's (POINTSMAN_DATA, say) fits no setting, and would be refused.
    foreign = {name: None for name in os.environ if name.startswith("POINTSMAN_")}
    defaults = {
        **foreign,
        **bare_environ,
        "POINTSMAN_STORE__URL": "sqlite://",
        "POINTSMAN_CLI__PRESET": "",
        "POINTSMAN_CATALOG__PATH": str(catalog_file),
    }

    def run(*arguments: str, stdin: str | bytes = "", **environ: str) -> Ended:
        result = runner.invoke(pointsman, arguments, input=stdin, env={**defaults, **environ})
        if result.exception is not None and not isinstance(result.exception, SystemExit | click.exceptions.Exit):
            raise result.exception
        return Ended(code=result.exit_code, stdout=result.stdout, stderr=result.stderr)

    yield run
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
