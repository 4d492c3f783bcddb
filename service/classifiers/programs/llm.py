"""llm of Simon Willison, as seen with 0.36."""

import re

from service.classifiers.envelope import CliEnvelopeError, CliReply
from service.classifiers.preset import SYSTEM_FILE, CliQuestion, Invocation, Preset
from service.contract.decision import Usage

_TOKENS = re.compile(r"Token usage: ([\d,]{1,20}) input, ([\d,]{1,20}) output")


def invoke(question: CliQuestion) -> Invocation:
    """One question without a log: that is a database in the user's home, and would keep every task."""
    return Invocation(
        arguments=(
            *("prompt", "--no-stream", "--no-log", "--usage", "--system-fragment", question.system_file),
            *(("-m", question.model) if question.model else ()),
        ),
        stdin=question.prompt,
        files={SYSTEM_FILE: question.system},
    )


def unwrap(stdout: str, stderr: str) -> CliReply:
    """Plain text, and on stderr a line with the tokens."""
    if not stdout.strip():
        raise CliEnvelopeError("it printed nothing")
    if not (found := _TOKENS.search(stderr)):
        return CliReply(text=stdout)
    read, wrote = (int(number.replace(",", "") or 0) for number in found.groups())
    return CliReply(text=stdout, usage=Usage(tokens_in=read, tokens_out=wrote))


PRESET = Preset(invoke=invoke, unwrap=unwrap, environment=("LLM_*", "OPENAI_*", "GEMINI_*", "ANTHROPIC_*"))
