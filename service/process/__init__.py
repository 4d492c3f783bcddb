"""Runs one program, bounded in time, output and number, and leaves nothing of it behind. Knows nothing of models."""

from service.process.errors import (
    ProcessError,
    ProcessExitError,
    ProcessNotExecutableError,
    ProcessNotFoundError,
    ProcessOutputError,
    ProcessQueueFullError,
    ProcessStartError,
    ProcessStoppedError,
    ProcessTimeoutError,
)
from service.process.result import ProcessResult
from service.process.runner import ProcessRunner
from service.process.workspace import Workspace

__all__ = [
    "ProcessError",
    "ProcessExitError",
    "ProcessNotExecutableError",
    "ProcessNotFoundError",
    "ProcessOutputError",
    "ProcessQueueFullError",
    "ProcessResult",
    "ProcessRunner",
    "ProcessStartError",
    "ProcessStoppedError",
    "ProcessTimeoutError",
    "Workspace",
]
