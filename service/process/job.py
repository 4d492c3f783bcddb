"""What is to be run, within which limits, and what it left when it had ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.process.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """For each run of a runner: `grace_seconds` lie between SIGTERM and SIGKILL, and for `drain_seconds` the pipes of
    a program that ended are still read when a child of its own holds them open."""

    max_stdout_bytes: int = 1 << 20
    max_stderr_bytes: int = 1 << 16
    grace_seconds: float = 0.5
    drain_seconds: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`argv` is run in `workspace` with `env` (and one variable that marks the run), and `stdin` is written to it.
    `name` is what messages call it. `timeout_seconds` count from when it is asked for, the wait for a slot included."""

    name: str
    argv: Sequence[str]
    stdin: bytes
    env: Mapping[str, str]
    workspace: Workspace
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessResult:
    """`stdout` is whole, `stderr` the last part of it. Exactly one of `exit_code` and `signal` is set; neither, where
    somebody else took the program's status."""

    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
