"""What model servers of each protocol answer, made from the request: for the fake endpoint, and for a transport.

The form of `/v1/decisions` is written from its documentation (OpenAI's Decisions API, public beta, 2026-10), that of
`/v1/systemone` is also checked against a real server (tests/integration/test_protocols_llama.py).
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from tests.support.fake_behaviours import completion
from tests.support.fake_exchange import Behaviour, Exchange

PROTOCOLS = ("chat", "labels", "systemone", "decisions")
GOOD = "claude/haiku"
LEAD = 0.7


def spoken_by(request: dict[str, Any], path: str) -> str:
    """The protocol of a request."""
    if path.endswith("/systemone"):
        return "systemone"
    if path.endswith("/decisions"):
        return "decisions"
    return "labels" if "logprobs" in request else "chat"


def speaks(*protocols: str, choice: str = GOOD, lead: float = LEAD) -> Behaviour:
    """A server that answers these protocols with `choice`, and with 404 what it has no route for."""

    async def behave(exchange: Exchange) -> None:
        asked = exchange.request.json
        protocol = spoken_by(asked, exchange.request.path)
        if protocol == "labels" and "labels" not in protocols and "chat" in protocols:
            protocol = "chat"  # what it does not know it ignores
        if protocol not in protocols:
            error = {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}
            await exchange.respond(404, json.dumps(error).encode())
            return
        await exchange.respond(200, json.dumps(good_answer(asked, protocol, choice=choice, lead=lead)).encode())

    return behave


def good_answer(asked: dict[str, Any], protocol: str, *, choice: str = GOOD, lead: float = LEAD) -> dict[str, Any]:
    """The answer of a healthy server, which puts `lead` of the probability on the candidate `choice`."""
    match protocol:
        case "systemone":
            return _system_one(asked, choice, lead)
        case "decisions":
            return _decisions(asked, choice, lead)
        case "labels":
            return _labels(asked, choice, lead)
        case _:
            agent_type, _, model = choice.partition("/")
            verdict = {"agent_type": agent_type, "model": model, "minutes": 30, "confidence": 0.8, "reason": "It fits."}
            return completion(verdict)


def shared(options: Iterable[str], best: str, lead: float = LEAD) -> dict[str, float]:
    """`lead` for one option, the rest in equal parts."""
    names = list(options)
    if len(names) == 1:
        return {names[0]: 1.0}
    return {name: lead if name == best else (1 - lead) / (len(names) - 1) for name in names}


def _system_one(asked: dict[str, Any], choice: str, lead: float) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for name, question in asked["questions"].items():
        criteria = question["criteria"]
        levels = {str(number): text for number, text in enumerate(criteria)}
        options: dict[str, str] = criteria if question["type"] == "choice" else levels
        best = next((key for key, text in options.items() if text.startswith(f"{choice}:")), next(iter(options)))
        probabilities = shared(options, best, lead)
        answers[name] = {"type": question["type"], "probabilities": probabilities, "confidence": 0.5}
        if question["type"] == "choice":
            answers[name]["choice"] = best
    return {"model": asked["model"], "answers": answers, "usage": {"input_tokens": 40, "output_tokens": 0}}


def _decisions(asked: dict[str, Any], choice: str, lead: float) -> dict[str, Any]:
    answers: list[dict[str, Any]] = []
    for question in asked["questions"]:
        if question["type"] == "choice":
            options = {one["value"]: one["description"] for one in question["choices"]}
            best = next((key for key, text in options.items() if text.startswith(f"{choice}:")), next(iter(options)))
            told = [{"value": key, "probability": p} for key, p in shared(options, best, lead).items()]
            answers.append({"type": "choice", "name": question["name"], "choice": best, "probabilities": told})
        else:
            labels = [level["label"] for level in question["levels"]]
            told = [
                {"label": label, "value": value, "probability": p}
                for value, (label, p) in enumerate(shared(labels, labels[1], lead).items())
            ]
            answers.append({"type": "score", "name": question["name"], "score": 1.0, "probabilities": told})
    usage = {"input_tokens": 40, "output_tokens": 0, "total_tokens": 40}
    return {"model": asked["model"], "answers": answers, "usage": usage}


def _labels(asked: dict[str, Any], choice: str, lead: float) -> dict[str, Any]:
    listed = dict(re.findall(r"^([A-Z]): ([^:]+):", asked["messages"][0]["content"], re.MULTILINE))
    letter = next((label for label, name in listed.items() if name == choice), "A")
    grammar = asked.get("grammar", f"root ::= [{''.join(listed)}] [123456]")
    questions = re.findall(r"\[(\w+)\]", grammar)
    tokens: list[dict[str, Any]] = []
    for labels, best in zip(questions, [letter, "2", "a"], strict=False):
        told = [{"token": label, "prob": p} for label, p in shared(labels, best, lead).items()]
        tokens.append({"token": best, "prob": lead, "top_probs": told})
    body = completion("".join(token["token"] for token in tokens))
    body["choices"][0]["logprobs"] = {"content": tokens}
    return body
