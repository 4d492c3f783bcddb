"""`pointsman check`: reads the configuration, tries each classifier for real, and says in words what will answer."""

import asyncio
import os
import time

import click

from service.classifiers.classifier import Blame, Brief, Classified, Classifier, ClassifierError
from service.classifiers.local_model import LocalModelClassifier
from service.classifiers.program import DEFAULT_PRESET
from service.classifiers.prompt import CHARACTERS_PER_TOKEN
from service.commands.check_protocols import check_protocols
from service.commands.common import PROBLEM, Command, config_option, json_option, running_core, settings_of
from service.commands.finding import Finding
from service.contract.settings import Settings
from service.core import Core
from service.knowledge.local_endpoint import trial_brief
from service.llm.client import LLMClient
from service.llm.errors import LLMError
from service.llm.wire import ChatMessage
from service.logs.output import print_json, say

_PATIENCE_SECONDS = 120.0
"""A cold model may take a minute to load; a check is there to wait for it."""

_CUT_SHARE = 0.6
"""A server that counts fewer prompt tokens than this share of our estimate has cut the prompt: no tokenizer in use
packs more than some 6 characters of plain English into a token, and the estimate takes 4."""

_FEW_TOKENS = 16

_MODELS_SHOWN = 20

_FILLER = "The login page shows an error after the session has ended, and the test that covers it fails now and then. "

_MARKS = {"works": ("✓", "green"), "warning": ("!", "yellow"), "broken": ("✗", "red"), "absent": ("-", "bright_black")}


@click.command("check", cls=Command)
@config_option
@json_option
def command(config: str | None, *, as_json: bool) -> None:
    """Read the configuration, ask each configured classifier one question, say what will answer and what is wrong."""
    findings = asyncio.run(_check(settings_of(config)))
    broken = any(finding.state == "broken" for finding in findings)
    if as_json:
        print_json({"ok": not broken, "findings": findings})
    else:
        for finding in findings:
            sign, colour = _MARKS[finding.state]
            mark = sign if os.environ.get("NO_COLOR") else click.style(sign, fg=colour)
            say(f"{finding.subject}: {finding.says}", mark=f"{mark} ")
    if broken:
        raise SystemExit(PROBLEM)


async def _check(settings: Settings) -> list[Finding]:
    async with running_core(settings, learned=False) as core:
        answering: list[str] = []
        await core.start()
        findings = [_catalog(core)]
        for stage in core.pipeline.classifiers.ladder.stages:
            asked = await _ask(core, stage.classifier)
            findings += [_with_local(asked[0], stage.classifier), *asked[1:]]
            if asked[0].state != "broken":
                answering.append(asked[0].subject)
        findings += _absent(core)
        findings.append(_store(core))
        findings.append(Finding("answers", "works", ", then ".join([*answering, "the forecast"])))
        return findings


def _catalog(core: Core) -> Finding:
    catalog = core.pipeline.knowledge.catalog
    where = core.settings.catalog.path or "the one that ships with the package"
    agents = ", ".join(catalog.agent_types)
    says = f"{len(catalog.candidates)} candidates of {len(catalog.agent_types)} agents ({agents}), from {where}"
    return Finding("catalog", "works", says)


def _with_local(finding: Finding, classifier: Classifier) -> Finding:
    """The finding, and whether the classifier is shown tasks that are to stay inside."""
    says = f"not local: tasks with require.local_only never reach it ({classifier.source}.local)"
    if classifier.local:
        says = "local: it is asked about tasks with require.local_only too"
    return Finding(finding.subject, finding.state, f"{finding.says}; {says}")


def _absent(core: Core) -> list[Finding]:
    """What is not configured, and what that means."""
    sources = {stage.classifier.source for stage in core.pipeline.classifiers.ladder.stages}
    found: list[Finding] = []
    if "local_model" not in sources:
        says = "no endpoint is set (local_model.endpoint), so there is no agent `local`, and the CLI classifies"
        found.append(Finding("local model", "absent", says))
    if "cli" not in sources:
        off = core.settings.cli.preset == ""
        why = "switched off (cli.preset is empty)" if off else f"`{DEFAULT_PRESET}` is not on PATH"
        found.append(Finding("CLI", "absent", f"{why}, so no program is asked"))
    return found


