"""What `pointsman check` says of protocols: which ones the server speaks, how long each took, which one to set."""

from service.classifiers.classifier import Brief
from service.classifiers.local_model import LocalModelClassifier
from service.classifiers.protocols.deciding import Deciding
from service.classifiers.protocols.questions import MAX_OPTIONS
from service.classifiers.protocols.trial import (
    FASTER_THAN_CHAT,
    Trial,
    most_options,
    only_decides,
    says_it_only_decides,
    try_out,
)
from service.commands.finding import Finding
from service.contract.settings import Settings

PATIENCE_SECONDS = 120.0
"""A cold model may take a minute to load; a check is there to wait for it."""

_SHOWN = 160


async def check_protocols(classifier: LocalModelClassifier, brief: Brief, settings: Settings) -> list[Finding]:
    """Tries each of them, also those that are not set."""
    ways = [classifier.ways[name] for name in (*FASTER_THAN_CHAT, "chat")]
    trials = await try_out(ways, brief, timeout_seconds=PATIENCE_SECONDS)
    spoken = [trial for trial in trials if trial.seconds is not None]
    findings = [Finding("protocols", "works" if spoken else "warning", "; ".join(map(_in_words, trials)))]
    for trial in spoken:
        way = classifier.ways[trial.protocol]
        if isinstance(way, Deciding):
            most = await most_options(way, timeout_seconds=PATIENCE_SECONDS)
            says = f"takes up to {most} options for one question (never more than {MAX_OPTIONS} are asked about)"
            findings.append(Finding(trial.protocol, "works", says))
    deciding = [trial for trial in spoken if isinstance(classifier.ways[trial.protocol], Deciding)]
    only = bool(deciding) and await only_decides(classifier.client, timeout_seconds=PATIENCE_SECONDS)
    if only:
        listed = await says_it_only_decides(classifier.client, timeout_seconds=PATIENCE_SECONDS)
        findings.append(_no_agent(settings, listed=bool(listed)))
    if spoken:
        findings.append(_advice(spoken, settings, deciding if only else spoken))
    return findings


def _in_words(trial: Trial) -> str:
    if trial.seconds is not None:
        return f"{trial.protocol} in {trial.seconds:.2f} s"
    return f"{trial.protocol}: {trial.says[:_SHOWN]}"


def _no_agent(settings: Settings, *, listed: bool) -> Finding:
    says = "it is a decision model, which works on no task, so there is no agent `local`"
    if settings.local_model.writes_text and not listed:
        offered = (
            "it is a decision model, which works on no task, and this local_model.protocol offers it as agent `local`, "
            "because the server's list of models does not say so"
        )
        return Finding("agent local", "warning", offered)
    return Finding("agent local", "absent", says)


def _advice(spoken: list[Trial], settings: Settings, advisable: list[Trial]) -> Finding:
    """Which one to set, out of those that are `advisable`: with another one a decision model would be an agent."""
    best = min(advisable, key=lambda trial: trial.seconds or 0.0)
    now = settings.local_model.protocol
    of = "fastest" if advisable == spoken else "fastest for a decision model"
    what = f'the {of} is local_model.protocol = "{best.protocol}"'
    if now != "auto" and now not in [trial.protocol for trial in spoken]:
        without = f'{what}; "{now}", which is set, did not work, and where the server has no such route it asks by chat'
        return Finding("protocol", "warning", without)
    if now in (best.protocol, "auto"):
        return Finding("protocol", "works", f"{what}, as it is set" if now != "auto" else f"{what}, which `auto` takes")
    return Finding("protocol", "works", f'{what}; it is "{now}" now')
