"""Without a home there is no place for a database, and what is acknowledged must not be lost."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.service_process import POINTSMAN, ROOT, Ended

OUTCOME = {"agent_type": "claude", "model": "claude-opus-4-8", "solved": True}


@pytest.fixture
def homeless(bare_environ: Mapping[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment with neither HOME nor XDG_STATE_HOME, and no word of a database."""
    kept = {name: value for name, value in bare_environ.items() if name != "HOME"}
    return {**kept, "PYTHONPATH": str(ROOT), "POINTSMAN_CLI__PRESET": "", "TMPDIR": str(tmp_path)}


def ran(environ: Mapping[str, str], cwd: Path, *arguments: str, stdin: str = "") -> Ended:
    """One command in this very environment."""
    done = subprocess.run(
        [*POINTSMAN, *arguments],
        env=dict(environ),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(code=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("serve", "--port", "0"), id="serve"),
        pytest.param(("outcomes", "import", "-"), id="import"),
        pytest.param(("outcomes", "export"), id="export"),
    ],
)
@pytest.mark.parametrize("empty", [False, True], ids=["absent", "empty"])
def test_what_records_needs_a_place(
    homeless: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], *, empty: bool
) -> None:
    """It ends with 2 and names `store.url`, rather than to acknowledge what is gone after a restart."""
    environ = {**homeless, "HOME": "", "XDG_STATE_HOME": ""} if empty else homeless
    ended = ran(environ, tmp_path, *arguments, stdin=json.dumps(OUTCOME))
    assert (ended.code, ended.stdout) == (2, "")
    assert "store.url" in ended.stderr
    assert "POINTSMAN_STORE__URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_memory_that_was_asked_for_is_taken(homeless: dict[str, str], tmp_path: Path) -> None:
    """`sqlite://` says that nothing need be kept."""
    environ = {**homeless, "POINTSMAN_STORE__URL": "sqlite://"}
    ended = ran(environ, tmp_path, "outcomes", "import", "-", stdin=json.dumps(OUTCOME))
    assert (ended.code, ended.stderr) == (0, "")


def test_a_decision_needs_no_place(homeless: dict[str, str], tmp_path: Path) -> None:
    """`classify` goes on, and `check` says what `serve` would need."""
    ended = ran(homeless, tmp_path, "classify", "Fix the login", "--json")
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.document["source"] == "forecast"
    checked = ran(homeless, tmp_path, "check", "--json")
    (store,) = [finding for finding in checked.document["findings"] if finding["subject"] == "store"]
    assert store["state"] == "warning"
    assert "store.url" in store["says"]


def test_a_state_folder_takes_the_place_of_a_home(homeless: dict[str, str], tmp_path: Path) -> None:
    """XDG_STATE_HOME alone is enough, and the next command finds what the first recorded."""
    environ = {**homeless, "XDG_STATE_HOME": str(tmp_path / "state")}
    assert ran(environ, tmp_path, "outcomes", "import", "-", stdin=json.dumps(OUTCOME)).code == 0
    assert json.loads(ran(environ, tmp_path, "outcomes", "export").stdout)["model"] == "claude-opus-4-8"
    assert (tmp_path / "state" / "pointsman" / "pointsman.db").is_file()
