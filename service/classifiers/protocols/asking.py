"""The seam of the protocols: each is asked for a verdict, and says whose fault it is where it gives none."""

from collections.abc import Sequence
from typing import Protocol

from service.classifiers.classifier import KEPT_REPLY, Blame, Brief, Classified, ClassifierError
from service.classifiers.verdict import VerdictError
from service.contract.decision import Usage
from service.contract.errors import PointsmanError
from service.contract.settings import ProtocolName
from service.llm.errors import LLMError, LLMStatusError, LLMTimeoutError

_NO_SUCH_ROUTE = frozenset({404, 405, 501})
_NO_DECISION_MODEL = ("not a decision model", "does not support decision", "does not support systemone")
_NOT_FOR_THIS_MODEL = ("does not support", "not supported", "unsupported")
"""How proxies refuse a name that exists only for chat."""


class Asking(Protocol):
    """One way of asking a model server about a task."""

    name: ProtocolName

    async def ask(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        """A verdict, or a ClassifierError that says whose fault it was, or a NotSpokenError."""
        ...


class NotSpokenError(PointsmanError):
    """The server does not speak this protocol, or does so no more; it may well speak another one."""


def failure(error: LLMError, *, prompt: str, usage: Usage | None = None, repairing: bool = False) -> ClassifierError:
    """What a call to the server that brought no answer means for its classifier; `repairing` an answer of no use."""
    failed = ClassifierError(
        error.problem,
        str(error),
        blame=_blame(error, repairing=repairing),
        retry_after=error.retry_after,
        usage=usage,
        prompt=prompt,
    )
    if isinstance(error, LLMTimeoutError) and not repairing:
        failed.given_seconds = error.server_seconds
    return failed


def useless(error: VerdictError, *, prompt: str, reply: str, usage: Usage) -> ClassifierError:
    """What an answer of no use means."""
    return ClassifierError(
        error.problem, str(error), blame=Blame.REPLY, usage=usage, prompt=prompt, reply=reply[:KEPT_REPLY]
    )


def not_spoken(error: LLMError, *, asked: str, words: Sequence[str] = ()) -> bool:
    """Whether the server says that it has no such route, or no model for it: nothing that is wrong with the server.

    `words` say so too. What was `asked` does not count: servers quote it, and a task may be about just this.
    """
    if not isinstance(error, LLMStatusError):
        return False
    if error.status in _NO_SUCH_ROUTE:
        return True
    said, quoted = error.body.lower(), asked.lower()
    telling = (*words, *_NO_DECISION_MODEL, *(_NOT_FOR_THIS_MODEL if error.status in {400, 422} else ()))
    return any(one in said and one not in quoted for one in telling)


def _blame(error: LLMError, *, repairing: bool) -> Blame:
    if isinstance(error, LLMTimeoutError) and repairing:
        return Blame.REPLY  # it had answered, with something of no use: a task text can make it do so, and slowly
    if isinstance(error, LLMStatusError) and error.status in {400, 413, 422}:
        return Blame.REQUEST
    if error.problem == "no-content":
        return Blame.REPLY  # a reasoning model thought until max_tokens, which a task text can make it do
    return Blame.CLASSIFIER
