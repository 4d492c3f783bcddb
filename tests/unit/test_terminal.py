"""What commands show in a terminal of 80 and of 120 columns: names whole, figures aligned, no colour inside a name."""

import asyncio
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from tests.support.recorded_days import record_days
from tests.support.service_process import POINTSMAN, process_environ

SGR = re.compile(r"\x1b\[[0-9;]*m")
NAMES = {candidate.model for candidate in load_catalog(DEFAULT_CATALOG).candidates}


def recorded_tasks() -> str:
    """Three tasks on which every model of the catalog was tried."""
    lines: list[str] = []
    for number in range(3):
        outcomes = {model: {"solved": number > 0, "cost_usd": 0.5 + len(model) / 50} for model in sorted(NAMES)}
        task = {"id": f"t-{number}", "instructions": f"Fix {number}.", "kind": "issue", "outcomes": outcomes}
        lines.append(json.dumps(task))
    return "\n".join(lines)


def in_terminal(environ: Mapping[str, str], columns: int, *arguments: str) -> str:
    """What a person sees on a terminal so wide, colours and all."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    running = subprocess.Popen(
        [*POINTSMAN, *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**process_environ(environ), "TERM": "xterm-256color"},
        cwd=environ["HOME"],
        start_new_session=True,
    )
    os.close(follower)
    pieces: list[bytes] = []
    try:
        while piece := os.read(leader, 65536):
            pieces.append(piece)
    except OSError:  # Linux says so when the last one has closed the other end
        pass
    os.close(leader)
    assert running.wait(60) == 0, b"".join(pieces)
    return b"".join(pieces).decode().replace("\r\n", "\n")


@pytest.fixture
def recorded(bare_environ: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    """An environment with a store of some days, recorded tasks, and a catalog in which one is cheaper."""
    url = f"sqlite:///{tmp_path / 'days.db'}"
    asyncio.run(record_days(url, 60))
    home = Path(bare_environ["HOME"])
    (home / "tasks.jsonl").write_text(recorded_tasks())
    (home / "new.toml").write_text(DEFAULT_CATALOG.read_text().replace("cost_usd = ", "cost_usd = 1", 3))
    return {**bare_environ, "POINTSMAN_STORE__URL": url, "POINTSMAN_CLI__PRESET": ""}


@pytest.mark.parametrize("columns", [80, 120])
def test_every_command_fits_its_terminal(recorded: Mapping[str, str], columns: int) -> None:
    """No line is longer than the terminal, each name is shown whole, and no colour begins or ends inside one."""
    commands = {
        "classify": ("classify", "Fix the login."),
        "catalog": ("catalog",),
        "evaluate": ("evaluate", "tasks.jsonl", "--policy", "forecast"),
        "report": ("report", "--baseline", "codex/gpt-5.4"),
        "replay": ("replay", "--catalog", "new.toml"),
    }
    for name, arguments in commands.items():
        shown = in_terminal(recorded, columns, *arguments)
        plain = SGR.sub("", shown)
        lines = re.sub(r".*\r", "", plain).splitlines()
        assert max(map(len, lines)) <= columns, (name, max(lines, key=len))
        found = {model for model in NAMES if model in plain}
        assert found, name
        if name in {"catalog", "evaluate"}:
            assert found == NAMES, name
        for model in found:
            assert model in shown, (name, model)  # with the colours in it it is still in one piece


def test_figures_are_aligned(recorded: Mapping[str, str]) -> None:
    """The last figures of a table's rows end in the same column."""
    plain = SGR.sub("", in_terminal(recorded, 80, "report"))
    money = plain[plain.index("where the money went") :].splitlines()[1:]
    ends = {len(line.rstrip()) for line in money if "$" in line}
    assert len(ends) == 1, money


def test_each_classifier_is_told_by_itself(recorded: Mapping[str, str]) -> None:
    """All of them, then one after the other, whose counts add up to those of all."""
    plain = SGR.sub("", in_terminal(recorded, 80, "report"))
    heads = re.findall(r"^(\w+) against forecast", plain, re.MULTILINE)
    assert heads == ["classifier", "local_model", "cli"]
    of_all, *each = (int(n) for n in re.findall(r"^compared +(\d+)", plain, re.MULTILINE))
    assert of_all == sum(each) > min(each) > 0


def test_a_name_beside_a_plot_is_whole(recorded: Mapping[str, str]) -> None:
    """The plot gets what room the names and figures leave: each line of it has a name, figures and a plot."""
    plain = SGR.sub("", in_terminal(recorded, 80, "report"))
    rows = plain[plain.index("0 to 100 %") : plain.index("classifier against forecast")].splitlines()[1:]
    rows = [row for row in rows if row.strip() and not row.startswith("*")]
    assert len(rows) > 5
    assert all(re.search(r"\S +\d+% +\d+% .*[.|o-]{10}", row) for row in rows), rows


def test_a_wide_terminal_names_the_points_of_the_curve(recorded: Mapping[str, str]) -> None:
    """Beside them, where there is room; the legend has all of them."""
    plain = SGR.sub("", in_terminal(recorded, 120, "evaluate", "tasks.jsonl", "--policy", "forecast"))
    picture = [line for line in plain.splitlines() if "% |" in line]
    assert any("always:" in line or "oracle" in line for line in picture)
    assert all(len(line) <= 120 for line in picture)


def test_progress_of_a_replay_is_for_a_terminal(recorded: Mapping[str, str]) -> None:
    """There it counts in one line that is written over; elsewhere nothing is said."""
    shown = in_terminal(recorded, 80, "replay", "--catalog", "new.toml")
    assert re.search(r"\r\x1b\[K\d+ requests decided anew", shown)
    done = subprocess.run(
        [*POINTSMAN, "replay", "--catalog", "new.toml", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=process_environ(recorded),
        cwd=recorded["HOME"],
    )
    assert done.stderr == ""
    assert '"replayed": 60' in done.stdout
    report = subprocess.run(
        [*POINTSMAN, "report", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=process_environ(recorded),
        cwd=recorded["HOME"],
    )
    assert '"decisions": 60' in report.stdout  # nothing was recorded
