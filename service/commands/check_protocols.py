"""What `pointsman check` says of protocols: which ones the server speaks, how long each took, which one to set."""

from service.classifiers.classifier import Brief
from service.classifiers.local_model import LocalModelClassifier
from service.classifiers.protocols.deciding import Deciding
from service.classifiers.protocols.questions import MAX_OPTIONS
from service.classifiers.protocols.trial import FASTER_THAN_CHAT, Trial, most_options, only_decides, try_out
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
    findings = [Finding("protocols", "works", "; ".join(_in_words(trial) for trial in trials))]
    for trial in spoken:
        way = classifier.ways[trial.protocol]
        if isinstance(way, Deciding):
            most = await most_options(way, timeout_seconds=PATIENCE_SECONDS)
            says = f"takes up to {most} options for one question (never more than {MAX_OPTIONS} are asked about)"
            findings.append(Finding(trial.protocol, "works", says))
    if any(isinstance(classifier.ways[trial.protocol], Deciding) for trial in spoken):
        findings += await _decides(classifier, settings)
    if spoken:
        findings.append(_advice(spoken, settings))
    return findings


def _in_words(trial: Trial) -> str:
    if trial.seconds is not None:
        return f"{trial.protocol} in {trial.seconds:.2f} s"
    return f"{trial.protocol}: {trial.says[:_SHOWN]}"


async def _decides(classifier: LocalModelClassifier, settings: Settings) -> list[Finding]:
    if not await only_decides(classifier.client, timeout_seconds=PATIENCE_SECONDS):
        return []
    says = "it is a decision model, which works on no task, so there is no agent `local`"
    if settings.local_model.protocol in ("chat", "labels"):
        offered = (
            "it is a decision model, which works on no task, and this local_model.protocol offers it as agent `local`"
        )
        return [Finding("agent local", "warning", offered)]
    return [Finding("agent local", "absent", says)]


def _advice(spoken: list[Trial], settings: Settings) -> Finding:
    best = min(spoken, key=lambda trial: trial.seconds or 0.0)
    now = settings.local_model.protocol
    what = f'the fastest is local_model.protocol = "{best.protocol}"'
    if now != "auto" and now not in [trial.protocol for trial in spoken]:
        without = f'{what}; "{now}", which is set, did not work, and where the server has no such route it asks by chat'
        return Finding("protocol", "warning", without)
    if now in (best.protocol, "auto"):
        return Finding("protocol", "works", f"{what}, as it is set" if now != "auto" else f"{what}, which `auto` takes")
    return Finding("protocol", "works", f'{what}; it is "{now}" now')
