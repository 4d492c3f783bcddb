"""`LocalRunner`: one task, one streamed answer of the local model, written down as it comes."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from service.llm.client import LLMClient
from service.llm.errors import LLMError
from service.llm.wire import ChatMessage, ChatReply
from service.runner.stream_json import LogFile, StreamJson
from service.text import one_line


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be run. `max_tokens` and `temperature` are sent only when they are given."""

    execution_id: str
    name: str
    instructions: str
    labels: dict[str, str] = {}
    model: str
    max_tokens: int | None = None
    temperature: float | None = None


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended: `exit_reason` is `completed`, or a short kebab-case word for what went wrong."""

    succeeded: bool
    exit_reason: str
    detail: str
    text: str
    model: str
    tokens_in: int
    tokens_out: int
    seconds: float


def nothing(text: str) -> None:
    """For those who need not see the answer as it comes."""
    del text


class LocalRunner:
    """A thin adapter over the client, which is lent. Needs no store and no pool."""

    def __init__(
        self,
        client: LLMClient,
        system_prompt: str,
        *,
        timeout_seconds: float,
        idle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._system_prompt = system_prompt
        self._timeout_seconds = timeout_seconds
        self._idle_seconds = idle_seconds
        self._clock = clock

    async def run(
        self,
        job: Job,
        log: LogFile | None,
        *,
        on_text: Callable[[str], None] = nothing,
        on_line: Callable[[bytes], None] | None = None,
        why_cancelled: Callable[[], str] = lambda: "cancelled",
    ) -> RunResult:
        """Runs to the end; a failure is in the result, not raised. The log gets its `result` line in any case.

        Cancelled: the stream is ended on the server too, the log says `why_cancelled`, and CancelledError goes on.
        `on_text` gets each piece of the answer, `on_line` each line of the log.
        """
        started = self._clock()
        recorder = _Recorder(StreamJson(job.execution_id, job.model), log, on_line)
        stream = None
        outcome: tuple[str, str] | None = None
        try:
            recorder.write(recorder.lines.init(str(Path.cwd())))
            stream = self._client.chat_stream(
                self._messages(job),
                model=job.model,
                temperature=job.temperature,
                max_tokens=job.max_tokens,
                timeout_seconds=self._timeout_seconds,
                idle_seconds=self._idle_seconds,
            )
            async with stream:
                async for delta in stream:
                    if delta.reasoning:
                        recorder.write(recorder.lines.thinking(delta.reasoning))
                    if delta.content:
                        recorder.write(recorder.lines.delta(delta.content))
                        on_text(delta.content)
            empty = ("empty-answer", "the model ended without an answer")
            outcome = ("completed", "") if stream.reply.content.strip() else empty
        except LLMError as error:
            outcome = (error.problem, str(error))
        except OSError as error:
            outcome = ("log-not-writable", f"the log cannot be written: {error.strerror or type(error).__name__}")
        finally:
            ended = outcome or ("cancelled", why_cancelled())
            result = _result(stream.reply if stream else None, job, ended, self._clock() - started)
            recorder.end(stream.reply if stream else None, result)
        return result

    def _messages(self, job: Job) -> list[ChatMessage]:
        labels = "".join(f"{key}: {value}\n" for key, value in sorted(job.labels.items()))
        parts = [part for part in (job.name, labels.strip(), job.instructions) if part]
        return [
            ChatMessage(role="system", content=self._system_prompt),
            ChatMessage(role="user", content="\n\n".join(parts)),
        ]


class _Recorder:
    """Writes lines to the log and to whoever listens; a log that fails once is not written again, but for its end."""

    def __init__(self, lines: StreamJson, log: LogFile | None, on_line: Callable[[bytes], None] | None) -> None:
        self.lines = lines
        self._log = log
        self._on_line = on_line

    def write(self, line: bytes) -> None:
        if self._log is not None:
            self._log.write(line)
        if self._on_line is not None:
            self._on_line(line)

    def end(self, reply: ChatReply | None, result: RunResult) -> None:
        """The consolidated message where there was text, and the `result` line."""
        usage = {"input_tokens": result.tokens_in, "output_tokens": result.tokens_out}
        milliseconds = int(result.seconds * 1000)
        try:
            if result.text:
                reason = reply.finish_reason if reply else None
                stop = {"stop": "end_turn", "length": "max_tokens"}.get(reason or "", reason)
                self.write(self.lines.assistant(result.text, stop_reason=stop, usage=usage))
            self.write(
                self.lines.result(
                    result.text if result.succeeded else result.detail,
                    subtype="success" if result.succeeded else "error_during_execution",
                    duration_ms=milliseconds,
                    usage=usage,
                )
            )
        except OSError:
            return  # the disk is full: the execution's record says so, and a later start closes the log


def _result(reply: ChatReply | None, job: Job, outcome: tuple[str, str], seconds: float) -> RunResult:
    reason, detail = outcome
    usage = reply.usage if reply else None
    return RunResult(
        succeeded=reason == "completed",
        exit_reason=reason,
        detail=one_line(detail, 500),
        text=reply.content if reply else "",
        model=reply.model if reply and reply.model else job.model,
        tokens_in=usage.tokens_in if usage else 0,
        tokens_out=usage.tokens_out if usage else 0,
        seconds=seconds,
    )
