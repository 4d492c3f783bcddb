"""What a decision may cost, in counts and not in time: a change that makes it dearer shows here, on any machine.

The bounds leave a tenth above what was counted with Python 3.11; `python -m tests.load.counts` prints the counts.
"""

from collections.abc import Generator

import pytest

from service.classifiers.prompt import CHARACTERS_PER_TOKEN, Prompts
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.task import Task
from service.store.decisions import ROWS_AT_ONCE
from tests.load.counts import Bench, Counts

pytestmark = pytest.mark.alone  # the service's timers come in between where a decision takes long

INSTRUCTIONS = {
    "stub request": 14_600,
    "stub decision": 12_100,
    "forecast request": 10_750,
    "forecast decision": 8_700,
}
CALLS = {"stub request": 1_170, "stub decision": 960, "forecast request": 815, "forecast decision": 655}
"""Of Python's instructions, and of functions of Python and C. A classifier's verdict costs more than none: it is
weighed against the forecast's own choice, and both are counted."""

FIXED_TOKENS = 770
"""Of the prompt's fixed part with the default catalog; a llama.cpp server counts it with its own tokenizer."""


@pytest.fixture(scope="module", params=["stub", "forecast"])
def bench(request: pytest.FixtureRequest) -> Generator[Bench]:
    """A service whose classifier answers at once, and one with none."""
    with Bench(request.param) as bench:
        yield bench


@pytest.fixture(scope="module")
def of_request(bench: Bench) -> Counts:
    """A whole request, counted."""
    return bench.count("request")


def test_a_request_does_not_grow(bench: Bench, of_request: Counts) -> None:
    """Instructions and calls of a request stay within their bounds; catches work that is done for every decision."""
    assert of_request.instructions <= INSTRUCTIONS[f"{bench.kind} request"]
    assert of_request.total_calls <= CALLS[f"{bench.kind} request"]


def test_a_decision_does_not_grow(bench: Bench) -> None:
    """Likewise without HTTP around it."""
    counts = bench.count("decision")
    assert counts.instructions <= INSTRUCTIONS[f"{bench.kind} decision"]
    assert counts.total_calls <= CALLS[f"{bench.kind} decision"]


def test_nothing_is_set_up_in_a_request(of_request: Counts) -> None:
    """No file is read, no pattern compiled, no template parsed, no client or TLS context made."""
    wrong = {
        name
        for name in of_request.calls
        if name.startswith(("re._compiler.", "re._parser.", "tomllib.", "ssl.", "httpx.", "pathlib.", "importlib."))
        or name.rpartition(".")[2] in {"open", "stat", "read_text", "read_bytes", "get_identifiers", "is_valid"}
    }
    assert wrong == set()


def test_the_answer_is_encoded_once(of_request: Counts) -> None:
    """JSON is written for the answer, two log lines, the record and its explanation, and the digest of the task."""
    assert of_request.of("Encoder.encode") <= 6


def test_the_plan_is_not_computed_twice(of_request: Counts) -> None:
    """Tasks for which all that a forecast rests on is the same share it; catches a cache key that never matches."""
    assert of_request.of("service.forecast.plan.best_path") == 0


def test_two_lines_are_logged_for_a_request(bench: Bench) -> None:
    """One about the decision, one about the answer."""
    assert bench.lines("request") == 2


def test_decisions_are_written_in_batches(bench: Bench) -> None:
    """As many decisions as SQLite takes values for are one statement, after the begin of their transaction: catches an
    `executemany`, which counts as one and takes Python's lock for each row."""
    assert bench.statements_of(ROWS_AT_ONCE) == 1 + 1
    assert bench.statements_of(2 * ROWS_AT_ONCE + 1) == 1 + 3


def test_the_prompt_does_not_grow() -> None:
    """Fixed part and question of the default catalog, by the usual four characters a token."""
    prompts = Prompts(None, load_catalog(DEFAULT_CATALOG))
    eligible = load_catalog(DEFAULT_CATALOG).candidates
    question = prompts.question(
        Task(instructions="x"), eligible, value_usd=3.0, max_task_tokens=1500, random_bytes=lambda n: b"\x01" * n
    )
    assert len(question.system) <= FIXED_TOKENS * CHARACTERS_PER_TOKEN
    assert len(question.user) <= 90 * CHARACTERS_PER_TOKEN
