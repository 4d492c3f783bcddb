"""A program is asked: with small programs in place of an agent CLI."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.classifiers.envelope import CliEnvelopeError, CliReply
from service.classifiers.program import CliClassifier
from service.contract.decision import Usage
from service.contract.settings import CliSettings
from service.process.errors import ProcessError

Make = Callable[..., CliClassifier]

SECRET = "sk-very-secret-value"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a program of a few lines of Python, as a command or in place of a preset's program."""

    def build(
        code: str, *, preset: str | None = None, environ: dict[str, str] | None = None, extra: tuple[str, ...] = ()
    ) -> CliClassifier:
        script = tmp_path / (preset or "classify")
        script.write_text(f"#!{sys.executable} -SE\nimport json, os, sys\n{code}\n")
        script.chmod(0o755)
        temp = tmp_path / "temp"
        temp.mkdir(exist_ok=True)
        command = [] if preset else [str(script), "word"]
        return CliClassifier(
            CliSettings(preset=preset, command=command, timeout_seconds=20, environment=list(extra)),
            {"PATH": str(tmp_path), "HOME": "/home/operator", "TMPDIR": str(temp)} | (environ or {}),
        )

    return build


async def ask(program: CliClassifier, prompt: str = "the task") -> CliReply:
    """One question; afterwards nothing runs any more."""
    try:
        return await program.ask("the rules", prompt, timeout_seconds=20)
    finally:
        await program.aclose()


async def test_a_command_is_asked_on_stdin(make: Make, tmp_path: Path) -> None:
    """System, blank line and prompt go to stdin; the words of the command are its only arguments."""
    program = make("print(json.dumps([sys.argv[1:], sys.stdin.read()]))")
    assert json.loads((await ask(program)).text) == [["word"], "the rules\n\nthe task"]
    assert program.name == "classify"
    assert list((tmp_path / "temp").iterdir()) == []


async def test_a_preset_is_found_on_the_path_of_its_environment(make: Make) -> None:
    """PATH of the given environment counts, and the preset's envelope is unwrapped."""
    answer = json.dumps({"response": "yes", "stats": {"models": {"m": {"tokens": {"prompt": 3, "candidates": 4}}}}})
    program = make(f"print({answer!r})", preset="gemini")
    assert program.available()
    assert await ask(program) == CliReply(text="yes", usage=Usage(tokens_in=3, tokens_out=4))


async def test_the_system_file_is_there_while_it_runs(make: Make) -> None:
    """A preset's program finds the fixed part in its file, and only stdin has the task."""
    code = "print(open(sys.argv[sys.argv.index('--system-fragment') + 1]).read(), sys.stdin.read(), sep='|')"
    assert (await ask(make(code, preset="llm"))).text == "the rules|the task\n"


async def test_the_program_sees_a_clean_environment(make: Make, tmp_path: Path) -> None:
    """Allowed and extra names come through, others and the service's own do not; temporary files stay in the run."""
    environ = {
        "OPENAI_API_KEY": SECRET,
        "AWS_SECRET_ACCESS_KEY": "no",
        "MY_PROXY_ID": "yes",
        "POINTSMAN_SERVER__TOKEN": "no",
        "LD_LIBRARY_PATH": "no",
    }
    code = "print(json.dumps(sorted(os.environ)), os.environ['TMPDIR'], os.environ['HOME'], sep='|')"
    program = make(code, environ=environ, extra=("MY_*", "POINTSMAN_SERVER__TOKEN"))
    names, temp, home = (await ask(program)).text.split("|")
    expected = {"PATH", "HOME", "TMPDIR", "NO_COLOR", "TERM", "OPENAI_API_KEY", "MY_PROXY_ID", "PROCESS_RUN_ID"}
    assert set(json.loads(names)) - {"LC_CTYPE"} == expected
    assert temp.startswith(str(tmp_path / "temp" / "pointsman-"))
    assert home.strip() == "/home/operator"


async def test_without_a_home_it_gets_an_empty_one(make: Make) -> None:
    """Many programs fail without HOME: then there is one of the run's own."""
    program = make("print(os.environ['HOME'], os.listdir(os.environ['HOME']))", environ={"HOME": ""})
    home, listing = (await ask(program)).text.split()
    assert (Path(home).name, listing) == ("home", "[]")


