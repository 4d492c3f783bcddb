"""The protocol `systemone`: `POST /v1/systemone`, as TypeSafe, llama.cpp, Ollama, vLLM, SGLang and LiteLLM serve it.

A state and questions by name; a probability for each option in one pass, without any text (wire format of 2026-11).
"""

from typing import Any

import msgspec

from service.classifiers.protocols.deciding import Answers, Given, check_no_chat, usage_of, wrong
from service.classifiers.protocols.questions import LEVELS, Questions
from service.classifiers.verdict import VerdictError
from service.contract.settings import ProtocolName
from service.llm.errors import LLMReplyError
from service.llm.wire import decoded


class _Answer(msgspec.Struct, frozen=True):
    probabilities: dict[str, Any] | None = None
    refusal: Any = None


class _Reply(msgspec.Struct, frozen=True):
    answers: dict[str, Any] | None = None
    choices: Any = None
    usage: Any = None


_REPLY = msgspec.json.Decoder(_Reply)


class SystemOne:
    """Questions are named in an object, options are keys with a text."""

    name: ProtocolName = "systemone"
    path = "/systemone"

    def request(self, state: str, questions: Questions) -> dict[str, Any]:
        """All but the model's name."""
        said = questions.instructions
        codes = dict(zip(questions.candidate_codes, questions.candidate_says, strict=True))
        which = f"{said['candidate']} {said['worth']}"
        asked: dict[str, Any] = {"candidate": {"type": "choice", "instructions": which, "criteria": codes}}
        if questions.kinds:
            kinds = dict(zip(questions.kinds, questions.kind_says, strict=True))
            asked["kind"] = {"type": "choice", "instructions": said["kind"], "criteria": kinds}
        levels = [level.says for level in LEVELS]
        asked["minutes"] = {"type": "score", "instructions": said["minutes"], "criteria": levels}
        return {"state": state, "questions": asked}

    def answers(self, body: bytes) -> Answers:
        """What the body says."""
        reply: _Reply = decoded(_REPLY, body)
        check_no_chat(reply.answers, reply.choices, self.path)
        if reply.answers is None:
            raise LLMReplyError("the answer has no answers", problem="no-answers")
        return Answers({name: _given(name, raw) for name, raw in reply.answers.items()}, usage_of(reply.usage))


def _given(name: str, raw: object) -> Given:
    try:
        answer = msgspec.convert(raw, _Answer)
    except (msgspec.MsgspecError, RecursionError) as error:
        return wrong(name, error)
    if answer.refusal is not None:
        return VerdictError("refused", f"the model refuses to answer `{name}`")
    return answer.probabilities if answer.probabilities is not None else wrong(name, "no probabilities")
