"""The stream-json lines, as bytes and as a reader of Claude Code's format sees them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.executions.stream_json import StreamJson, last_lines, read_lines, result_of
from service.llm.thinking import ThinkSplitter
from tests.support.stream_reader import read_transcript

USAGE = {"input_tokens": 10, "output_tokens": 5}


def whole_run(*pieces: str, thoughts: tuple[str, ...] = ()) -> bytes:
    """The log of a run that went well."""
    lines = StreamJson("0190", "m")
    parts = [lines.init("/"), *map(lines.thinking, thoughts), *map(lines.delta, pieces)]
    text = "".join(pieces)
    parts += [lines.assistant(text, stop_reason="end_turn", usage=USAGE)]
    parts += [lines.result(text, exit_reason="completed", is_error=False, duration_ms=7, usage=USAGE)]
    return b"".join(parts)


def test_a_run_reads_as_documented() -> None:
    """Init, deltas in their blocks, one message and the result are what a reader of the documented format expects."""
    seen = read_transcript(whole_run("He", "llo", thoughts=("Hm", "m.")).splitlines(keepends=True))
    assert (seen.model, seen.session_id) == ("m", "0190")
    assert seen.streamed == ["He", "llo"]
    assert seen.thinking == "Hmm."
    assert seen.blocks == [("thinking", "Hmm."), ("text", "Hello")]
    assert seen.messages == ["Hello"]
    assert (seen.result["result"], seen.result["is_error"], seen.result["num_turns"]) == ("Hello", False, 1)
    assert (seen.result["duration_ms"], seen.result["total_cost_usd"], seen.result["usage"]) == (7, 0, USAGE)


@given(st.lists(st.text(st.characters(), min_size=1), min_size=1))
def test_any_text_comes_back(pieces: list[str]) -> None:
    """Whatever the model says, lone surrogates apart, the lines hold it unchanged, one JSON object a line."""
    seen = read_transcript(whole_run(*pieces).splitlines())
    expected = [piece.encode("utf-8", "replace").decode() for piece in pieces]
    assert seen.streamed == expected
    assert seen.messages == ["".join(expected)]


@pytest.mark.parametrize(
    "text",
    ["\x1b[31mred", "\x9b31m", "\x1b]0;title\x07", "\x7f", "\u202etxt", "\u2028", "\x00"],
    ids=["csi", "c1-csi", "title", "delete", "bidi", "line-separator", "nul"],
)
def test_a_log_can_be_shown_on_a_terminal(text: str) -> None:
    """What a terminal would obey is written as an escape of JSON, and means the same."""
    lines = StreamJson("0190", "m").delta(text).decode()
    shown = lines.replace("\n", "")
    assert shown.isprintable()
    [*_, last] = read_lines(lines.encode().splitlines())
    assert last["event"]["delta"]["text"] == text


def test_a_lone_surrogate_does_not_break_a_line() -> None:
    """A server that sends half of a surrogate pair costs one character and not the run."""
    [*_, last] = read_lines(StreamJson("0190", "m").delta("a\ud83d").splitlines())
    assert last["event"]["delta"]["text"] == "a?"


def test_lines_that_are_none_are_passed_over() -> None:
    """What a crash cut off, and what is no object, is skipped; the rest is read."""
    assert list(read_lines([b'{"a":1}', b'{"type":"resu', b"\xff", b"[1]", b"", b'{"b":2}'])) == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("end", "found"),
    [
        (b'{"type":"result","n":1}\n', True),
        (b'{"type":"result","n":1}', True),
        (b'{"type":"result","n":', False),
        (b'{"type":"assistant"}\n', False),
        (b'{"type":"result","n":1}\n{"type":"assistant"}\n', False),
        (b"", False),
    ],
    ids=["whole", "without-newline", "torn", "other", "not-last", "empty"],
)
def test_the_result_is_the_last_line(tmp_path: Path, end: bytes, *, found: bool) -> None:
    """A log has its result only where the last line is a whole one of that type."""
    log = tmp_path / "log"
    log.write_bytes(b'{"type":"system"}\n' * (end != b"") + end)
    assert (result_of(log) is not None) == found


def test_a_result_of_any_length_is_found(tmp_path: Path) -> None:
    """A result line of 3 MiB is read whole: one that is taken for missing would be written twice."""
    log = tmp_path / "log"
    log.write_bytes(b'{"type":"system"}\n' + json.dumps({"type": "result", "result": "x" * (3 << 20)}).encode() + b"\n")
    found = result_of(log)
    assert found is not None
    assert len(found["result"]) == 3 << 20


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=20), st.integers(0, 200))
def test_last_lines_are_whole(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int) -> None:
    """However many bytes are read from the end, only whole lines are given, and the last ones."""
    log = tmp_path_factory.getbasetemp() / "lines"
    log.write_bytes(b"\n".join(lines))
    found, whole = last_lines(log, size)
    assert found == (lines or [b""])[len(lines or [b""]) - len(found) :]
    assert not whole or found == (lines or [b""])


@given(st.data())
def test_thinking_is_kept_apart(data: st.DataObject) -> None:
    """However the text is cut, `<think>` at its beginning is reasoning and everything after its end is the answer."""
    thought = data.draw(st.text("ab<>/think \n", max_size=30).filter(lambda text: "</think>" not in text))
    answer = data.draw(st.text("ab<>/think", min_size=1, max_size=30))
    begun = data.draw(st.booleans())
    text = f"\n<think>{thought}</think>\n\n{answer}" if begun else f"a{answer}"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    splitter = ThinkSplitter()
    pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    parts = [*map(splitter.feed, pieces), splitter.flush()]
    if begun and "</think>" in f"{thought}</think>"[:-1]:
        return
    assert "".join(part[0] for part in parts) == (answer if begun else text)
    assert "".join(part[1] for part in parts) == (thought if begun else "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("<thi", ("<thi", "")), ("<think>half</thi", ("", "half</thi")), ("  ", ("  ", "")), ("", ("", ""))],
    ids=["no-tag", "unfinished", "blank", "empty"],
)
def test_what_was_held_back_is_not_lost(text: str, expected: tuple[str, str]) -> None:
    """Where the text ends in what could have become a tag, it is given all the same."""
    splitter = ThinkSplitter()
    first, last = splitter.feed(text), splitter.flush()
    assert (first[0] + last[0], first[1] + last[1]) == expected