@pytest.mark.parametrize("answer", ['{"agent_type": "claude"}', ""], ids=["with JSON", "without"])
async def test_a_status_other_than_zero_is_a_failure(make: Make, answer: str) -> None:
    """Whatever it printed; stderr says why."""
    program = make(f"print({answer!r}); print('no login', file=sys.stderr); sys.exit(41)")
    with pytest.raises(ProcessError, match=r"^classify exited with status 41: no login$") as caught:
        await ask(program)
    assert caught.value.problem == "exit-status"


async def test_a_signal_is_a_failure_of_its_own(make: Make) -> None:
    """Killed from outside is told apart from a status."""
    with pytest.raises(ProcessError, match="killed by signal 9 and said nothing") as caught:
        await ask(make("print('{}', flush=True); os.kill(os.getpid(), 9)"))
    assert caught.value.problem == "killed-by-signal"


async def test_the_envelope_says_why_it_failed(make: Make) -> None:
    """claude reports its errors in the envelope and exits with 1: that text is the detail."""
    envelope = json.dumps({"type": "result", "is_error": True, "result": "API Error: 529 overloaded"})
    with pytest.raises(ProcessError, match="status 1: it reports: API Error: 529 overloaded"):
        await ask(make(f"print({envelope!r}); print('noise', file=sys.stderr); sys.exit(1)", preset="claude"))


async def test_details_are_short_clean_and_without_secrets(make: Make) -> None:
    """At most 500 characters, one line, no escape sequences, no key and no proxy password: head and tail remain."""
    said = f"begin {SECRET}\x1b[31m\x1b]0;title\x07\r\n" + "stack " * 5_000 + f" http://user:pass1@proxy {SECRET} end"
    program = make(f"sys.stderr.write({said!r}); sys.exit(1)", environ={"OPENAI_API_KEY": SECRET})
    with pytest.raises(ProcessError) as caught:
        await ask(program)
    detail = str(caught.value).partition(": ")[2]
    assert len(detail) <= 500
    assert detail.startswith("begin *** stack")
    assert detail.endswith("http://***@proxy *** end")
    assert detail.isprintable()


async def test_a_reply_holds_no_secrets(make: Make) -> None:
    """A program that prints its own key does not get it into a decision."""
    program = make("print('key is', os.environ['GEMINI_API_KEY'])", environ={"GEMINI_API_KEY": SECRET})
    assert (await ask(program)).text == "key is ***\n"


async def test_output_must_be_utf8(make: Make) -> None:
    """Other bytes are no answer."""
    with pytest.raises(CliEnvelopeError, match="classify: its output is not UTF-8") as caught:
        await ask(make(r"os.write(1, b'{\xff}')"))
    assert caught.value.problem == "bad-envelope"


async def test_text_that_is_no_unicode_is_still_asked(make: Make) -> None:
    """A lone surrogate in a task cannot be encoded: it is replaced, and no exception leaks."""
    assert (await ask(make("print(len(sys.stdin.buffer.read()))"), "a\ud800b")).text == "14\n"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        pytest.param(["no-such-program-anywhere"], "not-found", id="not on PATH"),
        pytest.param(["./no/such"], "not-found", id="no such path"),
        pytest.param([__file__], "not-executable", id="not executable"),
    ],
)
async def test_a_program_that_is_not_there(command: list[str], problem: str, tmp_path: Path) -> None:
    """`available` says so, and asking all the same is an error with a name."""
    program = CliClassifier(CliSettings(command=command), {"PATH": str(tmp_path), "TMPDIR": str(tmp_path)})
    assert not program.available()
    with pytest.raises(ProcessError) as caught:
        await ask(program)
    assert caught.value.problem == problem


async def test_the_smaller_time_counts(make: Make) -> None:
    """Neither a caller nor the configuration can be overrun by the other."""
    program = make("import time; time.sleep(60)")
    with pytest.raises(ProcessError, match=r"classify did not end within 0\.2 s"):
        await program.ask("", "x", timeout_seconds=0.2)
    await program.aclose()
    assert program.under_way == 0
