"""What a program left when it had ended."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessResult:
    """How it ended and what it wrote.

    Exactly one of `exit_code` and `signal` is set; neither, where somebody else took its status.
    `stdout` is whole; `stderr` is the last part of it, as much as was allowed.
    """

    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
