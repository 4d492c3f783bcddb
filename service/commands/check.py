"""`pointsman check`: reads the configuration, tries each classifier for real, and says in words what will answer."""

import os
import time
from typing import Literal

import click
import msgspec

from service.classifiers.classifier import Blame, Brief, Classifier, ClassifierError
from service.classifiers.program import DEFAULT_PRESET
from service.classifiers.prompt import CHARACTERS_PER_TOKEN
from service.commands.common import (
    PROBLEM,
    WrongConfigurationError,
    config_option,
    json_option,
    print_json,
    run,
    say,
    settings_of,
)
from service.contract.errors import PointsmanError
from service.contract.settings import Settings
from service.contract.task import Task
from service.core import Core
from service.llm.client import LLMClient
from service.llm.errors import LLMError
from service.llm.wire import ChatMessage

_PATIENCE_SECONDS = 120.0
"""A cold model may take a minute to load; a check is there to wait for it."""

_CUT_SHARE = 0.6
"""A server that counts fewer prompt tokens than this share of our estimate has cut the prompt: no tokenizer in use
packs more than some 6 characters of plain English into a token, and the estimate takes 4."""

_FEW_TOKENS = 16

_MODELS_SHOWN = 20

_FILLER = "The login page shows an error after the session has ended, and the test that covers it fails now and then. "


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was tried, and what came of it in words."""

    subject: str
    state: Literal["works", "warning", "broken", "absent"]
    says: str


@click.command("check", short_help="Try each classifier for real and say what will answer.")
@config_option
@json_option
def command(config: str | None, *, as_json: bool) -> None:
    """Read the configuration, ask each configured classifier one question, say what will answer and what is wrong."""
    settings = settings_of(config)
    findings = run(_check(settings))
    broken = any(finding.state == "broken" for finding in findings)
    if as_json:
        print_json({"ok": not broken, "findings": findings})
    else:
        for finding in findings:
            click.echo(f"{_mark(finding.state)} ", nl=False)
            say(f"{finding.subject}: {finding.says}")
    if broken:
        raise SystemExit(PROBLEM)


async def _check(settings: Settings) -> list[Finding]:
    try:
        core = Core(settings)
    except PointsmanError as error:
        raise WrongConfigurationError(str(error)) from None
    findings = [_configuration(settings, core)]
    working: list[str] = []
    try:
        await core.start()
        for stage in core.pipeline.ladder.stages:
            asked = await _ask(core, stage.classifier)
            findings += asked
            if asked[0].state != "broken":
                working.append(f"{stage.classifier.source} ({stage.classifier.name})")
        findings += _absent(settings, core)
        findings.append(_store(core))
    finally:
        await core.aclose()
    order = ", then ".join([*working, "the forecast"])
    findings.append(Finding(subject="answers", state="works", says=order))
    return findings


def _configuration(settings: Settings, core: Core) -> Finding:
    catalog = core.pipeline.knowledge.catalog
    where = settings.catalog.path or "the one that ships with the package"
    agents = ", ".join(catalog.agent_types)
    return Finding(
        subject="catalog",
        state="works",
        says=f"{len(catalog.candidates)} candidates of {len(catalog.agent_types)} agents ({agents}), from {where}",
    )


def _absent(settings: Settings, core: Core) -> list[Finding]:
    """What is not configured, and what that means."""
    sources = {stage.classifier.source for stage in core.pipeline.ladder.stages}
    found: list[Finding] = []
    if "local_model" not in sources:
        says = "no endpoint is set (local_model.endpoint), so there is no agent `local`, and the CLI classifies"
        found.append(Finding(subject="local model", state="absent", says=says))
    if "cli" not in sources:
        switched_off = settings.cli.preset == ""
        why = "switched off (cli.preset is empty)" if switched_off else f"`{DEFAULT_PRESET}` is not on PATH"
        found.append(Finding(subject="CLI", state="absent", says=f"{why}, so no program is asked"))
    return found


def _store(core: Core) -> Finding:
    status = core.store.status
    if status.recording:
        return Finding(subject="store", state="works", says=f"{status.backend}, recording")
    return Finding(subject="store", state="broken", says=f"nothing is being recorded: {status.problem}")


async def _ask(core: Core, classifier: Classifier) -> list[Finding]:
    """What came of one question as long as the longest that a task can make; the first finding says if it works."""
    subject = f"{classifier.source} ({classifier.name})"
    brief = _brief(core, classifier)
    started = time.monotonic()
    try:
        classified = await classifier.classify(brief, timeout_seconds=_PATIENCE_SECONDS)
    except ClassifierError as error:
        findings = [Finding(subject=subject, state="broken", says=f"{error.problem}: {error}")]
        answered, reached = error.blame is Blame.REPLY, error.problem.startswith("http-")
    else:
        seconds, usage = time.monotonic() - started, classified.usage
        says = f"chose {classified.verdict.candidate} in {seconds:.2f} s"
        tokens = f", {usage.tokens_in} tokens in and {usage.tokens_out} out" if usage.tokens_in else ""
        findings = [Finding(subject=subject, state="works", says=says + tokens)]
        answered = reached = True
        if seconds > classifier.timeout_seconds:
            limit = f"longer than the {classifier.timeout_seconds:g} s it is given"
            says = f"took {seconds:.1f} s, {limit}; raise its timeout_seconds or use a faster model"
            findings.append(Finding(subject=subject, state="warning", says=says))
    if classifier.source == "local_model" and core.llm is not None:
        if answered:
            findings += await _cut(core.llm, brief, core.settings, subject)
        if answered or reached:
            findings += await _models(core.llm, classifier)
    return findings


def _brief(core: Core, classifier: Classifier) -> Brief:
    knowledge = core.pipeline.knowledge
    tokens = core.settings.local_model.max_task_tokens
    length = tokens * CHARACTERS_PER_TOKEN if classifier.source == "local_model" else len(_FILLER)
    text = (_FILLER * (length // len(_FILLER) + 1))[:length]
    return Brief(
        task=Task(name="Fix the flaky login test", instructions=text),
        eligible=knowledge.catalog.candidates,
        catalog=knowledge.catalog,
        prompts=knowledge.prompts,
        value_usd=core.settings.decision.value_usd(None),
    )


async def _cut(llm: LLMClient, brief: Brief, settings: Settings, subject: str) -> list[Finding]:
    """Whether the server silently drops a part of the prompt, as Ollama does where its context is small.

    It is asked once more for a few tokens: what a classification used may be the sum of two questions.
    """
    question = brief.prompts.question(
        brief.task,
        brief.eligible,
        value_usd=brief.value_usd,
        max_task_tokens=settings.local_model.max_task_tokens,
        random_bytes=os.urandom,
    )
    messages = [ChatMessage(role="system", content=question.system), ChatMessage(role="user", content=question.user)]
    try:
        reply = await llm.chat(messages, max_tokens=_FEW_TOKENS, timeout_seconds=_PATIENCE_SECONDS)
    except LLMError:  # a reasoning model has said nothing yet after so few tokens
        return []
    if reply.usage is None or not reply.usage.tokens_in:
        says = "the server does not count tokens, so that a cut prompt cannot be seen"
        return [Finding(subject=subject, state="warning", says=says)]
    ours, counted = (len(question.system) + len(question.user)) // CHARACTERS_PER_TOKEN, reply.usage.tokens_in
    if counted >= ours * _CUT_SHARE:
        return []
    says = (
        f"the server counted {counted} prompt tokens where some {ours} were sent: it cut the prompt. Give it a larger "
        "context (Ollama: OLLAMA_CONTEXT_LENGTH), or lower local_model.max_task_tokens"
    )
    return [Finding(subject=subject, state="warning", says=says)]


async def _models(llm: LLMClient, classifier: Classifier) -> list[Finding]:
    """What the server offers, where the configured model is not among it."""
    try:
        offered = await llm.models(timeout_seconds=5.0)
    except LLMError:
        return []
    if classifier.name in offered or not offered:
        return []
    shown = ", ".join(offered[:_MODELS_SHOWN]) + (" …" if len(offered) > _MODELS_SHOWN else "")
    says = f"the server does not list {classifier.name!r}; it offers {shown}"
    return [Finding(subject="models", state="warning", says=says)]


def _mark(state: str) -> str:
    marks = {
        "works": ("✓", "green"),
        "warning": ("!", "yellow"),
        "broken": ("✗", "red"),
        "absent": ("-", "bright_black"),
    }
    sign, colour = marks[state]
    return sign if os.environ.get("NO_COLOR") else click.style(sign, fg=colour)
