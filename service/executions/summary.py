"""What a run came to, read back from its log: ours or one that Claude Code printed."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import msgspec

from service.contract.decoding import DECODE_ERRORS
from service.executions.stream_json import last_lines, read_lines

_FENCE = re.compile(r"^```(?:json)?[ \t]*\r?\n(?P<body>.*?)^```[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_DECODER = msgspec.json.Decoder(dict[str, Any])
_TAILS = (1 << 16, 1 << 20)
"""How much of a log's end is tried: the message stands near it, and the deltas before it need not be read."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """`text`: what the assistant said last. `report`: its fenced JSON change report, None where there is none.

    `ended`: whether the log has a `result` line; `is_error`: what that says.
    """

    text: str
    report: dict[str, Any] | None
    ended: bool
    is_error: bool


def read_summary(path: Path) -> Summary:
    """The summary of a log, from its end where that is enough. Takes time: not for an event loop. Raises OSError."""
    for size in _TAILS:
        lines, whole = last_lines(path, size)
        if whole or any(_is_message(entry) for entry in read_lines(lines)):
            return summarise(lines)
    with path.open("rb") as every_line:
        return summarise(every_line)


def summarise(lines: Iterable[bytes]) -> Summary:
    """Reads a log line by line. Without a consolidated message (a run cut short) the deltas are put together."""
    text, pieces, result = "", list[str](), None
    for entry in read_lines(lines):
        if entry.get("parent_tool_use_id"):  # what a sub-agent said to the agent
            continue
        match entry.get("type"):
            case "assistant":
                text = _text_of(entry) or text
                pieces.clear()
            case "stream_event":
                pieces.append(_delta_of(entry))
            case "result":
                result = entry
            case _:
                pass
    # Deltas after the last message belong to one that was cut short, and are newer than it.
    text = "".join(pieces) or text
    if result is not None and not text and not result.get("is_error"):
        text = str(result.get("result") or "")
    return Summary(
        text=text,
        report=change_report(text),
        ended=result is not None,
        is_error=bool(result and result.get("is_error")),
    )


def change_report(text: str) -> dict[str, Any] | None:
    """The last fenced JSON object of a text."""
    for match in reversed(list(_FENCE.finditer(text))):
        try:
            return _DECODER.decode(match["body"].encode("utf-8", "replace"))
        except DECODE_ERRORS:
            continue
    return None


def _is_message(entry: dict[str, Any]) -> bool:
    return entry.get("type") == "assistant" and not entry.get("parent_tool_use_id") and bool(_text_of(entry))


def _text_of(entry: dict[str, Any]) -> str:
    content = _object(entry.get("message")).get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [_object(block) for block in cast("Iterable[Any]", content)]
    return "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


def _delta_of(entry: dict[str, Any]) -> str:
    delta = _object(_object(entry.get("event")).get("delta"))
    return str(delta.get("text", "")) if delta.get("type") == "text_delta" else ""


def _object(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
