"""`LocalRunner`: one task, one streamed answer of the local model, written down as it comes."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import msgspec

from service.base.text import one_line
from service.contract.execution import ExecutionRequest
from service.executions.log_file import LogError, LogFile
from service.executions.stream_json import StreamJson
from service.llm.client import LLMClient
from service.llm.errors import LLMError
from service.llm.thinking import ThinkSplitter
from service.llm.wire import ChatMessage, ChatReply

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}
"""From OpenAI's words to Anthropic's."""


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. `exit_reason` is `completed`, `length` (the answer was cut off by a limit, which counts as
    success too), or a short kebab-case word for what went wrong. Tokens are None where the server told none.
    """

    succeeded: bool
    exit_reason: str
    detail: str
    text: str
    model: str
    tokens_in: int | None
    tokens_out: int | None
    seconds: float


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

    @property
    def model(self) -> str:
        """What a task runs on that names no model."""
        return self._client.model or ""

    async def run(
        self,
        execution_id: str,
        request: ExecutionRequest,
        log: LogFile | None,
        *,
        on_text: Callable[[str], None] = lambda _: None,
        on_line: Callable[[bytes], None] | None = None,
        why_cancelled: Callable[[], str] = lambda: "cancelled",
    ) -> RunResult:
        """Runs to the end; a failure of the model or of the log is in the result, not raised.

        Cancelled: the stream is ended on the server too, the log says `why_cancelled`, and CancelledError goes on, as
        does what a callback raises. `on_text` gets each piece of the answer, `on_line` each piece of the log, whole
        lines. In any case both end in a `result` line.
        """
        started = self._clock()
        model = request.model or self.model
        recorder = _Recorder(StreamJson(execution_id, model), log, on_text, on_line)
        stream = None
        end = ("internal", "a defect of this service")
        try:
            recorder.begin()
            stream = self._client.chat_stream(
                self._messages(request),
                model=model,
                temperature=request.temperature,
                max_tokens=request.max_tokens,
                timeout_seconds=self._timeout_seconds,
                idle_seconds=self._idle_seconds,
            )
            async with stream:
                async for delta in stream:
                    recorder.take(delta.content, delta.reasoning)
            recorder.flush()
            end = _good_end(stream.reply, recorder.text)
        except LLMError as error:
            end = (error.problem, str(error))
        except LogError as error:
            end = ("log-not-writable", str(error))
        except asyncio.CancelledError:
            end = (why_cancelled(), f"{why_cancelled()} before the model was done")
            raise
        finally:
            reply = stream.reply if stream else None
            result = _result(reply, model, end, recorder.text, self._clock() - started)
            recorder.end(reply.finish_reason if reply else None, result)
        return result

    def _messages(self, request: ExecutionRequest) -> list[ChatMessage]:
        labels = "".join(f"{key}: {value}\n" for key, value in sorted(request.labels.items()))
        parts = [part for part in (request.name, labels.strip(), request.instructions) if part]
        return [
            ChatMessage(role="system", content=self._system_prompt),
            ChatMessage(role="user", content="\n\n".join(parts)),
        ]


class _Recorder:
    """Writes lines to the log and to whoever listens."""

    def __init__(
        self,
        lines: StreamJson,
        log: LogFile | None,
        on_text: Callable[[str], None],
        on_line: Callable[[bytes], None] | None,
    ) -> None:
        self._lines = lines
        self._log = log
        self._on_text = on_text
        self._on_line = on_line
        self._pieces: list[str] = []
        self._splitter = ThinkSplitter()

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def begin(self) -> None:
        """The first line. There is no working directory: the model has no tools."""
        self._write(self._lines.init("/"))

    def take(self, content: str, reasoning: str) -> None:
        text, thought = self._splitter.feed(content)
        self._add(text, reasoning + thought)

    def flush(self) -> None:
        """Takes what was still held back when the answer ended."""
        self._add(*self._splitter.flush())

    def end(self, finish_reason: str | None, result: RunResult) -> None:
        """The consolidated message where there was text, and the `result` line."""
        usage = {"input_tokens": result.tokens_in or 0, "output_tokens": result.tokens_out or 0}
        stop = _STOP_REASONS.get(finish_reason or "", finish_reason)
        message = self._lines.assistant(result.text, stop_reason=stop, usage=usage) if result.text else b""
        end = self._lines.result(
            result.text if result.succeeded else result.detail,
            exit_reason=result.exit_reason,
            is_error=not result.succeeded,
            duration_ms=int(result.seconds * 1000),
            usage=usage,
        )
        self._write_end(message, end)

    def _add(self, text: str, thought: str) -> None:
        if thought:
            self._write(self._lines.thinking(thought))
        if text:
            self._pieces.append(text)
            self._write(self._lines.delta(text))
            self._on_text(text)

    def _write(self, lines: bytes) -> None:
        if self._log is not None:
            self._log.write(lines)
        if self._on_line is not None:
            self._on_line(lines)

    def _write_end(self, message: bytes, result: bytes) -> None:
        """Where not even the end can be written, the execution's record has to do."""
        if self._log is not None:
            with contextlib.suppress(LogError):
                self._log.write(message)
            with contextlib.suppress(LogError):
                self._log.write_last(result)
        if self._on_line is not None:
            self._on_line(message + result)


def _good_end(reply: ChatReply, text: str) -> tuple[str, str]:
    if not text.strip():
        return "empty-answer", "the model ended without an answer"
    return ("length", "the answer was cut off by a limit") if reply.finish_reason == "length" else ("completed", "")


def _result(reply: ChatReply | None, asked: str, end: tuple[str, str], text: str, seconds: float) -> RunResult:
    reason, detail = end
    usage = reply.usage if reply else None
    return RunResult(
        succeeded=reason in {"completed", "length"},
        exit_reason=reason,
        detail=one_line(detail, 500),
        text=text,
        model=reply.model if reply and reply.model else asked,
        tokens_in=usage.tokens_in if usage else None,
        tokens_out=usage.tokens_out if usage else None,
        seconds=seconds,
    )
