"""Any program of the operator's: both parts of the prompt on stdin; text, or an envelope that is known, on stdout."""

from service.classifiers.envelope import CliReply
from service.classifiers.preset import CliQuestion, Invocation, Preset
from service.classifiers.programs import llm, preset_of, program_names


def invoke(question: CliQuestion) -> Invocation:
    """No arguments but its own, and no system prompt: it is not known how one is given."""
    whole = f"{question.system}\n\n{question.prompt}" if question.system else question.prompt
    return Invocation(arguments=(), stdin=whole)


def unwrap(stdout: str, stderr: str) -> CliReply:
    """What the program whose envelope it is would give, else the text as it is."""
    known = (preset_of(name) for name in program_names())
    read = next((preset.unwrap for preset in known if preset.recognises(stdout)), llm.unwrap)
    return read(stdout, stderr)


PRESET = Preset(
    invoke=invoke,
    unwrap=unwrap,
    environment=("GEMINI_*", "GOOGLE_*", "ANTHROPIC_*", "OPENAI_*", "CODEX_*", "LLM_*"),
)
