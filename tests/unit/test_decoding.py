"""Bad input is an error that names the place."""

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contract.decoding import convert_tree, decode_json
from service.contract.errors import InvalidInputError
from service.contract.task import Task, TaskBatch

DECODER = msgspec.json.Decoder(Task)


def problem(body: bytes) -> InvalidInputError:
    """The error that `body` is refused with."""
    with pytest.raises(InvalidInputError) as caught:
        decode_json(body, DECODER)
    return caught.value


def problem_with(**fields: object) -> InvalidInputError:
    """The error for a task with these fields."""
    return problem(msgspec.json.encode({"instructions": "x", **fields}))


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        pytest.param({"fleet": {"claude": {"slots": "2"}}}, "$.fleet.claude.slots", id="number-as-string"),
        pytest.param({"fleet": {"a": {}, "my agent": {"slots": -1}}}, '$.fleet["my agent"].slots', id="key-with-space"),
        pytest.param({"fleet": {"a": {}, "b": {"slotz": 1}}}, "$.fleet.b.slotz", id="unknown-field-in-an-object"),
        pytest.param({"fleet": {"a": 1}}, "$.fleet.a", id="no-object"),
        pytest.param({"fleet": {"": {}}}, "$.fleet", id="empty-key"),
        pytest.param({"labels": {"a": "x", "b": 2}}, "$.labels.b", id="label"),
        pytest.param(
            {"attempts": [{"agent_type": "a", "model": "b", "result": "?"}]}, "$.attempts[0].result", id="list"
        ),
        pytest.param({"attempts": [{"agent_type": "a"}]}, "$.attempts[0].model", id="missing-field"),
        pytest.param({"require": {"exclude": [{"agent": "a"}]}}, "$.require.exclude[0].agent", id="nested"),
        pytest.param({"require": {"max_cost_usd": -1}}, "$.require.max_cost_usd", id="out-of-range"),
        pytest.param({"deadline_ms": 19}, "$.deadline_ms", id="deadline-too-short"),
        pytest.param({"deadline_ms": 600_001}, "$.deadline_ms", id="deadline-too-long"),
        pytest.param({"value_usd": 0}, "$.value_usd", id="value-of-nothing"),
        pytest.param({"instructions": ""}, "$.instructions", id="empty-instructions"),
        pytest.param({"instructions": "x" * 200_001}, "$.instructions", id="instructions-too-long"),
        pytest.param({"labels": {str(i): "" for i in range(33)}}, "$.labels", id="too-many-labels"),
        pytest.param({"instruction": "x"}, "$.instruction", id="misspelt"),
        pytest.param({"a b": 1}, '$["a b"]', id="misspelt-with-space"),
    ],
)
def test_the_path_is_named_with_object_keys_written_out(fields: dict[str, Any], path: str) -> None:
    """The path leads to the very value at fault, through object keys and list indexes, and is part of the text."""
    error = problem_with(**fields)
    assert error.path == path
    assert str(error).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"", "empty body", id="no-body"),
        pytest.param(b" \n", "empty body", id="blank"),
        pytest.param(b"{", "JSON document", id="cut"),
        pytest.param(b'{"instructions": "x"} x', "JSON document", id="trailing"),
        pytest.param(b'{"instructions": "\xff"}', "UTF-8", id="not-utf-8"),
        pytest.param(b'{"instructions": "\\ud800"}', "JSON document", id="lone-surrogate"),
        pytest.param(b"\x1f\x8b\x08\x00", "JSON document", id="gzip"),
        pytest.param(b"[" * 100_000, "object", id="deep"),
        pytest.param(b'{"x":' * 100_000, "unknown field", id="deep-unknown-field"),
        pytest.param(b"[]", "object", id="list"),
        pytest.param(b"null", "object", id="null"),
    ],
)
def test_what_is_no_json_object_is_refused_in_words(body: bytes, words: str) -> None:
    """Bodies that are no JSON, no UTF-8 or nested beyond reason are invalid input, not a defect."""
    assert words in str(problem(body))


@pytest.mark.parametrize(
    "body", [b'{"tasks": [' + b"[" * 100_000, b'{"tasks": ' + b'[{"x":' * 50_000], ids=["lists", "objects"]
)
def test_nesting_beyond_reason_is_refused(body: bytes) -> None:
    """Deep nesting raises RecursionError below, which is no MsgspecError: catches one that gets through as a defect."""
    with pytest.raises(InvalidInputError, match="nesting"):
        decode_json(body, msgspec.json.Decoder(TaskBatch))


def test_a_model_needs_its_agent_type() -> None:
    """A rule that spans two fields is an invalid input like any other."""
    assert "agent_type" in str(problem_with(model="x"))


