"""The protocol `decisions`: `POST /v1/decisions`, as OpenAI, LiteLLM and Fireworks serve it.

The same questions as those of `systemone` in lists (OpenAI's Decisions API, public beta, 2026-10): `choice` with
`choices[].value`, `score` with `levels[].label`; a question may be answered by a `refusal`.
"""

from typing import Any

import msgspec

from service.classifiers.protocols.deciding import Answers, Given, check_no_chat, usage_of, wrong
from service.classifiers.protocols.questions import LEVELS, Questions
from service.classifiers.verdict import VerdictError
from service.contract.settings import ProtocolName
from service.llm.errors import LLMReplyError
from service.llm.wire import decoded


class _Probability(msgspec.Struct, frozen=True):
    probability: Any
    value: Any = None
    label: Any = None


class _Answer(msgspec.Struct, frozen=True):
    type: str = ""
    name: str | None = None
    probabilities: list[_Probability] | None = None


class _Reply(msgspec.Struct, frozen=True):
    answers: list[Any] | None = None
    choices: Any = None
    usage: Any = None


_LEVEL = {level.says: str(number) for number, level in enumerate(LEVELS)}

_REPLY = msgspec.json.Decoder(_Reply)


class Decisions:
    """Questions stand in a list, and so do options and answers."""

    name: ProtocolName = "decisions"
    path = "/decisions"

    def request(self, state: str, questions: Questions) -> dict[str, Any]:
        """All but the model's name."""
        said = questions.instructions
        which = f"{said['candidate']} {said['worth']}"
        asked = [_choice("candidate", which, questions.candidate_codes, questions.candidate_says)]
        if questions.kinds:
            asked.append(_choice("kind", said["kind"], questions.kinds, questions.kind_says))
        levels = [{"label": level.says} for level in LEVELS]
        asked.append({"type": "score", "name": "minutes", "instructions": said["minutes"], "levels": levels})
        return {"input": state, "questions": asked}

    def answers(self, body: bytes) -> Answers:
        """What the body says. An answer without a name says nothing."""
        reply: _Reply = decoded(_REPLY, body)
        check_no_chat(reply.answers, reply.choices, self.path)
        if reply.answers is None:
            raise LLMReplyError("the answer has no answers", problem="no-answers")
        found = Answers(usage=usage_of(reply.usage))
        for raw in reply.answers:
            try:
                answer = msgspec.convert(raw, _Answer)
            except (msgspec.MsgspecError, RecursionError) as error:
                found.given.setdefault("candidate", wrong("candidate", error))
                continue
            if answer.name is not None:
                found.given[answer.name] = _given(answer.name, answer)
        return found


def _choice(name: str, instructions: str, values: tuple[str, ...], says: tuple[str, ...]) -> dict[str, Any]:
    choices = [{"value": value, "description": said} for value, said in zip(values, says, strict=True)]
    return {"type": "choice", "name": name, "instructions": instructions, "choices": choices}


def _given(name: str, answer: _Answer) -> Given:
    if answer.type == "refusal":
        return VerdictError("refused", f"the model refuses to answer `{name}`")
    if answer.probabilities is None:
        return wrong(name, "no probabilities")
    return {_key(one): one.probability for one in answer.probabilities}


def _key(one: _Probability) -> str:
    """A choice is known by its value; a level by its label, or by its number."""
    return _LEVEL.get(str(one.label), str(one.value))
