"""The envelopes of agent CLIs: the answer and the usage come out, everything else is an error with a name."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.classifiers.envelope import CliEnvelopeError, CliReply
from service.classifiers.programs import preset_of
from service.contract.decision import Usage

Unwrap = Callable[[str, str], CliReply]

unwrap_any = preset_of("command").unwrap
unwrap_claude = preset_of("claude").unwrap
unwrap_codex = preset_of("codex").unwrap
unwrap_gemini = preset_of("gemini").unwrap
unwrap_llm = preset_of("llm").unwrap

VERDICT = '{"agent_type": "claude"}'


def gemini(**changes: object) -> str:
    """An envelope as gemini 0.61.0 prints it, shortened."""
    tokens = {"input": 120, "prompt": 120, "candidates": 30, "total": 160, "cached": 0, "thoughts": 10, "tool": 0}
    router = {"prompt": 40, "candidates": 2, "total": 42, "thoughts": 0}
    stats = {
        "models": {"gemini-2.5-flash-lite": {"api": {}, "tokens": router}, "gemini-2.5-flash": {"tokens": tokens}},
        "tools": {"totalCalls": 0},
    }
    return json.dumps({"session_id": "s", "response": VERDICT, "stats": stats} | changes, indent=2)


def claude(**changes: object) -> str:
    """An envelope as claude 2.1.197 prints it, shortened."""
    usage = {
        "input_tokens": 11,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 2,
        "output_tokens": 5,
        "server_tool_use": {"web_search_requests": 0},
    }
    envelope: dict[str, object] = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "result": VERDICT,
        "total_cost_usd": 0.000036,
        "usage": usage,
        "modelUsage": {"claude-haiku-4-5-20251001": {"inputTokens": 11, "outputTokens": 5, "costUSD": 0.000036}},
    }
    return json.dumps(envelope | changes) + "\n"


CODEX = "\n".join(
    [
        '{"type":"thread.started","thread_id":"t"}',
        '{"type":"item.completed","item":{"id":"item_0","type":"error","message":"a warning"}}',
        '{"type":"turn.started"}',
        '{"type":"error","message":"Reconnecting... 2/5"}',
        '{"type":"item.completed","item":{"id":"item_1","type":"agent_message","text":"thinking aloud"}}',
        json.dumps({"type": "item.completed", "item": {"id": "item_2", "type": "agent_message", "text": VERDICT}}),
        '{"type":"turn.completed","usage":{"input_tokens":11,"cached_input_tokens":0,"output_tokens":5}}',
        "",
    ]
)


def test_gemini() -> None:
    """`response`; tokens of all models together, thoughts as output."""
    assert unwrap_gemini(gemini(), "") == CliReply(text=VERDICT, usage=Usage(tokens_in=160, tokens_out=42))


def test_claude() -> None:
    """`result`; cached tokens are read too; the cost as told."""
    assert unwrap_claude(claude(), "") == CliReply(
        text=VERDICT, usage=Usage(tokens_in=16, tokens_out=5, cost_usd=0.000036)
    )


def test_codex() -> None:
    """The last agent message counts; a warning or a reconnection on the way is no failure."""
    assert unwrap_codex(CODEX, "") == CliReply(text=VERDICT, usage=Usage(tokens_in=11, tokens_out=5))


def test_llm() -> None:
    """Plain text, and the tokens from stderr where they stand there."""
    assert unwrap_llm(VERDICT, "Token usage: 1,234 input, 5 output, {}") == CliReply(
        text=VERDICT, usage=Usage(tokens_in=1234, tokens_out=5)
    )
    assert unwrap_llm(VERDICT, "") == CliReply(text=VERDICT)


@pytest.mark.parametrize(
    ("unwrap", "stdout", "told"),
    [
        pytest.param(unwrap_gemini, gemini(response=None, error={"message": "quota"}), "quota", id="gemini"),
        pytest.param(unwrap_claude, claude(is_error=True, result="API Error: 400"), "API Error: 400", id="claude"),
        pytest.param(
            unwrap_claude, claude(is_error=True, subtype="error_max_turns", result=None), "error_max", id="claude turns"
        ),
        pytest.param(
            unwrap_codex, CODEX + '{"type":"turn.failed","error":{"message":"no luck"}}', "no luck", id="codex"
        ),
        pytest.param(unwrap_any, claude(is_error=True, result="API Error: 400"), "API Error: 400", id="a command"),
    ],
)
def test_an_error_that_is_reported_inside(unwrap: Unwrap, stdout: str, told: str) -> None:
    """A program that says in its envelope that it failed has failed, though it exits with 0."""
    with pytest.raises(CliEnvelopeError, match=told) as caught:
        unwrap(stdout, "")
    assert caught.value.problem == "reported-error"


@pytest.mark.parametrize("unwrap", [unwrap_gemini, unwrap_claude, unwrap_codex], ids=["gemini", "claude", "codex"])
@pytest.mark.parametrize(
    "stdout",
    [
        pytest.param("", id="empty"),
        pytest.param("Welcome!", id="prose"),
        pytest.param("{}", id="another object"),
        pytest.param("[1]", id="a list"),
        pytest.param(gemini()[:200], id="cut gemini"),
        pytest.param(claude()[:200], id="cut claude"),
        pytest.param(CODEX[:300], id="cut codex"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param('{"type": "result", "is_error": "no", "response": 1}', id="wrong types"),
    ],
)
def test_a_garbled_envelope(unwrap: Unwrap, stdout: str) -> None:
    """Whatever else a program prints is one kind of error, never an exception of the JSON library."""
    with pytest.raises(CliEnvelopeError) as caught:
        unwrap(stdout, "")
    assert caught.value.problem == "bad-envelope"


@pytest.mark.parametrize(
    ("unwrap", "stdout"),
    [
        pytest.param(unwrap_gemini, gemini(stats={"models": {"m": {"tokens": {"prompt": "many"}}}}), id="gemini"),
        pytest.param(unwrap_gemini, gemini(stats=[1]), id="gemini, a list"),
        pytest.param(unwrap_claude, claude(usage={"input_tokens": -1}, total_cost_usd=-3, modelUsage=4), id="claude"),
        pytest.param(unwrap_claude, claude(usage=None, total_cost_usd="free", modelUsage={}), id="claude, null"),
        pytest.param(unwrap_codex, CODEX.replace('"input_tokens":11', '"input_tokens":null'), id="codex"),
    ],
)
def test_statistics_of_another_shape_cost_no_answer(unwrap: Unwrap, stdout: str) -> None:
    """A new version may count differently: then the counts are unknown and the answer is the same."""
    assert unwrap(stdout, "") == CliReply(text=VERDICT)


@pytest.mark.parametrize("stdout", [gemini(), claude(), CODEX, VERDICT], ids=["gemini", "claude", "codex", "text"])
def test_a_command_may_print_any_known_envelope(stdout: str) -> None:
    """Each is recognised by its fields; a bare verdict is its own answer."""
    assert unwrap_any(stdout, "").text == VERDICT


@pytest.mark.parametrize(
    "stdout",
    ["I choose claude", '{"type": "result"}', '{"response": "x"}', '{"a": 1}\n{"b": 2}', "[1, 2]", "{not json"],
)
def test_a_command_may_print_any_text(stdout: str) -> None:
    """What is no envelope is the answer as it is; whether it holds a verdict is decided elsewhere."""
    assert unwrap_any(stdout, "") == CliReply(text=stdout)


@pytest.mark.parametrize("unwrap", [unwrap_any, unwrap_llm], ids=["command", "llm"])
@pytest.mark.parametrize("stdout", ["", " \n\t", "\xa0"], ids=["empty", "white space", "other white space"])
def test_nothing_is_no_answer(unwrap: Unwrap, stdout: str) -> None:
    """A program that prints nothing gave no answer, whatever its status."""
    with pytest.raises(CliEnvelopeError, match="printed nothing"):
        unwrap(stdout, "")


@given(st.text(), st.sampled_from([unwrap_any, unwrap_claude, unwrap_codex, unwrap_gemini, unwrap_llm]))
def test_no_text_breaks_an_unwrapper(stdout: str, unwrap: Unwrap) -> None:
    """Any text gives a reply or a CliEnvelopeError."""
    try:
        reply = unwrap(stdout, stdout)
    except CliEnvelopeError:
        return
    assert reply.text.strip()
