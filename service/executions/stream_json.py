"""The stream-json envelope that Claude Code prints (`--output-format stream-json --include-partial-messages`).

One JSON object a line: `system/init` first, then `stream_event`s with what the Anthropic API would stream (the text in
`text_delta`s), one consolidated `assistant` message, and `result` last, whatever became of the run.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from service.base.ids import uuid7
from service.base.text import inert
from service.contract.decoding import DECODE_ERRORS

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(dict[str, Any])


class StreamJson:
    """The lines of one run, in the order in which they are asked for; each call gives one or more whole lines."""

    def __init__(self, execution_id: str, model: str) -> None:
        self._session = execution_id
        self._model = model
        self._block: str | None = None
        self._index = -1

    def init(self, cwd: str) -> bytes:
        """What runs: model, execution, and that it has no tools."""
        return _line(
            {
                "type": "system",
                "subtype": "init",
                "cwd": cwd,
                "session_id": self._session,
                "execution_id": self._session,
                "tools": [],
                "mcp_servers": [],
                "model": self._model,
                "permissionMode": "default",
                "apiKeySource": "none",
                "uuid": uuid7(),
            }
        )

    def delta(self, text: str) -> bytes:
        """A piece of the answer as it came."""
        return self._in_block("text", {"type": "text_delta", "text": text})

    def thinking(self, text: str) -> bytes:
        """A piece of what a reasoning model thought aloud; never part of the answer."""
        return self._in_block("thinking", {"type": "thinking_delta", "thinking": text})

    def assistant(self, text: str, *, stop_reason: str | None, usage: dict[str, int]) -> bytes:
        """The whole answer in one message, and the end of the streamed one."""
        message = self._message([{"type": "text", "text": text}], usage) | {"stop_reason": stop_reason}
        delta = {"stop_reason": stop_reason, "stop_sequence": None}
        return b"".join(
            [
                self._entry({"type": "assistant", "message": message}),
                self._event({"type": "content_block_stop", "index": max(0, self._index)}),
                self._event({"type": "message_delta", "delta": delta, "usage": usage}),
                self._event({"type": "message_stop"}),
            ]
        )

    def result(self, text: str, *, exit_reason: str, is_error: bool, duration_ms: int, usage: dict[str, int]) -> bytes:
        """How it ended. It cost nothing. `exit_reason` is this service's own; all else is as Claude Code has it."""
        return _line(
            {
                "type": "result",
                "subtype": "error_during_execution" if is_error else "success",
                "is_error": is_error,
                "duration_ms": duration_ms,
                "duration_api_ms": duration_ms,
                "num_turns": 1,
                "result": text,
                "exit_reason": exit_reason,
                "session_id": self._session,
                "total_cost_usd": 0,
                "usage": usage,
                "permission_denials": [],
                "uuid": uuid7(),
            }
        )

    def _in_block(self, kind: str, delta: dict[str, Any]) -> bytes:
        """The delta, and before it the end of another block and the beginning of its own where that is due."""
        lines: list[bytes] = []
        if self._block is None:
            message = self._message([], {"input_tokens": 0, "output_tokens": 0})
            lines.append(self._event({"type": "message_start", "message": message}))
        if self._block != kind:
            if self._block is not None:
                lines.append(self._event({"type": "content_block_stop", "index": self._index}))
            self._block = kind
            self._index += 1
            block = {"type": kind, kind: ""}
            lines.append(self._event({"type": "content_block_start", "index": self._index, "content_block": block}))
        lines.append(self._event({"type": "content_block_delta", "index": self._index, "delta": delta}))
        return b"".join(lines)

    def _message(self, content: list[Any], usage: dict[str, int]) -> dict[str, Any]:
        return {
            "id": f"msg_{self._session}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }

    def _event(self, event: dict[str, Any]) -> bytes:
        return self._entry({"type": "stream_event", "event": event})

    def _entry(self, entry: dict[str, Any]) -> bytes:
        return _line({**entry, "parent_tool_use_id": None, "session_id": self._session, "uuid": uuid7()})


def read_lines(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of a log; a line that is none (cut off by a crash) is passed over."""
    for line in lines:
        try:
            yield _DECODER.decode(line)
        except DECODE_ERRORS:
            continue


def last_lines(path: Path, size: int) -> tuple[list[bytes], bool]:
    """The whole lines within the last `size` bytes, and whether that is the whole file. Raises OSError."""
    with path.open("rb") as file:
        start = max(0, file.seek(0, 2) - size)
        file.seek(start)
        lines = file.read().split(b"\n")
    return lines if start == 0 else lines[1:], start == 0


def result_of(path: Path) -> dict[str, Any] | None:
    """The `result` line in which a log ends; None where it has none. Raises OSError."""
    last = b""
    with path.open("rb") as file:
        for line in file:
            last = line if line.strip() else last
    entry = next(read_lines([last]), None)
    return entry if entry is not None and entry.get("type") == "result" else None


def _line(value: dict[str, Any]) -> bytes:
    try:
        line = _ENCODER.encode(value)
    except UnicodeError:  # half of a surrogate pair becomes a question mark
        line = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return inert(line) + b"\n"
