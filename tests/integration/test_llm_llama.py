"""The client against a real llama.cpp server with a small real model: shapes and protocol, never judgement."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from service.llm.client import LLMClient
from service.llm.errors import LLMStatusError
from service.llm.wire import ChatMessage
from tests.support.llama_server import LlamaServer, missing
from tests.support.llm_client import llm_client

ASK = [ChatMessage(role="user", content="Which one, a or b? Answer as JSON with the key pick.")]

SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "pick",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"pick": {"enum": ["a", "b"]}},
            "required": ["pick"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
async def client(http: httpx.AsyncClient, llama_server: LlamaServer) -> AsyncIterator[LLMClient]:
    """A client of the real server."""
    client = llm_client(
        http, llama_server.endpoint, model=llama_server.model, timeout_seconds=60.0, default_temperature=0.0
    )
    yield client
    await client.aclose()


async def test_a_question_is_answered_with_usage_and_finish_reason(
    client: LLMClient, llama_server: LlamaServer
) -> None:
    """Text, the model's name, token counts and why it ended."""
    reply = await client.chat(ASK, max_tokens=8)
    assert reply.content
    assert reply.model == llama_server.model
    assert reply.finish_reason in ("stop", "length")
    assert reply.usage is not None
    assert reply.usage.tokens_in > 10
    assert 0 < reply.usage.tokens_out <= 8


async def test_json_object_gives_a_json_object(client: LLMClient) -> None:
    """With `json_object` the text is an object, unless the limit cut it, which the finish reason says."""
    reply = await client.chat(ASK, response_format={"type": "json_object"}, max_tokens=40)
    if reply.finish_reason == "length":
        assert reply.content.lstrip().startswith("{")
    else:
        assert isinstance(json.loads(reply.content), dict)


async def test_a_schema_is_enforced(client: LLMClient) -> None:
    """With `json_schema`, spelt as OpenAI does, the answer has that shape."""
    reply = await client.chat(ASK, response_format=SCHEMA, max_tokens=40)
    assert reply.finish_reason == "stop"
    assert json.loads(reply.content)["pick"] in ("a", "b")


async def test_constrained_json_that_is_cut_says_length(client: LLMClient) -> None:
    """`max_tokens` cuts JSON in the middle; the finish reason tells it from a bad answer."""
    reply = await client.chat(ASK, response_format=SCHEMA, max_tokens=2)
    assert reply.finish_reason == "length"
    with pytest.raises(ValueError, match=r".+"):
        json.loads(reply.content)


async def test_the_model_on_offer_is_listed(client: LLMClient, llama_server: LlamaServer) -> None:
    """`models` names what the server serves."""
    assert await client.models(10.0) == [llama_server.model]


async def test_a_prompt_beyond_the_context_is_a_400(client: LLMClient, llama_server: LlamaServer) -> None:
    """The error says how many tokens there were and how many fit; it is not tried again."""
    long = "word " * (llama_server.context_tokens_per_slot + 500)
    with pytest.raises(LLMStatusError, match="context") as caught:
        await client.chat([ChatMessage(role="user", content=long)])
    assert caught.value.status == 400


async def test_a_wrong_key_is_a_401_and_the_right_one_serves(http: httpx.AsyncClient) -> None:
    """The bearer token is what the real server checks."""
    if missing():
        pytest.skip(str(missing()))
    with LlamaServer(api_key="sk-right", context_tokens=1024, slots=1) as server:
        for key in ("sk-wrong", ""):
            with pytest.raises(LLMStatusError) as caught:
                await llm_client(http, server.endpoint, model="m", api_key=key, timeout_seconds=30).chat(ASK)
            assert (caught.value.status, caught.value.problem) == (401, "http-401")
        right = llm_client(http, server.endpoint, model="m", api_key="sk-right", timeout_seconds=60)
        assert (await right.chat(ASK, max_tokens=1)).usage is not None


async def test_a_stream_gives_pieces_and_usage(client: LLMClient) -> None:
    """The pieces make up the answer; the last chunk brings the token counts."""
    async with client.chat_stream(ASK, max_tokens=6) as stream:
        pieces = [delta async for delta in stream]
    reply = stream.reply
    assert 1 < len(pieces) <= 7
    assert "".join(piece.content for piece in pieces) == reply.content
    assert reply.finish_reason in ("stop", "length")
    assert reply.usage is not None
    assert reply.usage.tokens_out <= 6


async def test_the_next_request_after_a_stream_never_fails(http: httpx.AsyncClient, llama_server: LlamaServer) -> None:
    """This server drops the connection behind about every fourth stream; neither chat nor stream may notice.

    Would catch a stream on a kept-alive connection without a retry: RemoteProtocolError for the caller.
    """
    client = llm_client(http, llama_server.endpoint, model=llama_server.model, timeout_seconds=60.0, max_attempts=1)
    for _ in range(8):
        async with client.chat_stream(ASK, max_tokens=2) as stream:
            assert [delta async for delta in stream]
        assert (await client.chat(ASK, max_tokens=1)).content


async def test_leaving_a_stream_stops_the_generation(http: httpx.AsyncClient, llama_server: LlamaServer) -> None:
    """The server's own metrics say that nothing is being worked on soon after the caller left."""
    client = llm_client(http, llama_server.endpoint, extra_body={"ignore_eos": True})
    question = [ChatMessage(role="user", content="Count to a thousand.")]
    async with client.chat_stream(question, max_tokens=1500) as stream:
        await anext(stream)
        assert await _busy(llama_server) == 1
    async with asyncio.timeout(30):
        while await _busy(llama_server):  # noqa: ASYNC110 - what changes is in another process
            await asyncio.sleep(0.05)
    assert stream.reply.finish_reason is None


async def _busy(server: LlamaServer) -> int:
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"{server.base_url}/metrics", timeout=30)).text
    found = [line.split()[-1] for line in text.splitlines() if line.startswith("llamacpp:requests_processing ")]
    return int(float(found[0]))


async def test_more_questions_than_slots_are_all_answered(client: LLMClient) -> None:
    """The server queues what it cannot take at once, and so does the client."""
    replies = await asyncio.gather(*(client.chat(ASK, max_tokens=1) for _ in range(12)))
    assert all(reply.usage is not None for reply in replies)
