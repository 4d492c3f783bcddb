"""Asks an agent CLI, or any other program, one question as a subprocess."""

import os
import re
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from shutil import which as find_program

from service.base.text import one_line
from service.classifiers.envelopes import CliEnvelopeError, CliReply
from service.classifiers.presets import (
    COMMON_ENVIRONMENT,
    PRESETS,
    Preset,
    Question,
    command_preset,
    visible_environment,
)
from service.process.errors import ProcessExitError
from service.process.job import ProcessResult
from service.process.runner import ProcessRunner
from service.process.workspace import Workspace

DETAIL_CHARS = 500
"""How much of what a program says stands in an error."""

_HEAD_CHARS = 180
_SECRET_NAME = re.compile(r"KEY|TOKEN(?!S)|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_SECRET_CHARS = 6
"""A shorter value is no secret, and masking it would only garble the text."""
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^/\s@]{1,200}:[^/\s@]{1,200}(?=@)")


class CliProgram:
    """A preset by name, or a command as a sequence of words (the program first; no shell).

    At most `max_concurrency` run at once, and `max_waiting` wait; belongs to one event loop. `environ` is what there
    is, and the program sees of it what its preset allows and what `extra_environment` names (`X_*` for a prefix),
    never a name with POINTSMAN_. `model` is the program's own; a command gets none.
    """

    def __init__(
        self,
        preset_or_command: str | Sequence[str],
        *,
        environ: Mapping[str, str],
        timeout_seconds: float,
        model: str | None = None,
        extra_environment: Sequence[str] = (),
        max_concurrency: int = 2,
        max_waiting: int = 16,
        which: Callable[[str], str | None] | None = None,
        temp_dir: Path | None = None,
    ) -> None:
        """KeyError where there is no such preset, ValueError where a command is empty."""
        preset = PRESETS[preset_or_command] if isinstance(preset_or_command, str) else command_preset(preset_or_command)
        self._preset: Preset = preset
        self._model = model or None
        self._timeout_seconds = timeout_seconds
        self._environ = visible_environment(environ, (*COMMON_ENVIRONMENT, *preset.environment, *extra_environment))
        self._environ.setdefault("PATH", os.defpath)
        self._which = which or partial(find_program, path=self._environ["PATH"])
        self._temp_dir = temp_dir or Path(environ.get("TMPDIR") or tempfile.gettempdir()).absolute()
        self._secrets = sorted(
            {
                value
                for name, value in self._environ.items()
                if _SECRET_NAME.search(name) and len(value) >= _SECRET_CHARS
            },
            key=len,
            reverse=True,
        )
        self._runner = ProcessRunner(max_concurrency=max_concurrency, max_waiting=max_waiting)

    @property
    def name(self) -> str:
        """What messages call it: the preset's name, or the command's program without its directory."""
        return self._preset.name

    @property
    def timeout_seconds(self) -> float:
        """The most time that one question is given."""
        return self._timeout_seconds

    @property
    def running(self) -> int:
        """Programs that run now or are being ended."""
        return self._runner.running

    @property
    def waiting(self) -> int:
        """Questions that wait for a slot."""
        return self._runner.waiting

    def available(self) -> bool:
        """Whether the program is there and executable now, on PATH or where its path says."""
        return self._which(self._preset.command[0]) is not None

    async def ask(self, system: str, prompt: str, *, timeout_seconds: float) -> CliReply:
        """One question, one answer. The time, at most `self.timeout_seconds`, includes the wait for a slot.

        Raises a ProcessError where the program did not end well, CliEnvelopeError where it did and gave no answer.
        Their texts are fit for people: at most some 600 characters, no control characters, no secrets. May be
        cancelled at any moment; the program is ended behind it.
        """
        workspace = Workspace(root=self._temp_dir / f"pointsman-{uuid.uuid4().hex}")
        question = Question(system=system, prompt=prompt, model=self._model, environ=self._environ, root=workspace.root)
        call = self._preset.invoke(question)
        files = {name: text.encode(errors="replace") for name, text in call.files.items()}
        home = {} if self._environ.get("HOME") else {"HOME": str(workspace.home)}
        result = await self._runner.run(
            (self._program(), *self._preset.command[1:], *call.arguments),
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
            timeout_seconds=min(timeout_seconds, self._timeout_seconds),
            name=self.name,
        )
        return self._reply(result)

    async def settle(self) -> None:
        """Waits until nothing runs any more, cleaning up included."""
        await self._runner.settle()

    async def aclose(self) -> None:
        """Ends whatever runs and leaves nothing of it."""
        await self._runner.aclose()

    def _program(self) -> str:
        program = self._preset.command[0]
        found = self._which(program)
        if found is None and "/" not in program:
            return program  # searched once more when it is started, which tells missing from not executable
        return os.path.abspath(found or program)  # noqa: PTH100 - Path.resolve follows links, and some programs mind

    def _reply(self, result: ProcessResult) -> CliReply:
        try:
            stdout = result.stdout.decode()
        except UnicodeDecodeError:
            self._check_exit(result, "")
            raise CliEnvelopeError(f"{self.name}: its output is not UTF-8") from None
        self._check_exit(result, stdout)
        try:
            reply = self._preset.unwrap(stdout, result.stderr.decode(errors="replace"))
        except CliEnvelopeError as error:
            raise CliEnvelopeError(f"{self.name}: {self._fit(str(error))}", problem=error.problem) from None
        return CliReply(
            text=self._masked(reply.text),
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            cost_usd=reply.cost_usd,
            model=one_line(reply.model, 200) if reply.model else None,
        )

    def _check_exit(self, result: ProcessResult, stdout: str) -> None:
        if result.exit_code == 0:
            return
        how = (
            f"was killed by signal {result.signal}"
            if result.signal is not None
            else f"exited with status {'unknown' if result.exit_code is None else result.exit_code}"
        )
        said = self._fit(self._complaint(result, stdout))
        raise ProcessExitError(
            f"{self.name} {how}" + (f": {said}" if said else " and said nothing"),
            exit_code=result.exit_code,
            signal=result.signal,
        )

    def _complaint(self, result: ProcessResult, stdout: str) -> str:
        """What the program says about its failure: in its envelope, or else on stderr."""
        try:
            self._preset.unwrap(stdout, "")
        except CliEnvelopeError as error:
            if error.problem == "reported-error":
                return str(error)
        return result.stderr.decode(errors="replace")

    def _fit(self, text: str) -> str:
        """Fit for people: one line, at most 500 characters (the head says what, the tail why), no secrets."""
        text = self._masked(text)
        half = DETAIL_CHARS * 4
        if len(text) > 2 * half:
            text = f"{text[:half]} … {text[-half:]}"
        line = self._masked(one_line(text, 2 * half + 3))
        if len(line) <= DETAIL_CHARS:
            return line
        return f"{line[:_HEAD_CHARS]} … {line[_HEAD_CHARS + 3 - DETAIL_CHARS :]}"

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _PASSWORD_IN_URL.sub("***", text)
