"""What a run came to, read back from its log: ours or one that Claude Code printed."""

import re
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from service.decoding import DECODE_ERRORS
from service.runner.stream_json import read_lines

_FENCE = re.compile(r"^```(?:json)?[ \t]*\n(?P<body>.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
_DECODER = msgspec.json.Decoder(dict[str, Any])


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """`text`: what the assistant said last. `report`: its fenced JSON change report, None where there is none.

    `ended`: whether the log has a `result` line; `is_error`: what that says.
    """

    text: str
    report: dict[str, Any] | None
    ended: bool
    is_error: bool


def summarise(lines: Iterable[bytes]) -> Summary:
    """Reads a log line by line. Without a consolidated message (a run cut short) the deltas are put together."""
    text, pieces, result = "", list[str](), None
    for entry in read_lines(lines):
        match entry.get("type"):
            case "assistant":
                text = _text_of(entry) or text
                pieces.clear()
            case "stream_event":
                pieces.append(_delta_of(entry))
            case "result":
                result = entry
            case _:
                continue
    if result is not None and not text and not result.get("is_error"):
        text = str(result.get("result") or "")
    text = text or "".join(pieces)
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


def _text_of(entry: dict[str, Any]) -> str:
    message = entry.get("message")
    content: Any = cast("dict[str, Any]", message).get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [cast("dict[str, Any]", block) for block in _items(content) if isinstance(block, dict)]
    return "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")


def _items(content: Any) -> list[Any]:  # noqa: ANN401 - a JSON value known to be a list
    return list(content)


def _delta_of(entry: dict[str, Any]) -> str:
    event = entry.get("event")
    delta: Any = cast("dict[str, Any]", event).get("delta") if isinstance(event, dict) else None
    return str(cast("dict[str, Any]", delta).get("text", "")) if isinstance(delta, dict) else ""
