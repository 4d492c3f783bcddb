"""A command-line program as a classifier: the question on its stdin, its answer validated like any other."""

import os
import time
from collections.abc import Callable, Mapping

from service.classifiers.classifier import KEPT_REPLY, Blame, Brief, Classified, ClassifierError
from service.classifiers.envelopes import CliEnvelopeError, CliReply
from service.classifiers.program import CliProgram
from service.classifiers.verdict import VerdictError, read_verdict
from service.contract.decision import Source, Usage
from service.contract.errors import ConfigurationError
from service.contract.settings import CliSettings
from service.process.errors import ProcessError, ProcessTimeoutError

DEFAULT_PRESET = "gemini"
"""Taken where nothing is configured and the program is on PATH."""

MAX_TASK_TOKENS = 4000
"""A longer task is clipped: a hosted model reads faster than a local one, but choosing needs only the gist."""

_LEAST_SECONDS = 1.0
"""An agent CLI takes longer than that to start: no use to begin with less."""


class CliClassifier:
    """Asks `program`, which it owns and closes. One question, no repair turn: a process start costs seconds."""

    source: Source = "cli"
    least_seconds = _LEAST_SECONDS
    patience_seconds = 5.0

    def __init__(
        self,
        program: CliProgram,
        *,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._program = program
        self._clock = clock
        self._random_bytes = random_bytes
        self.name = program.name
        self.timeout_seconds = timeout_seconds

    @property
    def under_way(self) -> int:
        """Programs that run now or are being ended."""
        return self._program.running

    @property
    def waiting(self) -> int:
        """Questions that wait for a slot."""
        return self._program.waiting

    @classmethod
    def configured(cls, settings: CliSettings, environ: Mapping[str, str]) -> "CliClassifier | None":
        """The one that the settings ask for. None where they ask for none, or leave it open and gemini is missing.

        Raises ConfigurationError where a command has no program.
        """
        if settings.command:
            preset = ""
        elif settings.preset is not None:
            preset = settings.preset
        else:
            preset = DEFAULT_PRESET
        if not preset and not settings.command:
            return None
        if settings.command and not settings.command[0]:
            raise ConfigurationError("expected a program as its first word", path="cli.command")
        program = CliProgram(
            settings.command or preset,
            model=settings.model or None,
            environ=environ,
            extra_environment=settings.environment,
            max_concurrency=settings.max_concurrency,
            timeout_seconds=settings.timeout_seconds,
        )
        if settings.preset is None and not settings.command and not program.available():
            return None
        return cls(program, timeout_seconds=settings.timeout_seconds)

    def available(self) -> bool:
        """Whether the program is there now."""
        return self._program.available()

    async def classify(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        """Names an eligible candidate, or raises ClassifierError."""
        question = brief.prompts.question(
            brief.task,
            brief.eligible,
            value_usd=brief.value_usd,
            max_task_tokens=MAX_TASK_TOKENS,
            random_bytes=self._random_bytes,
        )
        try:
            reply = await self._program.ask(question.system, question.user, timeout_seconds=timeout_seconds)
        except CliEnvelopeError as error:
            raise ClassifierError(error.problem, str(error), prompt=question.user) from None
        except ProcessError as error:
            # a queue of our own says nothing about the program, nor does one that began with next to no time left
            hasty = isinstance(error, ProcessTimeoutError) and error.run_seconds < self.patience_seconds
            blame = Blame.REQUEST if hasty or error.problem == "queue-full" else Blame.CLASSIFIER
            raise ClassifierError(error.problem, str(error), blame=blame, prompt=question.user) from None
        usage, kept = _usage(reply), reply.text[:KEPT_REPLY]
        try:
            verdict = read_verdict(reply.text, brief.eligible, brief.catalog.candidates)
        except VerdictError as error:
            raise ClassifierError(
                error.problem, str(error), blame=Blame.REPLY, usage=usage, prompt=question.user, reply=kept
            ) from None
        return Classified(verdict=verdict, usage=usage, prompt=question.user, reply=kept)

    async def aclose(self) -> None:
        """Ends every process that is still running."""
        await self._program.aclose()


def _usage(reply: CliReply) -> Usage:
    return Usage(tokens_in=reply.tokens_in or 0, tokens_out=reply.tokens_out or 0, cost_usd=reply.cost_usd or 0.0)
