"""What is known of one agent CLI: how it is asked one question, and what its answer is wrapped in.

In every preset the task goes in on stdin, the fixed part of the prompt in a file that only this run can read, and
nothing of either stands in the arguments, which everybody on the machine can read. Tools, hooks, extensions, MCP
servers and project files are switched off, as far as the program lets itself be told: it is to answer, not to act.

HOME is the operator's, because logins live there (`gemini`, `claude` and `codex` after their own login command). Where
a key is in the environment no login is needed, and gemini and claude get a home of their own that goes with the run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from service.classifiers.envelope import CliReply
from service.process.workspace import Workspace

SYSTEM_FILE = "system.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class CliQuestion:
    """What to ask: the fixed part, the changing part, the model, what the program sees, and the run's directory."""

    system: str
    prompt: str
    model: str
    environ: Mapping[str, str]
    workspace: Workspace

    @property
    def system_file(self) -> str:
        """Where the fixed part lies once the run has started."""
        return str(self.workspace.root / SYSTEM_FILE)

    @property
    def words(self) -> str:
        """The prompt for agent CLIs, which take a text that begins with a slash for one of their own commands."""
        return f"Request:\n{self.prompt}" if self.prompt.lstrip()[:1] in {"/", "!", "?", "#", "@"} else self.prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """Arguments after the program's name, what goes to stdin, variables to add, and files by name below the root."""

    arguments: Sequence[str]
    stdin: str
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    files: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How to ask a program, and how to read it.

    `unwrap` goes from stdout and stderr to the reply, or raises CliEnvelopeError. `environment` names what the program
    may see besides what every program may. `recognises` says whether the output of a command whose program is not
    known is this one's envelope.
    """

    invoke: Callable[[CliQuestion], Invocation]
    unwrap: Callable[[str, str], CliReply]
    environment: tuple[str, ...] = ()
    recognises: Callable[[str], bool] = lambda _: False
