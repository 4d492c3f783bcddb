"""The local model as a classifier, with the real client over a transport of the test's own."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest

from service.classifiers.classifier import KEPT_REPLY, Blame, Classified, ClassifierError
from service.classifiers.local_model import LocalModelClassifier
from service.contract.catalog import Candidate
from service.contract.decision import Usage
from service.contract.settings import LocalModelSettings
from service.llm.transport import make_http_client
from tests.support.builders import HandClock, brief, small_catalog, task
from tests.support.fake_behaviours import completion
from tests.support.llm_client import llm_client

GOOD = {"agent_type": "alpha", "model": "small", "minutes": 20, "confidence": 0.9, "reason": "Small."}
SETTINGS = LocalModelSettings(endpoint="http://model/v1", model="qwen")


class Server:
    """Answers with the next of its replies (the last one from then on), and records what it was asked."""

    def __init__(self, *replies: object, clock: HandClock | None = None, seconds: float = 0.0) -> None:
        self.asked: list[dict[str, Any]] = []
        self._replies = list(replies)
        self._clock = clock
        self._seconds = seconds

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        self.asked.append(json.loads(request.content))
        if self._clock is not None:
            self._clock.move(self._seconds)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, Exception):
            raise reply
        if not isinstance(reply, httpx.Response):
            content = cast("Any", reply)
            whole = isinstance(reply, dict) and "choices" in reply
            reply = httpx.Response(200, json=content if whole else completion(content))
        # unread, as a network gives it
        return httpx.Response(reply.status_code, headers=reply.headers, stream=httpx.ByteStream(reply.content))


async def classify(
    server: Server,
    *,
    settings: LocalModelSettings = SETTINGS,
    seconds: float = 10.0,
    clock: HandClock | None = None,
    eligible: Callable[[Candidate], bool] = lambda _: True,
) -> Classified:
    """One classification by this server."""
    catalog = small_catalog()
    async with make_http_client(transport=httpx.MockTransport(server), max_connections=4) as http:
        client = llm_client(
            http,
            settings.endpoint,
            model=settings.model,
            timeout_seconds=10,
            max_attempts=1,
            clock=clock or HandClock(),
        )
        asked = LocalModelClassifier(client, settings, clock=clock or HandClock(), random_bytes=lambda n: b"\x07" * n)
        try:
            return await asked.classify(
                brief(task(), catalog, [c for c in catalog.candidates if eligible(c)]), timeout_seconds=seconds
            )
        finally:
            await asked.aclose()
            await client.aclose()


async def refused(server: Server, **more: Any) -> ClassifierError:  # noqa: ANN401 - as `classify`
    """The error of one that gives no verdict."""
    with pytest.raises(ClassifierError) as caught:
        await classify(server, **more)
    return caught.value


async def test_a_verdict_comes_with_its_cost_and_its_record() -> None:
    """The candidate, the server's token counts, and what was asked and answered."""
    server = Server(GOOD)
    found = await classify(server)
    assert found.verdict.candidate.key == ("alpha", "small")
    assert (found.verdict.minutes, found.verdict.confidence, found.verdict.reason) == (20.0, 0.9, "Small.")
    assert found.usage == Usage(tokens_in=10, tokens_out=5)
    assert found.prompt == server.asked[0]["messages"][1]["content"]
    assert json.loads(found.reply) == GOOD


async def test_what_is_sent() -> None:
    """System and user message, json_object, the limit on tokens; no temperature, for none is set."""
    server = Server(GOOD)
    await classify(server)
    (sent,) = server.asked
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    assert sent["model"] == "qwen"
    assert sent["response_format"] == {"type": "json_object"}
    assert sent["max_tokens"] == SETTINGS.max_tokens
    assert "temperature" not in sent


