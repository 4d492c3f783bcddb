"""A small reader of `claude -p --output-format stream-json`, written from what Claude Code documents of it.

The documents: "Run Claude Code programmatically" (streaming responses) and the Agent SDK's reference of SDKMessage. It
knows nothing of this service, and is strict: a field that the documents promise and that is not there is an error.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Transcript:
    """What a run printed. `streamed`: text deltas in order; `messages`: the text of each assistant message."""

    model: str = ""
    session_id: str = ""
    streamed: list[str] = field(default_factory=list[str])
    thinking: str = ""
    blocks: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    messages: list[str] = field(default_factory=list[str])
    result: dict[str, Any] = field(default_factory=dict[str, Any])


def read_transcript(lines: Iterable[bytes]) -> Transcript:
    """Reads every line; AssertionError or KeyError where one is not as documented."""
    found = Transcript()
    for number, line in enumerate(line for line in lines if line.strip()):
        message = json.loads(line)
        assert not found.result, "something came after the result"
        assert (message["type"] == "system" and message["subtype"] == "init") == (number == 0)
        if number == 0:
            found.model, found.session_id = message["model"], message["session_id"]
            assert isinstance(message["tools"], list)
            assert {"cwd", "mcp_servers", "permissionMode", "apiKeySource", "uuid"} <= set(message)
            continue
        assert message["session_id"] == found.session_id
        assert message["uuid"]
        _TAKERS.get(message["type"], _pass_over)(found, message)
    return found


def _stream_event(found: Transcript, message: dict[str, Any]) -> None:
    assert message["parent_tool_use_id"] is None
    event = message["event"]
    match event["type"]:
        case "message_start":
            found.blocks = []
            assert event["message"]["role"] == "assistant"
        case "content_block_start":
            assert event["index"] == len(found.blocks)
            found.blocks.append((event["content_block"]["type"], ""))
        case "content_block_delta":
            index: int = event["index"]
            kind, text = found.blocks[index]
            delta = event["delta"]
            if delta["type"] == "text_delta":
                assert kind == "text"
                found.streamed.append(delta["text"])
            elif delta["type"] == "thinking_delta":
                assert kind == "thinking"
                found.thinking += delta["thinking"]
            found.blocks[index] = (kind, text + delta.get("text", delta.get("thinking", "")))
        case "content_block_stop":
            assert event["index"] == len(found.blocks) - 1
        case _:
            assert event["type"] in {"message_delta", "message_stop", "ping"}


def _assistant(found: Transcript, message: dict[str, Any]) -> None:
    inner = message["message"]
    assert (inner["type"], inner["role"]) == ("message", "assistant")
    assert {"id", "model", "stop_reason", "stop_sequence", "usage"} <= set(inner)
    found.messages.append("".join(block["text"] for block in inner["content"] if block["type"] == "text"))


def _result(found: Transcript, message: dict[str, Any]) -> None:
    assert message["subtype"] in {"success", "error_during_execution", "error_max_turns"}
    assert isinstance(message["is_error"], bool)
    assert isinstance(message["num_turns"], int)
    assert message["duration_ms"] >= 0
    assert message["duration_api_ms"] >= 0
    assert message["total_cost_usd"] >= 0
    assert {"input_tokens", "output_tokens"} <= set(message["usage"])
    assert message["permission_denials"] == []
    found.result = message


def _pass_over(found: Transcript, message: dict[str, Any]) -> None:
    """Types that a reader need not know, such as `user` and later `system` messages."""
    del found, message


_TAKERS = {"stream_event": _stream_event, "assistant": _assistant, "result": _result}
