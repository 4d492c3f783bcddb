"""What is sent to a model server and how its answer is read."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contract.decision import Usage
from service.llm.errors import LLMReplyError, LLMRequestError
from service.llm.wire import (
    ChatMessage,
    check_extra_body,
    decode_chunk,
    decode_models,
    decode_reply,
    encode_request,
    usage_of,
)
from tests.support.fake_behaviours import completion

ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)

HELLO = [ChatMessage(role="user", content="hello")]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def _reply_problem(body: bytes) -> str:
    with pytest.raises(LLMReplyError) as caught:
        decode_reply(body, model="asked")
    return caught.value.problem


def test_a_request_holds_model_messages_and_what_is_set() -> None:
    """Fields that are None are left out of the request."""
    body = encode_request(HELLO, model="m", fields={"temperature": 0.0, "max_tokens": None})
    assert json.loads(body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.0,
    }


@pytest.mark.parametrize(
    ("content", "fields", "problem"),
    [
        pytest.param("\ud800", {}, "not-unicode", id="lone-surrogate"),
        pytest.param("x", {"extra": object()}, "bad-call", id="no-json-value"),
        pytest.param("x", {"extra": ENDLESS}, "bad-call", id="cycle"),
    ],
)
def test_a_request_that_is_no_json_is_refused(content: str, fields: dict[str, Any], problem: str) -> None:
    """What JSON cannot carry is an LLMRequestError before anything is sent."""
    with pytest.raises(LLMRequestError) as caught:
        encode_request([ChatMessage(role="user", content=content)], model="m", fields=fields)
    assert caught.value.problem == problem


@pytest.mark.parametrize("name", ["messages", "model", "stream"])
def test_extra_body_may_not_replace_the_question(name: str) -> None:
    """`messages`, `model` and `stream` are not for `extra_body` to set."""
    with pytest.raises(LLMRequestError, match=name):
        check_extra_body({name: 1})


def test_an_answer_is_read_with_usage_and_finish_reason() -> None:
    """Content, model, finish reason, token counts and reasoning are all there, each apart."""
    body = completion("yes", finish_reason="length", usage=(7, 3), reasoning="hm")
    reply = decode_reply(json.dumps(body).encode(), model="asked")
    assert reply.content == "yes"
    assert reply.model == "fake-model"
    assert reply.finish_reason == "length"
    assert reply.usage == Usage(tokens_in=7, tokens_out=3)
    assert reply.reasoning == "hm"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_never_part_of_the_content(field: str) -> None:
    """Both names under which servers send reasoning are read, and neither reaches the content."""
    body = {"choices": [{"message": {"content": "yes", field: "because"}}]}
    reply = decode_reply(json.dumps(body).encode(), model="asked")
    assert (reply.content, reply.reasoning) == ("yes", "because")


def test_what_is_not_needed_may_be_odd() -> None:
    """Odd usage, model, finish reason and reasoning are dropped, and the answer counts all the same."""
    body = {
        "choices": [{"message": {"content": "yes", "reasoning": [1]}, "finish_reason": 3}],
        "model": None,
        "usage": {"prompt_tokens": "many"},
    }
    reply = decode_reply(b"\xef\xbb\xbf" + json.dumps(body).encode(), model="asked")
    assert (reply.content, reply.model) == ("yes", "asked")
    assert (reply.finish_reason, reply.usage, reply.reasoning) == (None, None, None)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(b"", "not-json", id="empty"),
        pytest.param(b"<html>busy</html>", "not-json", id="html"),
        pytest.param(b'{"choices": [', "not-json", id="cut"),
        pytest.param(b'{"choices": []} tail', "not-json", id="trailing-text"),
        pytest.param(b'{"choices": [{"message": {"content": "\xff"}}]}', "not-utf8", id="not-utf8"),
        pytest.param(b'{"choices": ' + b"[" * 100_000, "wrong-shape", id="deep-choices"),
        pytest.param(b'{"usage": ' + b"[" * 100_000, "too-deep", id="deep"),
        pytest.param(b"[]", "wrong-shape", id="list"),
        pytest.param(b'"text"', "wrong-shape", id="string"),
        pytest.param(b"{}", "no-choices", id="nothing"),
        pytest.param(b'{"choices": []}', "no-choices", id="no-choices"),
        pytest.param(b'{"choices": null}', "no-choices", id="null-choices"),
        pytest.param(b'{"choices": {}}', "wrong-shape", id="choices-object"),
        pytest.param(b'{"choices": [{}]}', "wrong-shape", id="no-message"),
        pytest.param(b'{"choices": [{"message": {}}]}', "no-content", id="no-content"),
        pytest.param(b'{"choices": [{"message": {"content": null}}]}', "no-content", id="null-content"),
        pytest.param(b'{"choices": [{"message": {"content": 1}}]}', "wrong-shape", id="number-content"),
        pytest.param(b'{"choices": [{"message": {"content": [{"text": "x"}]}}]}', "wrong-shape", id="content-parts"),
    ],
)
def test_an_answer_that_is_none_says_what_is_wrong(body: bytes, problem: str) -> None:
    """Each malformed answer is an LLMReplyError with a problem of its own, never another exception."""
    assert _reply_problem(body) == problem


def test_an_answer_without_choices_says_so_and_what_the_server_says() -> None:
    """The error names the missing choices, and the server's own message with the key taken out."""
    body = b'{"error": {"message": "model not loaded for sk-1\\u001b[31m"}}'
    with pytest.raises(LLMReplyError, match=r"no choices.*model not loaded for \*\*\*$"):
        decode_reply(body, model="asked", secrets=["sk-1"])


@given(JSON)
def test_no_answer_breaks_the_decoder(value: object) -> None:
    """Whatever JSON a server sends is an answer or an LLMReplyError."""
    body = json.dumps({"choices": [{"message": value}], "usage": value, "model": value, "error": value}).encode()
    for candidate in (body, json.dumps({"choices": value, "error": value}).encode(), json.dumps(value).encode()):
        with suppress(LLMReplyError):
            assert isinstance(decode_reply(candidate, model="asked").content, str)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoders(body: bytes) -> None:
    """Bytes of any kind give a value or an LLMReplyError."""
    decode_chunk(body)
    with suppress(LLMReplyError):
        assert isinstance(decode_reply(body, model="asked").content, str)
    with suppress(LLMReplyError):
        assert isinstance(decode_models(body), list)


@given(JSON)
def test_usage_is_read_or_none(value: object) -> None:
    """Token counts are non-negative integers, or there are none."""
    usage = usage_of({"prompt_tokens": value, "completion_tokens": value})
    assert usage is None or (usage.tokens_in >= 0 and usage.tokens_out >= 0)


def test_the_models_of_a_server_are_its_ids() -> None:
    """`GET /models` gives the ids in order; another shape is an LLMReplyError."""
    assert decode_models(b'{"object": "list", "data": [{"id": "b"}, {"id": "a", "more": 1}]}') == ["b", "a"]
    with pytest.raises(LLMReplyError):
        decode_models(b'{"data": [{"name": "b"}]}')


def test_wire_types_cannot_be_changed() -> None:
    """A message is immutable, so that a conversation can be shared."""
    with pytest.raises(AttributeError):
        HELLO[0].content = "other"  # type: ignore[misc] # the rule under test # pyright: ignore[reportAttributeAccessIssue] - likewise
    assert msgspec.structs.asdict(HELLO[0]) == {"role": "user", "content": "hello"}