async def test_a_schema_is_sent_in_the_nested_spelling() -> None:
    """Servers silently ignore the flat one; only codes of eligible candidates are in it, so that a server which keeps
    to it cannot answer with another one."""
    server = Server(GOOD)
    settings = LocalModelSettings(endpoint="http://model/v1", model="q", response_format="json_schema", reason=False)
    await classify(server, settings=settings, eligible=lambda c: c.agent_type == "alpha")
    schema = server.asked[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["code"]["enum"] == ["c1", "c2"]
    assert schema["required"] == ["code", "minutes", "confidence"]
    assert "reason" not in schema["properties"]


async def test_none_sends_no_response_format() -> None:
    """For servers that refuse both forms."""
    server = Server(GOOD)
    await classify(server, settings=LocalModelSettings(endpoint="http://m/v1", model="q", response_format="none"))
    assert "response_format" not in server.asked[0]


async def test_what_is_wrong_is_told_back_once() -> None:
    """A reply that cannot be used is followed by one repair turn behind the same prefix; the tokens of both count."""
    server = Server({**GOOD, "model": "huge"}, GOOD)
    found = await classify(server)
    first, second = server.asked
    assert second["messages"][:2] == first["messages"]
    assert [m["role"] for m in second["messages"][2:]] == ["assistant", "user"]
    assert "alpha/huge is not in the list" in second["messages"][3]["content"]
    assert found.usage == Usage(tokens_in=20, tokens_out=10)


async def test_a_second_useless_reply_is_the_end() -> None:
    """There is one repair turn and no more; the failure is the reply's, and its usage is told."""
    server = Server("The second one.", GOOD | {"agent_type": "nobody"}, GOOD)
    error = await refused(server)
    assert (error.problem, error.blame, len(server.asked)) == ("unknown-candidate", Blame.REPLY, 2)
    assert error.usage == Usage(tokens_in=20, tokens_out=10)
    assert json.loads(error.reply)["agent_type"] == "nobody"
    assert error.prompt


async def test_an_ineligible_choice_never_comes_through() -> None:
    """A server that insists on a pair that may not be chosen gives no verdict."""
    error = await refused(Server({**GOOD, "model": "big"}), eligible=_not_big)
    assert error.problem == "ineligible-candidate"


def _not_big(c: Candidate) -> bool:
    return c.model != "big"


async def test_no_repair_without_time_for_it() -> None:
    """Where the first answer took most of the time, a second question would only miss the deadline."""
    clock = HandClock()
    server = Server("prose", GOOD, clock=clock, seconds=7.0)
    error = await refused(server, clock=clock)
    assert (error.problem, len(server.asked)) == ("no-json", 1)


async def test_a_long_reply_is_cut_off_and_says_so() -> None:
    """What max_tokens cut in the middle is called truncated, so that an operator knows which setting to change."""
    error = await refused(Server(completion('{"agent_type": "al', finish_reason="length")))
    assert (error.problem, error.blame) == ("truncated", Blame.REPLY)
    assert "max_tokens" in str(error)


async def test_what_is_kept_of_a_reply_is_bounded() -> None:
    """A megabyte around a good verdict is read up to a limit and not remembered: catches memory that grows."""
    found = await classify(Server(json.dumps(GOOD) + "x" * 900_000))
    assert len(found.reply) == KEPT_REPLY
    assert len((await refused(Server("x" * 900_000))).reply) == KEPT_REPLY


async def test_a_reasoning_model_that_only_thinks_is_to_blame_itself() -> None:
    """No content at all is a useless reply, which a task text can cause, and no outage."""
    error = await refused(Server(completion(None, finish_reason="length", reasoning="hm")))
    assert (error.problem, error.blame) == ("no-content", Blame.REPLY)


@pytest.mark.parametrize(
    ("reply", "problem", "blame", "retry_after"),
    [
        pytest.param(httpx.Response(500), "http-500", Blame.CLASSIFIER, None, id="500"),
        pytest.param(httpx.Response(401), "http-401", Blame.CLASSIFIER, None, id="401"),
        pytest.param(httpx.Response(404), "http-404", Blame.CLASSIFIER, None, id="404"),
        pytest.param(httpx.Response(400), "http-400", Blame.REQUEST, None, id="400"),
        pytest.param(httpx.Response(413), "http-413", Blame.REQUEST, None, id="413"),
        pytest.param(httpx.Response(429, headers={"retry-after": "7"}), "http-429", Blame.CLASSIFIER, 7.0, id="429"),
        pytest.param(httpx.Response(429, headers={"retry-after": "nan"}), "http-429", Blame.CLASSIFIER, None, id="nan"),
        pytest.param(
            httpx.Response(503, headers={"retry-after": "86400"}), "http-503", Blame.CLASSIFIER, 86_400.0, id="a-day"
        ),
        pytest.param(
            httpx.Response(503, headers={"retry-after": "86401"}),
            "http-503",
            Blame.CLASSIFIER,
            None,
            id="more-than-that",
        ),
        pytest.param(httpx.ConnectError("refused"), "connection-failed", Blame.CLASSIFIER, None, id="connect"),
        pytest.param(httpx.ReadTimeout("slow"), "timeout", Blame.CLASSIFIER, None, id="timeout"),
        pytest.param(httpx.Response(200, content=b"<html>"), "not-json", Blame.CLASSIFIER, None, id="html"),
        pytest.param(httpx.Response(200, json={"choices": []}), "no-choices", Blame.CLASSIFIER, None, id="no-choices"),
    ],
)
async def test_a_failed_call_says_whose_fault_it_was(
    reply: object, problem: str, blame: Blame, retry_after: float | None
) -> None:
    """Outages count against the server, a task that does not suit it does not; Retry-After is passed on where sane."""
    error = await refused(Server(reply))
    assert (error.problem, error.blame, error.retry_after) == (problem, blame, retry_after)
    assert error.prompt


async def test_a_time_out_says_how_long_the_server_had() -> None:
    """Whose fault it was is seen by that, and by how long the server usually takes; no other failure says it."""
    error = await refused(Server(httpx.ReadTimeout("slow")), seconds=0.5)
    assert error.problem == "timeout"
    assert error.given_seconds == pytest.approx(0.5, abs=0.1)
    assert (await refused(Server(500))).given_seconds is None


async def test_a_queue_of_our_own_is_not_the_servers_fault() -> None:
    """Where all slots are taken the server was not even asked: catches overload that opens a healthy one's breaker."""
    never = asyncio.Event()

    async def hang(_request: httpx.Request) -> httpx.Response:
        await never.wait()
        return httpx.Response(500)

    async with make_http_client(transport=httpx.MockTransport(hang), max_connections=4) as http:
        client = llm_client(http, "http://model/v1", model="q", timeout_seconds=10, max_attempts=1, max_concurrency=1)
        asked = LocalModelClassifier(client, SETTINGS)
        found = await asyncio.gather(
            *(asked.classify(brief(), timeout_seconds=0.05) for _ in range(2)), return_exceptions=True
        )
        never.set()
        await client.aclose()
    given = {error.problem: error.given_seconds for error in found if isinstance(error, ClassifierError)}
    assert given == {"timeout": pytest.approx(0.05, abs=0.01), "queue-timeout": 0.0}


async def test_a_call_that_got_its_slot_late_does_not_blame_the_server() -> None:
    """What the wait for a slot took was not the server's: catches a burst that opens the breaker of a healthy one,
    because those of the second row have next to no time left when their turn comes."""
    first, never = asyncio.Event(), asyncio.Event()

    async def one_by_one(_request: httpx.Request) -> httpx.Response:
        if first.is_set():
            await never.wait()
        await first.wait()
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(completion(GOOD)).encode()))

    async with make_http_client(transport=httpx.MockTransport(one_by_one), max_connections=4) as http:
        client = llm_client(http, "http://model/v1", model="q", timeout_seconds=10, max_attempts=1, max_concurrency=1)
        asked = LocalModelClassifier(client, SETTINGS)
        ahead = asyncio.create_task(asked.classify(brief(), timeout_seconds=10.0))
        behind = asyncio.create_task(asked.classify(brief(), timeout_seconds=0.4))
        await asyncio.sleep(0.1)
        first.set()
        await ahead
        with pytest.raises(ClassifierError) as caught:
            await behind
        never.set()
        await client.aclose()
    assert caught.value.given_seconds == pytest.approx(0.3, abs=0.1)


async def test_a_repair_that_takes_too_long_is_the_replys_fault() -> None:
    """The server had answered, and uselessly: catches three hostile tasks that open the breaker where it takes twelve,
    by an answer of no use and a second one that takes all the time there is."""
    error = await refused(Server("prose", httpx.ReadTimeout("slow")))
    assert (error.problem, error.blame) == ("timeout", Blame.REPLY)


async def test_no_time_left_is_no_question() -> None:
    """Without any time the server is not asked."""
    server = Server(GOOD)
    assert (await refused(server, seconds=0.0)).problem == "timeout"
    assert server.asked == []
