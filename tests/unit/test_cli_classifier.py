"""A program as a classifier: real processes, a few lines of Python each."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.classifiers.classifier import Blame, Classified, ClassifierError
from service.classifiers.program import CliClassifier
from service.contract.errors import ConfigurationError
from service.contract.settings import CliSettings
from tests.support.builders import brief, candidate, task

GOOD = json.dumps({"agent_type": "alpha", "model": "small", "minutes": 20, "confidence": 0.9, "reason": "Small."})
READ = "import sys, json, time; prompt = sys.stdin.read(); "

Make = Callable[..., CliClassifier]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a classifier of a line of Python."""

    def build(code: str, *, timeout_seconds: float = 20.0) -> CliClassifier:
        made = CliClassifier.configured(
            CliSettings(command=[sys.executable, "-SEc", code], timeout_seconds=timeout_seconds),
            {"PATH": "/usr/bin", "TMPDIR": str(tmp_path)},
        )
        assert made is not None
        return made

    return build


async def classify(asked: CliClassifier, seconds: float = 20.0) -> Classified:
    """One classification; afterwards nothing runs any more."""
    try:
        return await asked.classify(brief(), timeout_seconds=seconds)
    finally:
        await asked.aclose()


async def refused(asked: CliClassifier, seconds: float = 20.0) -> ClassifierError:
    """The error of one that gives no verdict."""
    with pytest.raises(ClassifierError) as caught:
        await classify(asked, seconds)
    return caught.value


async def test_the_program_is_asked_on_stdin_and_its_answer_validated(make: Make) -> None:
    """The whole prompt comes on stdin, and the verdict is read from stdout, prose around it or not."""
    asked = "'alpha | small' in prompt and 'Fix the failing test.' in prompt"
    code = READ + f"print('Well:', {GOOD!r} if {asked} else 'no')"
    found = await classify(make(code))
    assert found.verdict.candidate.key == ("alpha", "small")
    assert "Fix the failing test." in found.prompt
    assert GOOD in found.reply


@pytest.mark.parametrize(
    ("code", "problem", "blame"),
    [
        pytest.param("print('The second one.')", "no-json", Blame.REPLY, id="prose"),
        pytest.param(f"print({GOOD!r}.replace('small', 'huge'))", "unknown-candidate", Blame.REPLY, id="unknown"),
        pytest.param(f"print({GOOD!r}); sys.exit(3)", "exit-status", Blame.CLASSIFIER, id="non-zero-with-json"),
        pytest.param("sys.exit(3)", "exit-status", Blame.CLASSIFIER, id="non-zero"),
        pytest.param("import os; os.kill(os.getpid(), 9)", "killed-by-signal", Blame.CLASSIFIER, id="killed"),
    ],
)
async def test_one_that_gives_no_verdict_says_why(make: Make, code: str, problem: str, blame: Blame) -> None:
    """A program that exits non-zero has failed whatever it printed; a useless answer is the reply's fault."""
    error = await refused(make(READ + code))
    assert (error.problem, error.blame) == (problem, blame)
    assert error.prompt


async def test_a_time_out_says_how_long_the_program_had(make: Make) -> None:
    """Whose fault it was is seen by that: agent CLIs take seconds to start, and a caller may be in haste."""
    error = await refused(make("import time; time.sleep(60)"), seconds=0.3)
    assert error.problem == "timeout"
    assert error.given_seconds == pytest.approx(0.3, abs=0.2)
    assert (await refused(make("import sys; sys.exit(3)"))).given_seconds is None


async def test_a_queue_of_our_own_is_not_the_programs_fault(make: Make) -> None:
    """Who waited for a slot in vain never ran it: catches overload that opens the breaker of a healthy program."""
    asked = make("import time; time.sleep(60)")
    found = await asyncio.gather(
        *(asked.classify(brief(), timeout_seconds=0.5) for _ in range(3)), return_exceptions=True
    )
    await asked.aclose()
    given = sorted(error.given_seconds or 0.0 for error in found if isinstance(error, ClassifierError))
    assert given == pytest.approx([0.0, 0.5, 0.5], abs=0.1)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        pytest.param(CliSettings(preset=""), None, id="none-wanted"),
        pytest.param(CliSettings(), None, id="open-and-gemini-missing"),
        pytest.param(CliSettings(preset="claude"), "claude", id="named-though-missing"),
        pytest.param(CliSettings(preset="", command=["/opt/x/my-cli"]), "my-cli", id="command"),
        pytest.param(CliSettings(preset="claude", command=["my-cli"]), "my-cli", id="command-wins"),
    ],
)
def test_what_is_configured(tmp_path: Path, settings: CliSettings, name: str | None) -> None:
    """A command wins over a preset; an open choice is gemini where it is there; empty is none."""
    made = CliClassifier.configured(settings, {"PATH": str(tmp_path)})
    assert (made.name if made else None) == name


def test_an_open_choice_is_gemini_where_it_is_on_the_path(tmp_path: Path) -> None:
    """Nothing configured and the program there: it classifies."""
    program = tmp_path / "gemini"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    made = CliClassifier.configured(CliSettings(), {"PATH": str(tmp_path)})
    assert made is not None
    assert made.name == "gemini"


def test_a_command_without_a_program_is_a_mistake() -> None:
    """An empty first word is refused at the start, in words: catches a ValueError that ends it with a traceback."""
    with pytest.raises(ConfigurationError, match="program"):
        CliClassifier.configured(CliSettings(command=["", "-x"]), {"PATH": ""})


def test_a_preset_that_nobody_knows_is_a_mistake() -> None:
    """The error names the setting and what there is; `command` is how any other program is called, and no preset."""
    for name in ("cursor", "command", "__init__", "../gemini"):
        with pytest.raises(ConfigurationError, match=r"^cli\.preset: expected one of claude, codex, gemini, llm, got"):
            CliClassifier.configured(CliSettings(preset=name), {"PATH": ""})


async def test_only_eligible_candidates_come_through(make: Make) -> None:
    """What the program may not choose it cannot choose."""
    asked = make(READ + f"print({GOOD!r})")
    only = brief(task(), None, [candidate("beta", "wide")])
    try:
        with pytest.raises(ClassifierError) as caught:
            await asked.classify(only, timeout_seconds=20)
    finally:
        await asked.aclose()
    assert caught.value.problem == "ineligible-candidate"
