"""Logs: JSON lines on stderr for a service, plain lines for a command; never the text of a task or of an exception."""

import atexit
import io
import logging
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import msgspec
import structlog

from service.base.text import inert, one_line
from service.logs.writer import LineLogger, LogWriter

BOUND: ContextVar[Mapping[str, str]] = ContextVar("pointsman_log", default={})  # noqa: B039 - a Mapping, never changed
"""What every line says that is logged in this context, such as the request's id."""

VALUE_LIMIT = 4000
"""Characters of one value in a log line: what the service itself has to say fits."""

FRAMES_LIMIT = 40
"""Frames of a traceback that are kept, the innermost: enough to see where and from where."""

_CHATTY = ("httpx", "httpcore", "asyncio", "aiosqlite", "uvicorn.access")
_ENCODER = msgspec.json.Encoder(enc_hook=repr)
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure_logging(level: str) -> LogWriter:
    """JSON lines on stderr for structlog and for the standard library, with what is bound to the request.

    Gives what writes them; at exit it is waited for, for a moment.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    writer = LogWriter(_unbuffered(sys.stderr))
    atexit.register(writer.flush)
    structlog.configure(
        processors=[_stamped, _without_messages, _to_json],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=LineLogger(writer),
        cache_logger_on_first_use=True,
    )
    handler = _LineHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_stamped, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_messages,
                lambda logger, name, event: _to_json(logger, name, event).decode(),
            ],
        )
    )
    _hand_all_to(handler, number)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return writer


def configure_command_logging() -> None:
    """For a command that ends by itself: warnings and worse, a plain line each, on stderr; stdout is for results."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, _without_messages, _plain],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter())
    _hand_all_to(handler, logging.WARNING)


def _hand_all_to(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)


def frames(error: BaseException) -> list[str]:
    """Where it was raised, outermost first, `file:line in function`, and before it the types of what caused it.

    Messages are left out: they may quote a task, a statement with its values, or a secret.
    """
    found: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        stack = traceback.extract_tb(current.__traceback__)[-FRAMES_LIMIT:]
        own = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in stack]
        found = [*own, type(current).__qualname__, *(["which led to", *found] if found else [])]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return found


def log_defect(log: Any, error: BaseException, **facts: object) -> None:  # noqa: ANN401 - structlog types no logger
    """Says what broke and where, without the exception's message, which may quote a task or a secret."""
    log.error("defect", error=type(error).__qualname__, frames=frames(error), **facts)


def _unbuffered(stream: Any) -> Any:  # noqa: ANN401 - a text stream, or what stands in for one
    """The same file without Python's buffer, in which lines that cannot be written would stay and be tried again."""
    try:
        return io.FileIO(stream.fileno(), "wb", closefd=False)
    except (OSError, ValueError):  # a stream in memory
        return stream.buffer


class _LineHandler(logging.Handler):
    """The standard library's lines go the same way as structlog's."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(self.format(record).encode() + b"\n")
        except Exception:  # noqa: BLE001 - as in the standard library: what cannot be logged must not harm who logs it
            self.handleError(record)


def _stamped(_logger: Any, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:  # noqa: ANN401 - structlog's own signature
    for fact, value in BOUND.get().items():
        event.setdefault(fact, value)
    event["level"] = "warning" if name == "warn" else "error" if name == "exception" else name
    event["timestamp"] = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return event


def _without_messages(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:  # noqa: ANN401 - structlog's own signature
    error = _error_of(event.pop("exc_info", None))
    if error is not None:
        event["error"] = type(error).__qualname__
        event["frames"] = frames(error)
    return event


def _error_of(given: BaseException | _ExcInfo | bool | None) -> BaseException | None:
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return given[1]
    return sys.exc_info()[1] if given else None


def _to_json(_logger: Any, _name: str, event: structlog.typing.EventDict) -> bytes:  # noqa: ANN401 - structlog's own signature
    line = _encoded(event)
    return inert(line if len(line) <= VALUE_LIMIT else _encoded(_bounded(event)))


def _encoded(event: Mapping[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(event)
    except UnicodeError:  # a lone surrogate, which JSON from outside cannot hold but the operating system can
        return _ENCODER.encode({key: repr(value) for key, value in event.items()})


def _bounded(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value[: VALUE_LIMIT - 1] + "…" if isinstance(value, str) and len(value) > VALUE_LIMIT else value
        for key, value in event.items()
    }


def _plain(_logger: Any, _name: str, event: structlog.typing.EventDict) -> str:  # noqa: ANN401 - structlog's own signature
    level, text = event.pop("level", "warning"), event.pop("event", "")
    facts = ", ".join(f"{key}: {value}" for key, value in event.items())
    return f"{level}: {one_line(f'{text} ({facts})' if facts else str(text), VALUE_LIMIT)}\n"


class _PlainFormatter(logging.Formatter):
    """One line a record; of an exception its type and the place where it was raised."""

    def format(self, record: logging.LogRecord) -> str:
        error = _error_of(record.exc_info[1] if record.exc_info else None)
        facts = f" ({type(error).__qualname__} at {' < '.join(frames(error)[-3:])})" if error else ""
        return f"{record.levelname.lower()}: {one_line(record.getMessage() + facts, VALUE_LIMIT)}"