def test_the_message_is_bounded_and_clean() -> None:
    """msgspec repeats a wrong enumeration value: a megabyte of it, or escape sequences in it, are not passed on."""
    error = problem_with(objective="\x1b[31m" + "x" * 1_000_000)
    assert len(str(error)) < 400
    assert "\x1b" not in str(error)


def test_a_long_unknown_name_is_cut() -> None:
    """An unknown field's own name is shown, but not a megabyte of it."""
    assert len(str(problem_with(**{"x" * 1_000_000: 1}))) < 400


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.just({}), min_size=1, max_size=30), st.randoms())
def test_the_key_at_fault_is_found_among_many(fleet: dict[str, Any], random: Any) -> None:  # noqa: ANN401 - hypothesis's own
    """Whatever the keys are called and wherever the bad one stands, the path names exactly that one."""
    bad = random.choice(sorted(fleet))
    error = problem_with(fleet={**fleet, bad: {"running": "x"}})
    shown = error.path.removeprefix("$.fleet").removesuffix(".running")
    assert shown.isprintable()
    assert (shown[1:] if shown.startswith(".") else json.loads(shown[1:-1])) == bad


def test_finding_the_key_is_not_quadratic() -> None:
    """One bad key among 14,000 is found in well under a second: catches a search that tries each key by itself."""
    fleet: dict[str, Any] = {f"agent-{i}": {} for i in range(14_000)}
    started = time.process_time()
    assert problem_with(fleet={**fleet, "agent-13999": {"slots": "x"}}).path == "$.fleet.agent-13999.slots"
    assert time.process_time() - started < 2


@pytest.mark.alone
@pytest.mark.parametrize(
    "rest", [b'"labels": {"a": 5, %s}', b'"labels": {"a": 5}, "fleet": [%s]'], ids=["in", "beside"]
)
def test_a_name_is_not_searched_for_in_megabytes(rest: bytes) -> None:
    """A wrong value in a huge object, or beside one, is told at once, in the one case without its key: would catch a
    search through 8 MiB, half a second for which everybody waits."""
    huge = b", ".join(b'"k%d": {}' % n for n in range(500_000)) if b"%s}" in rest else b"[]," * 2_000_000 + b"[]"
    body = b'{"instructions": "x", ' + rest % huge + b"}"
    started = time.process_time()
    assert problem(body).path == ("$.labels.a" if b"[" in rest else "$.labels[...]")
    assert time.process_time() - started < 0.1


def test_the_key_is_found_beside_tasks_that_are_not_decoded() -> None:
    """A batch keeps its tasks as they came: catches a search for the key that can only read plain data."""
    body = b'{"tasks": [{"instructions": "x"}, 7], "fleet": {"a": {}, "b": {"slots": "2"}}}'
    with pytest.raises(InvalidInputError) as caught:
        decode_json(body, msgspec.json.Decoder(TaskBatch))
    assert caught.value.path == "$.fleet.b.slots"


def test_a_number_beyond_64_bits_is_no_defect() -> None:
    """It can be read and not written again: the path then goes only as far as it is known."""
    body = b'{"instructions": "x", "fleet": {"a": {"running": ' + b"9" * 400 + b'}}, "labels": {"k": 1}}'
    assert problem(body).path.startswith("$.")


@given(st.binary(max_size=200))
def test_no_body_is_a_defect(body: bytes) -> None:
    """Any bytes at all are a task or an InvalidInputError, and nothing else."""
    words = "none"
    try:
        decode_json(body, DECODER)
    except InvalidInputError as error:
        words = str(error)
    assert words


def test_a_tree_has_the_same_errors_and_lax_reads_text() -> None:
    """Plain data is converted by the same rules; text counts as a number only where `strict` is off."""
    with pytest.raises(InvalidInputError) as caught:
        convert_tree({"instructions": "x", "fleet": {"a": {"slots": "2"}}}, Task)
    assert caught.value.path == "$.fleet.a.slots"
    assert convert_tree("5", int, strict=False) == 5


@pytest.mark.parametrize("name", ["a` - at `$\x9b31m\u202e", "a` - at `$.\x7f`", f"a` - at `${'y' * 5000}"])
def test_a_name_that_looks_like_a_path_is_none(name: str) -> None:
    """The name of an unknown field is quoted and cut whatever it holds: would catch one that ends as msgspec's own
    messages do, is taken for the path, and brings control characters into an error and a terminal."""
    told = str(problem_with(**{name: 1}))
    assert told.isprintable()
    assert len(told) < 300
    assert told.startswith('$["a` - at `$')


@pytest.mark.alone
def test_a_large_body_is_not_read_again_for_a_path_that_is_known() -> None:
    """Would catch a second reading of 8 MiB, half a second of the event loop, where the first one told the place."""
    body = b'{"instructions": "x", "bogus": [' + b"[]," * 1_000_000 + b"[]]}"
    started = time.process_time()
    assert problem(body).path == "$.bogus"
    assert time.process_time() - started < 0.05
