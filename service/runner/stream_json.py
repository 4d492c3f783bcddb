"""The stream-json envelope that Claude Code prints (`--output-format stream-json --include-partial-messages`).

One JSON object a line: `system/init` first, `stream_event`s with text deltas, one consolidated `assistant` message,
and `result` last, whatever became of the run.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import msgspec

from service.decoding import DECODE_ERRORS
from service.ids import uuid7

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(dict[str, Any])


class StreamJson:
    """The lines of one run, as bytes with their newline."""

    def __init__(self, execution_id: str, model: str) -> None:
        self._session = execution_id
        self._model = model

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
        return self._event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})

    def thinking(self, text: str) -> bytes:
        """A piece of what a reasoning model thought aloud; never part of the answer."""
        return self._event(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": text}}
        )

    def assistant(self, text: str, *, stop_reason: str | None, usage: dict[str, int]) -> bytes:
        """The whole answer in one message."""
        message = {
            "id": f"msg_{self._session}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }
        return _line(
            {
                "type": "assistant",
                "message": message,
                "parent_tool_use_id": None,
                "session_id": self._session,
                "uuid": uuid7(),
            }
        )

    def result(self, text: str, *, subtype: str, duration_ms: int, usage: dict[str, int], num_turns: int = 1) -> bytes:
        """How it ended: `success`, or `error_during_execution` with the reason as text. It cost nothing."""
        return _line(
            {
                "type": "result",
                "subtype": subtype,
                "is_error": subtype != "success",
                "duration_ms": duration_ms,
                "duration_api_ms": duration_ms,
                "num_turns": num_turns,
                "result": text,
                "session_id": self._session,
                "total_cost_usd": 0,
                "usage": usage,
                "uuid": uuid7(),
            }
        )

    def _event(self, event: dict[str, Any]) -> bytes:
        return _line(
            {
                "type": "stream_event",
                "event": event,
                "parent_tool_use_id": None,
                "session_id": self._session,
                "uuid": uuid7(),
            }
        )


class LogFile:
    """A log that is appended to line by line, each flushed, so that a reader who follows sees it at once."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where it cannot be written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("ab", buffering=0)
        if path.stat().st_size and not _ends_with_newline(path):
            self._file.write(b"\n")  # the process died within a line: the next one starts fresh

    def write(self, line: bytes) -> None:
        """Raises OSError, for example where the disk is full."""
        view = memoryview(line)
        while view:
            view = view[self._file.write(view) :]

    def close(self) -> None:
        """Closes it; twice is once."""
        self._file.close()


def read_lines(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The objects of a log; a line that is none (cut off by a crash) is passed over."""
    found: list[dict[str, Any]] = []
    for line in lines:
        try:
            found.append(_DECODER.decode(line))
        except DECODE_ERRORS:
            continue
    return found


def has_result(path: Path) -> bool:
    """Whether a log ends in a `result` line; only its tail is read. Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 20)))
        return any(entry.get("type") == "result" for entry in read_lines(file.read().split(b"\n")[-3:]))


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _line(value: dict[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(value) + b"\n"
    except UnicodeError:  # a lone surrogate from a hostile server
        return _ENCODER.encode(_replaced(value)) + b"\n"


def _replaced(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _replaced(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType] - JSON
    if isinstance(value, list):
        return [_replaced(item) for item in value]  # pyright: ignore[reportUnknownVariableType] - JSON
    return value
