"""A command-line program as a classifier: asked in a subprocess, its answer validated like any other."""

import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import which

import msgspec

from service.base.secrets import masked, masked_line, secrets_in
from service.classifiers.classifier import KEPT_REPLY, Blame, Brief, Classified, ClassifierError
from service.classifiers.envelope import CliEnvelopeError, CliReply
from service.classifiers.preset import CliQuestion
from service.classifiers.programs import ANY_COMMAND, preset_of, program_names
from service.classifiers.verdict import VerdictError, read_verdict
from service.contract.decision import Source
from service.contract.errors import ConfigurationError
from service.contract.settings import CliSettings
from service.process.errors import ProcessError, ProcessTimeoutError
from service.process.job import Job, ProcessResult
from service.process.runner import ProcessRunner
from service.process.workspace import Workspace

DEFAULT_PRESET = "gemini"
"""Taken where nothing is configured and the program is on PATH."""

MAX_TASK_TOKENS = 4000
"""A longer task is clipped: a hosted model reads faster than a local one, but choosing needs only the gist."""

COMMON_ENVIRONMENT = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "XDG_*"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
"""What any program may see; a star at the end stands for any ending."""

OWN_PREFIX = "POINTSMAN_"
"""This service's own settings, its token among them: no program ever sees them."""

DETAIL_CHARS = 500
"""How much of what a program says stands in an error: the head says what, the tail why."""

_HEAD_CHARS = 180
_READ_CHARS = 4_000
"""How much of either end is looked at for it."""