def _store(core: Core) -> Finding:
    status = core.store.status
    if status.backend == "memory" and not core.settings.store.url:
        says = "in memory, because there is neither HOME nor XDG_STATE_HOME; `serve` needs store.url"
        return Finding("store", "warning", says)
    if status.recording:
        return Finding("store", "works", f"{status.backend}, recording")
    return Finding("store", "broken", f"nothing is being recorded: {status.problem}")


async def _ask(core: Core, classifier: Classifier) -> list[Finding]:
    """What came of one question as long as the longest that a task can make; the first finding says if it works."""
    subject = f"{classifier.source} ({classifier.name})"
    brief = _brief(core, classifier)
    started = time.monotonic()
    try:
        classified = await classifier.classify(brief, timeout_seconds=_PATIENCE_SECONDS)
    except ClassifierError as error:
        findings = [Finding(subject, "broken", f"{error.problem}: {error}")]
        answered, reached = error.blame is Blame.REPLY, error.problem.startswith("http-")
    else:
        answered = reached = True
        findings = _answered(subject, classified, time.monotonic() - started, classifier.timeout_seconds)
    if classifier.source == "local_model" and core.llm is not None:
        if (answered or reached) and isinstance(classifier, LocalModelClassifier):
            findings += await check_protocols(classifier, trial_brief(core.in_use.knowledge), core.settings)
        if answered:
            findings += await _cut(core.llm, brief, core.settings, subject)
        if answered or reached:
            findings += await _models(core.llm, classifier)
    return findings


def _answered(subject: str, classified: Classified, seconds: float, timeout_seconds: float) -> list[Finding]:
    usage = classified.usage
    tokens = f", {usage.tokens_in} tokens in and {usage.tokens_out} out" if usage.tokens_in else ""
    works = Finding(subject, "works", f"chose {classified.verdict.candidate} in {seconds:.2f} s{tokens}")
    if seconds <= timeout_seconds:
        return [works]
    limit = f"longer than the {timeout_seconds:g} s it is given"
    says = f"took {seconds:.1f} s, {limit}; raise its timeout_seconds or use a faster model"
    return [works, Finding(subject, "warning", says)]


def _brief(core: Core, classifier: Classifier) -> Brief:
    tokens = core.settings.local_model.max_task_tokens
    length = tokens * CHARACTERS_PER_TOKEN if classifier.source == "local_model" else len(_FILLER)
    return trial_brief(core.pipeline.knowledge, (_FILLER * (length // len(_FILLER) + 1))[:length])


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
        return [Finding(subject, "warning", "the server does not count tokens, so that a cut prompt cannot be seen")]
    ours, counted = (len(question.system) + len(question.user)) // CHARACTERS_PER_TOKEN, reply.usage.tokens_in
    if counted >= ours * _CUT_SHARE:
        return []
    says = (
        f"the server counted {counted} prompt tokens where some {ours} were sent: it cut the prompt. Give it a larger "
        "context (Ollama: OLLAMA_CONTEXT_LENGTH), or lower local_model.max_task_tokens"
    )
    return [Finding(subject, "warning", says)]


async def _models(llm: LLMClient, classifier: Classifier) -> list[Finding]:
    """What the server offers, where the configured model is not among it."""
    try:
        offered = await llm.models(timeout_seconds=5.0)
    except LLMError:
        return []
    if classifier.name in offered or not offered:
        return []
    shown = ", ".join(offered[:_MODELS_SHOWN]) + (" …" if len(offered) > _MODELS_SHOWN else "")
    return [Finding("models", "warning", f"the server does not list {classifier.name!r}; it offers {shown}")]
