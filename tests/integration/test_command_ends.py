"""How commands end where what they are given, or where they print, is not as it should be; as real processes."""

import json
import os
import pty
import re
import struct
import subprocess
from collections.abc import Mapping
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest

from tests.support.service_process import POINTSMAN, pointsman, process_environ

TASK = '{"id": "a", "instructions": "x", "outcomes": {"gpt-5.4": {"solved": true, "cost_usd": 1}}}\n'
PRINTING = [
    pytest.param(("classify", "Fix it"), id="classify"),
    pytest.param(("classify", "Fix it", "--json"), id="classify-json"),
    pytest.param(("catalog",), id="catalog"),
    pytest.param(("check",), id="check"),
    pytest.param(("serve", "--port", "0"), id="serve"),
    pytest.param(("--help",), id="help"),
    pytest.param(("outcomes", "import", "-"), id="import"),
]


@pytest.fixture
def environ(bare_environ: Mapping[str, str]) -> dict[str, str]:
    """No classifier, and a database in memory."""
    return {**bare_environ, "POINTSMAN_CLI__PRESET": ""}


def in_shell(
    environ: Mapping[str, str], arguments: tuple[str, ...], redirected: str
) -> subprocess.CompletedProcess[str]:
    """Run by a shell, which can close a stream."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirected}', "sh", *POINTSMAN, *arguments],
        env=process_environ(environ),
        cwd=environ["HOME"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("redirected", [">&-", ">/dev/full"])
@pytest.mark.parametrize("arguments", PRINTING)
def test_stdout_that_takes_nothing(environ: dict[str, str], arguments: tuple[str, ...], redirected: str) -> None:
    """Closed or full: one line says so, and the exit code is 1; no traceback, and no success that nobody saw."""
    ended = in_shell(environ, arguments, redirected)
    assert ended.returncode == 1, ended.stderr
    assert re.fullmatch(r"stdout cannot be written: .+\n", ended.stderr)


def test_a_reader_that_leaves_is_no_mishap(environ: dict[str, str]) -> None:
    """`| head` ends it without a word."""
    ended = in_shell(environ, ("catalog", "--json"), "| head -c 1")
    assert (ended.stdout, ended.stderr) == ("{", "")


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", "2>&- <&-"])
def test_stderr_that_takes_nothing(environ: dict[str, str], tmp_path: Path, redirected: str) -> None:
    """Nothing that is meant for it ends up in the database, which else would be the next file to be opened."""
    database = tmp_path / "store.db"
    environ["POINTSMAN_STORE__URL"] = f"sqlite:///{database}"
    for arguments in (("classify", "Fix it", "--json"), ("classify", "x", "--file", "nope")):
        in_shell(environ, arguments, redirected)
    answer = in_shell(environ, ("classify", "Fix it", "--json"), redirected)
    assert json.loads(answer.stdout)["source"] == "forecast"
    assert database.read_bytes().startswith(b"SQLite format 3\0")


def test_stdin_that_is_closed(environ: dict[str, str]) -> None:
    """`-` cannot be read then, which is wrong usage."""
    for arguments in (("classify", "-"), ("classify", "--request", "-"), ("outcomes", "import", "-")):
        ended = in_shell(environ, arguments, "<&-")
        assert ended.returncode == 2
        assert "stdin: cannot be read: it is closed" in ended.stderr


@pytest.mark.parametrize("path", ["nope", "folder", "nope/nope"])
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("classify", "--file"), id="classify-file"),
        pytest.param(("classify", "--request"), id="classify-request"),
        pytest.param(("run", "--file"), id="run"),
        pytest.param(("outcomes", "import"), id="import"),
        pytest.param(("evaluate",), id="evaluate"),
        pytest.param(("evaluate", "tasks.jsonl", "--learn"), id="learn"),
        pytest.param(("check", "--config"), id="config"),
    ],
)
def test_a_wrong_path_is_wrong_usage(environ: dict[str, str], arguments: tuple[str, ...], path: str) -> None:
    """Exit code 2 and the path, in every command; with `--json` nothing stands on stdout."""
    home = Path(environ["HOME"])
    (home / "folder").mkdir()
    (home / "tasks.jsonl").write_text(TASK)
    for more in ((), ("--json",)):
        ended = pointsman(*arguments, path, *more, environ=environ)
        assert (ended.code, ended.stdout) == (2, ""), ended.stderr
        assert re.search(rf"{path}: cannot be read: |'{path}' is a directory", ended.stderr), ended.stderr


def test_a_plot_without_a_place_is_said_before_the_work(environ: dict[str, str]) -> None:
    """Not after an hour of evaluation."""
    Path(environ["HOME"], "tasks.jsonl").write_text(TASK)
    ended = pointsman("evaluate", "tasks.jsonl", "--plot", "nope/x.svg", environ=environ)
    assert ended.code == 2
    assert "nope/x.svg: cannot be written" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "content", "says"),
    [
        pytest.param(("classify", "--request"), b'{"instructions": "x", "flet": {}}', "f: $.flet: unknown", id="field"),
        pytest.param(("classify", "--request"), b'{\n"instructions": x}', "f, line 2: expected a JSON", id="no-json"),
        pytest.param(("classify", "--request"), b'{"instructions": "\xff"}', "f: expected UTF-8 text", id="not-utf-8"),
        pytest.param(("classify", "--file"), b"\xff", "f: expected UTF-8 text", id="text"),
        pytest.param(("evaluate",), TASK.encode() + b'{"id": 1}', "f, line 2: $.id: expected `str`", id="task"),
        pytest.param(("evaluate",), b"\n\n", "f: expected one task a line", id="no-task"),
        pytest.param(("outcomes", "import"), b"\nnope", "f, line 2: expected a JSON document", id="outcome"),
    ],
)
def test_what_is_wrong_in_a_file_names_file_and_line(
    environ: dict[str, str], arguments: tuple[str, ...], content: bytes, says: str
) -> None:
    """Nobody sent a request: the text speaks of the file."""
    Path(environ["HOME"], "f").write_bytes(content)
    ended = pointsman(*arguments, "f", environ=environ)
    assert ended.code == 1
    assert says in ended.stderr
    assert "request" not in ended.stderr


def test_an_option_is_no_file(environ: dict[str, str]) -> None:
    """What an option says wrong is not put down to the file that it goes with."""
    Path(environ["HOME"], "f").write_text('{"instructions": "x", "agent_type": "claude"}')
    ended = pointsman("classify", "--request", "f", "--agent-type", "", environ=environ)
    assert ended.code == 1
    assert "f:" not in ended.stderr
    assert "$.agent_type" in ended.stderr


def in_terminal(environ: Mapping[str, str], *arguments: str, columns: int = 80) -> str:
    """What a command prints on a terminal of this width."""
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    shown = process_environ({**environ, "TERM": "xterm-256color"})
    with subprocess.Popen([*POINTSMAN, *arguments], env=shown, cwd=environ["HOME"], stdout=theirs, stderr=theirs) as it:
        os.close(theirs)
        printed = b""
        try:
            while chunk := os.read(ours, 65_536):
                printed += chunk
        except OSError:  # Linux says so where the other side is closed
            pass
        assert it.wait(60) == 0, printed
    os.close(ours)
    return printed.decode()


def plain(text: str) -> str:
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("arguments", [("catalog",), ("classify", "Fix the login")], ids=["catalog", "classify"])
def test_names_are_whole_in_80_columns(environ: dict[str, str], arguments: tuple[str, ...]) -> None:
    """And in one colour each; a column that is left out for them is named."""
    names = {
        model["model"]
        for agent in json.loads(pointsman("catalog", "--json", environ=environ).stdout)["agents"]
        for model in agent["models"]
    }
    printed = in_terminal(environ, *arguments)
    lines = plain(printed).replace("\r", "").split("\n")
    assert max(map(len, lines)) <= 80
    assert "…" not in plain(printed)
    shown = {name for name in names if name in plain(printed)}
    assert shown == names if arguments == ("catalog",) else shown
    assert all(name in printed for name in shown)  # with no escape sequence inside


def test_a_table_leaves_out_what_tells_least(environ: dict[str, str]) -> None:
    """In a narrow terminal columns go, one after the other, before a name is touched; what is gone is named."""
    Path(environ["HOME"], "tasks.jsonl").write_text(TASK)
    printed = plain(in_terminal(environ, "evaluate", "tasks.jsonl", columns=60))
    assert "always:gpt-5.4" in printed
    assert "no room for: " in printed
    assert "solved" in printed
    narrow = plain(in_terminal(environ, "catalog", columns=44))
    assert "no room for: cost, published" in narrow