class CliClassifier:
    """Asks the program that the settings name: by a preset, or as a command (the program first; no shell), which wins.

    One question, no repair turn: a process start costs seconds. Belongs to one event loop. `environ` is what there is,
    and the program sees of it what its preset allows and what the settings name, never a name with POINTSMAN_.
    """

    source: Source = "cli"
    least_seconds: float = 1.0
    patience_seconds: float = 5.0

    def __init__(self, settings: CliSettings, environ: Mapping[str, str]) -> None:
        self._command = tuple(settings.command) or (settings.preset or "",)
        self._preset = preset_of(ANY_COMMAND if settings.command else self._command[0])
        self._model = settings.model
        self.name = Path(self._command[0]).name or self._command[0]
        self.local = settings.local
        self.timeout_seconds = settings.timeout_seconds
        allowed = (*COMMON_ENVIRONMENT, *self._preset.environment, *settings.environment)
        self._environ = {"PATH": os.defpath, **visible_environment(environ, allowed)}
        self._secrets = secrets_in(self._environ)
        self._temp_dir = Path(environ.get("TMPDIR") or tempfile.gettempdir()).absolute()
        self._runner = ProcessRunner(max_concurrency=settings.max_concurrency)

    @classmethod
    def configured(cls, settings: CliSettings, environ: Mapping[str, str]) -> "CliClassifier | None":
        """The one that the settings ask for. None where they ask for none, or leave it open and gemini is missing.

        Raises ConfigurationError where a command has no program, or no preset has that name.
        """
        if settings.command and not settings.command[0]:
            raise ConfigurationError("expected a program as its first word", path="cli.command")
        if settings.preset and settings.preset not in program_names():
            known = ", ".join(program_names())
            raise ConfigurationError(f"expected one of {known}, got {settings.preset!r}", path="cli.preset")
        if settings.preset is None and not settings.command:
            found = cls(msgspec.structs.replace(settings, preset=DEFAULT_PRESET), environ)
            return found if found.available() else None
        return cls(settings, environ) if settings.command or settings.preset else None

    @property
    def under_way(self) -> int:
        return self._runner.running

    @property
    def waiting(self) -> int:
        return self._runner.waiting

    def available(self) -> bool:
        """Whether the program is there and executable now, on PATH or where its path says."""
        return self._found() is not None

    async def classify(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        question = brief.question(max_task_tokens=MAX_TASK_TOKENS, random_bytes=os.urandom)
        try:
            reply = await self.ask(question.system, question.user, timeout_seconds=timeout_seconds)
        except CliEnvelopeError as error:
            raise ClassifierError(error.problem, str(error), prompt=question.user) from None
        except ProcessError as error:
            # a queue of our own says nothing about the program
            blame = Blame.REQUEST if error.problem == "queue-full" else Blame.CLASSIFIER
            failed = ClassifierError(error.problem, str(error), blame=blame, prompt=question.user)
            failed.given_seconds = error.run_seconds if isinstance(error, ProcessTimeoutError) else None
            raise failed from None
        kept = reply.text[:KEPT_REPLY]
        try:
            verdict = read_verdict(reply.text, brief.eligible, brief.catalog.candidates, brief.catalog.kind_ids)
        except VerdictError as error:
            raise ClassifierError(
                error.problem, str(error), blame=Blame.REPLY, usage=reply.usage, prompt=question.user, reply=kept
            ) from None
        return Classified(verdict=verdict, usage=reply.usage, prompt=question.user, reply=kept)

    async def ask(self, system: str, prompt: str, *, timeout_seconds: float) -> CliReply:
        """One question, one answer. The time, at most the configured one, includes the wait for a slot.

        Raises a ProcessError where the program did not end well, CliEnvelopeError where it did and gave no answer.
        Their texts are fit for people: at most some 600 characters, no control characters, no secrets. May be
        cancelled at any moment; the program is ended behind it.
        """
        workspace = Workspace(root=self._temp_dir / f"pointsman-{uuid.uuid4().hex}")
        question = CliQuestion(
            system=system, prompt=prompt, model=self._model, environ=self._environ, workspace=workspace
        )
        call = self._preset.invoke(question)
        files = {name: text.encode(errors="replace") for name, text in call.files.items()}
        home = {} if self._environ.get("HOME") else {"HOME": str(workspace.home)}
        job = Job(
            name=self.name,
            argv=(self._program(), *self._command[1:], *call.arguments),
            stdin=call.stdin.encode(errors="replace"),
            env={
                **self._environ,
                "NO_COLOR": "1",
                "TERM": "dumb",
                # Error reports of some programs hold the whole conversation, and are to go with the run.
                "TMPDIR": str(workspace.temp),
                **home,
                **call.environ,
            },
            workspace=Workspace(root=workspace.root, files=files),
            timeout_seconds=min(timeout_seconds, self.timeout_seconds),
        )
        return self._reply(await self._runner.run(job))

    async def aclose(self) -> None:
        await self._runner.aclose()

    def _found(self) -> str | None:
        return which(self._command[0], path=self._environ["PATH"])

    def _program(self) -> str:
        program, found = self._command[0], self._found()
        if found is None and "/" not in program:
            return program  # searched once more when it is started, which tells missing from not executable
        return os.path.abspath(found or program)  # noqa: PTH100 - Path.resolve follows links, and some programs mind

    def _reply(self, result: ProcessResult) -> CliReply:
        stderr = result.stderr.decode(errors="replace")
        if result.exit_code != 0:
            raise self._failure(result, stderr)
        try:
            reply = self._preset.unwrap(result.stdout.decode(), stderr)
        except UnicodeDecodeError:
            raise CliEnvelopeError(f"{self.name}: its output is not UTF-8") from None
        except CliEnvelopeError as error:
            raise CliEnvelopeError(f"{self.name}: {self._fit(str(error))}", problem=error.problem) from None
        return CliReply(text=masked(reply.text, self._secrets), usage=reply.usage)

    def _failure(self, result: ProcessResult, stderr: str) -> ProcessError:
        """The error for a program that did not end well, with what it says of that in its envelope, or on stderr."""
        said = stderr
        try:
            self._preset.unwrap(result.stdout.decode(errors="replace"), "")
        except CliEnvelopeError as error:
            said = str(error) if error.problem == "reported-error" else stderr
        said = f": {self._fit(said)}" if said.strip() else " and said nothing"
        if result.signal is not None:
            return ProcessError("killed-by-signal", f"{self.name} was killed by signal {result.signal}{said}")
        status = "unknown" if result.exit_code is None else result.exit_code
        return ProcessError("exit-status", f"{self.name} exited with status {status}{said}")

    def _fit(self, text: str) -> str:
        text = masked(text, self._secrets)
        if len(text) > 2 * _READ_CHARS:
            text = f"{text[:_READ_CHARS]} … {text[-_READ_CHARS:]}"
        line = masked_line(text, 2 * _READ_CHARS + 3, self._secrets)
        if len(line) <= DETAIL_CHARS:
            return line
        return f"{line[:_HEAD_CHARS]} … {line[_HEAD_CHARS + 3 - DETAIL_CHARS :]}"


def visible_environment(environ: Mapping[str, str], allowed: Sequence[str]) -> dict[str, str]:
    """The part of `environ` that a program may see: names in `allowed`, where `X_*` stands for every name with X_."""
    names = {name for name in allowed if not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in allowed if name.endswith("*"))
    return {
        name: value
        for name, value in environ.items()
        if (name in names or name.startswith(prefixes)) and not name.startswith(OWN_PREFIX)
    }
