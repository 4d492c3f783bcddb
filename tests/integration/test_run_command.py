"""`pointsman run` as a real process, on pipes and on a terminal."""

import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.fake_behaviours import deltas, events, hang, slow, sse, status, streamed
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.llama_server import LlamaServer
from tests.support.service_process import POINTSMAN, pointsman, process_environ
from tests.support.stream_reader import read_transcript


@pytest.fixture
def environ(fake_endpoint: FakeEndpoint, bare_environ: Mapping[str, str]) -> dict[str, str]:
    """An environment with the fake endpoint as the local model."""
    return {
        **bare_environ,
        "POINTSMAN_LOCAL_MODEL__ENDPOINT": fake_endpoint.url,
        "POINTSMAN_LOCAL_MODEL__MODEL": "fake-model",
    }


class Terminal:
    """`pointsman run` on a pseudo-terminal, with what it shows and when."""

    def __init__(self, *arguments: str, environ: Mapping[str, str]) -> None:
        master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*POINTSMAN, "run", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=process_environ({**environ, "TERM": "xterm"}),
            start_new_session=True,
        )
        os.close(slave)
        self._master = master
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def shown(self) -> str:
        """Everything so far."""
        return bytes(self._seen).decode(errors="replace")

    def wait_for(self, text: str, *, seconds: float = 30.0) -> None:
        """Until it shows that."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            time.sleep(0.01)

    def wait(self) -> int:
        """Its exit code, after everything was shown."""
        code = self.process.wait(30)
        self._reader.join(10)
        os.close(self._master)
        return code

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # Linux says that the other side is closed in this way
                return
            if not data:
                return
            self._seen += data


def test_the_answer_and_the_figures(fake_endpoint: FakeEndpoint, environ: dict[str, str]) -> None:
    """The answer on stdout with a newline, tokens, rate and time on stderr, exit 0."""
    fake_endpoint.then(streamed("Hello", " there.", usage=(12, 3)))
    ended = pointsman("run", "--max-tokens", "9", "--temperature", "0", "--name", "Greet", "Say hi.", environ=environ)
    assert (ended.code, ended.stdout) == (0, "Hello there.\n")
    assert re.fullmatch(r"fake-model: 12 tokens in, 3 out, \d+\.\d tokens/s, \d+\.\d s\n", ended.stderr)
    asked = fake_endpoint.chats[0].json
    assert (asked["max_tokens"], asked["temperature"]) == (9, 0)
    assert asked["messages"][1]["content"] == "Greet\n\nSay hi."


def test_instructions_from_stdin_and_a_file(
    fake_endpoint: FakeEndpoint, environ: dict[str, str], tmp_path: Path
) -> None:
    """`-` and --file; none, both, a missing file or bytes that are no text are refused, and nothing is asked."""
    fake_endpoint.always(streamed("ok"))
    (tmp_path / "task").write_text("From a file.")
    assert pointsman("run", "-", environ=environ, stdin="From stdin.").code == 0
    assert pointsman("run", "--file", str(tmp_path / "task"), environ=environ).code == 0
    assert [request.user_text for request in fake_endpoint.chats] == ["From stdin.", "From a file."]
    assert pointsman("run", environ=environ).code == 2
    assert pointsman("run", "x", "--file", str(tmp_path / "task"), environ=environ).code == 2
    assert pointsman("run", "--file", str(tmp_path / "none"), environ=environ).code == 2
    assert pointsman("run", "-", environ=environ, stdin=b"\xff").code == 1
    assert len(fake_endpoint.chats) == 2


def test_json_prints_the_stream(fake_endpoint: FakeEndpoint, environ: dict[str, str]) -> None:
    """With --json stdout is the stream-json envelope and nothing else."""
    fake_endpoint.then(streamed("Hel", "lo", usage=(12, 3)))
    ended = pointsman("run", "--json", "x", environ=environ)
    seen = read_transcript(ended.stdout.encode().splitlines())
    assert (ended.code, seen.streamed, seen.messages, ended.stderr) == (0, ["Hel", "lo"], ["Hello"], "")


@pytest.mark.parametrize("as_json", [False, True], ids=["words", "json"])
def test_a_failure_is_exit_1(fake_endpoint: FakeEndpoint, environ: dict[str, str], *, as_json: bool) -> None:
    """What the server said is told on stderr, and in the result line with --json."""
    fake_endpoint.always(status(400, '{"error": {"message": "no such model"}}'))
    ended = pointsman("run", "x", *(["--json"] if as_json else []), environ=environ)
    assert ended.code == 1
    assert "no such model" in ended.stderr
    if as_json:
        assert "no such model" in read_transcript(ended.stdout.encode().splitlines()).result["result"]
    else:
        assert ended.stdout == ""


def test_without_an_endpoint(bare_environ: Mapping[str, str]) -> None:
    """Exit 1, and with --json the problem document `local-agent-off`."""
    ended = pointsman("run", "x", "--json", environ=bare_environ)
    assert (ended.code, ended.document["type"]) == (1, "urn:pointsman:local-agent-off")
    assert "local_model.endpoint" in pointsman("run", "x", environ=bare_environ).stderr


def test_no_database_is_needed(fake_endpoint: FakeEndpoint, environ: dict[str, str]) -> None:
    """A run neither waits for a database that is away nor warns of it."""
    fake_endpoint.then(streamed("ok"))
    environ["POINTSMAN_STORE__URL"] = "sqlite:////proc/none/store.db"
    ended = pointsman("run", "x", environ=environ)
    assert (ended.code, ended.stdout) == (0, "ok\n")
    assert "store" not in ended.stderr


def test_text_appears_as_it_comes(fake_endpoint: FakeEndpoint, environ: dict[str, str]) -> None:
    """On a terminal a piece is shown while the server still holds back the rest."""
    fake_endpoint.then(sse(events(*deltas("first ", "second"), done=False), end=hang()))
    terminal = Terminal("x", environ=environ)
    terminal.wait_for("first second")
    assert terminal.process.poll() is None
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == 130


def test_a_long_wait_is_shown(fake_endpoint: FakeEndpoint, environ: dict[str, str]) -> None:
    """While nothing comes the seconds are counted; they are wiped away before the text."""
    fake_endpoint.then(slow(streamed("Hello"), 2.5))
    terminal = Terminal("x", environ=environ)
    terminal.wait_for("waiting, ")
    assert terminal.wait() == 0
    assert "\x1b8\x1b[KHello\r\n" in terminal.shown
    assert "Traceback" not in terminal.shown


@pytest.mark.parametrize("number", [signal.SIGINT], ids=["ctrl-c"])
def test_ctrl_c_cancels_on_the_server(
    fake_endpoint: FakeEndpoint, environ: dict[str, str], number: signal.Signals
) -> None:
    """Exit 130, the server sees its connection closed, and what came is left on stdout."""
    fake_endpoint.then(sse(events(*deltas("begun"), done=False), end=hang()))
    process = subprocess.Popen(
        [*POINTSMAN, "run", "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=process_environ(environ)
    )
    assert process.stdout is not None
    assert process.stdout.read(5) == b"begun"
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, b"\n")
    assert b"Traceback" not in stderr
    fake_endpoint.wait_for(lambda fake: fake.left_early == 1)


def test_ctrl_c_while_it_waits(fake_endpoint: FakeEndpoint, environ: dict[str, str]) -> None:
    """Before the first piece just the same; with --json the log ends in a result line that says so."""
    fake_endpoint.then(hang())
    process = subprocess.Popen(
        [*POINTSMAN, "run", "--json", "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=process_environ(environ)
    )
    fake_endpoint.wait_for(lambda fake: len(fake.chats) == 1, seconds=30)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert read_transcript(stdout.splitlines()).result["exit_reason"] == "cancelled"
    fake_endpoint.wait_for(lambda fake: fake.left_early == 1)


def test_a_reader_that_leaves(fake_endpoint: FakeEndpoint, environ: dict[str, str]) -> None:
    """`| head`: the run ends, on the server too, without a traceback."""
    fake_endpoint.then(streamed(*["word "] * 400, pause=0.01))
    process = subprocess.Popen(
        [*POINTSMAN, "run", "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=process_environ(environ)
    )
    assert process.stdout is not None
    assert process.stdout.read(4) == b"word"
    process.stdout.close()
    assert process.stderr is not None
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 1
    assert b"Traceback" not in stderr
    fake_endpoint.wait_for(lambda fake: fake.left_early == 1)


HOSTILE = "a\x1b[31mred\x1b]0;title\x07\x9b2J\u202eb\rc\x00\x7f"


@pytest.mark.parametrize("as_json", [False, True], ids=["words", "json"])
def test_hostile_output_reaches_no_terminal(
    fake_endpoint: FakeEndpoint, environ: dict[str, str], *, as_json: bool
) -> None:
    """No escape sequence of the model's, nor of its name, is ever written; also where it comes in pieces."""
    fake_endpoint.then(streamed(HOSTILE, "\x1b", "[5m", "\x9b", "1m", model="m\x1b[32m"))
    ended = pointsman("run", *(["--json"] if as_json else []), "x", environ=environ)
    assert ended.code == 0
    written = ended.stdout + ended.stderr
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", written)
    if as_json:
        streamed_text = "".join(read_transcript(ended.stdout.encode().splitlines()).streamed)
        assert streamed_text == HOSTILE + "\x1b[5m\x9b1m"


def test_a_real_model(llama_server: LlamaServer, environ: dict[str, str]) -> None:
    """Against the real server: text, and the tokens that it counted."""
    environ["POINTSMAN_LOCAL_MODEL__ENDPOINT"] = llama_server.endpoint
    environ["POINTSMAN_LOCAL_MODEL__MODEL"] = llama_server.model
    ended = pointsman("run", "--max-tokens", "20", "--temperature", "0", "Say hello.", environ=environ)
    assert ended.code == 0
    assert ended.stdout.strip()
    figures = re.fullmatch(r"smollm2-135m: (\d+) tokens in, (\d+) out, .* s\n", ended.stderr)
    assert figures is not None
    assert int(figures[1]) > 20
    assert 0 < int(figures[2]) <= 20
    as_json = pointsman("run", "--json", "--max-tokens", "5", "Say hello.", environ=environ)
    assert json.loads(as_json.stdout.splitlines()[-1])["type"] == "result"
