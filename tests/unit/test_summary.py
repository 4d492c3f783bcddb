"""Summaries of logs: ours, Claude Code's, and those of runs that were cut short."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.executions.stream_json import StreamJson
from service.executions.summary import change_report, read_summary, summarise

USAGE = {"input_tokens": 1, "output_tokens": 1}
REPORT = {"summary": "s", "files": [{"path": "a.py", "change": "c"}]}


def claude(*texts: str, result: str | None = None, parent: str | None = None) -> list[bytes]:
    """Lines of Claude Code: a message a text, and the result where there is one."""
    entries: list[dict[str, Any]] = [
        {
            "type": "assistant",
            "message": {"role": "assistant", "content": [{"type": "text", "text": text}]},
            "parent_tool_use_id": parent,
        }
        for text in texts
    ]
    if result is not None:
        entries.append({"type": "result", "subtype": "success", "is_error": False, "result": result})
    return [json.dumps(entry).encode() for entry in entries]


def test_the_last_message_counts() -> None:
    """Of several messages the last one with text is the summary; tool calls have none."""
    tool = b'{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Edit","input":{}}]}}'
    found = summarise([*claude("first", "second"), tool, *claude(result="second")])
    assert (found.text, found.ended, found.is_error) == ("second", True, False)


def test_what_a_sub_agent_said_is_not_the_answer() -> None:
    """Messages within a tool call are passed over."""
    assert summarise([*claude("mine"), *claude("its", parent="toolu_1")]).text == "mine"


def test_a_run_cut_short_has_its_deltas() -> None:
    """Without a consolidated message the pieces are put together, and the run is said not to have ended."""
    lines = StreamJson("0190", "m")
    log = lines.init("/") + lines.thinking("hm") + lines.delta("half an ") + lines.delta("answer")
    found = summarise(log.splitlines())
    assert (found.text, found.ended) == ("half an answer", False)


def test_pieces_after_the_last_message_are_newer() -> None:
    """A second message that was cut short is what was said last."""
    lines = StreamJson("0190", "m")
    assert summarise([*claude("done"), *lines.delta("and then").splitlines()]).text == "and then"


def test_the_result_stands_in_for_a_message() -> None:
    """A transcript without partial and whole messages still has its result's text; an error's text is no answer."""
    assert summarise(claude(result="only this")).text == "only this"
    failed = b'{"type":"result","subtype":"error_during_execution","is_error":true,"result":"broke"}'
    found = summarise([failed])
    assert (found.text, found.is_error) == ("", True)


@pytest.mark.parametrize(
    ("text", "report"),
    [
        (f"Done.\n```json\n{json.dumps(REPORT, indent=1)}\n```\n", REPORT),
        (f"```\n{json.dumps(REPORT)}\n```", REPORT),
        (f"```json\r\n{json.dumps(REPORT)}\r\n```\r\n", REPORT),
        ('```json\n{"n": 1}\n```\nand\n```json\n{"n": 2}\n```', {"n": 2}),
        ('```json\n{"n": 1}\n```\n```python\nprint()\n```', {"n": 1}),
        ('```json\n{"n": 1}\n```\n```json\n{broken\n```', {"n": 1}),
        ("no fence {}", None),
        ("```json\n[1]\n```", None),
        ("```json\n{", None),
    ],
    ids=["json", "bare", "crlf", "last", "other-language", "broken-last", "none", "no-object", "open"],
)
def test_the_change_report_is_read_back(text: str, report: dict[str, Any] | None) -> None:
    """The last fenced JSON object is the report; anything else is none."""
    assert change_report(text) == report
    assert summarise(claude(text)).report == report


@pytest.mark.parametrize("size", [10, 100_000, 2_000_000], ids=["short", "long", "longer-than-any-tail"])
def test_a_log_is_read_from_its_end(tmp_path: Path, size: int) -> None:
    """However long the answer is, the summary of the file is that of all its lines."""
    lines, text = StreamJson("0190", "m"), "x" * size + "\n```json\n{}\n```"
    log = lines.init("/") + lines.delta(text)
    log += lines.assistant(text, stop_reason=None, usage=USAGE)
    log += lines.result(text, exit_reason="completed", is_error=False, duration_ms=1, usage=USAGE)
    file = tmp_path / "log"
    file.write_bytes(log)
    found = read_summary(file)
    assert (found.text, found.report, found.ended) == (text, {}, True)
    assert found == summarise(log.splitlines())


def test_a_long_log_cut_short_is_read_whole(tmp_path: Path) -> None:
    """Where no message stands at the end, every delta counts."""
    lines = StreamJson("0190", "m")
    file = tmp_path / "log"
    file.write_bytes(lines.init("/") + b"".join(lines.delta(f"{n} ") for n in range(6000)))
    assert file.stat().st_size > 1 << 20
    assert read_summary(file).text == "".join(f"{n} " for n in range(6000))
