"""What kind of work a task is taken for: the caller's word, else a classifier's, else what the text says."""

from collections.abc import Sequence

from service.base.text import one_line
from service.classifiers.reading import Reading
from service.classifiers.verdict import Verdict
from service.contract.decision import Failure, KindSource, KindTold, Source
from service.contract.task import Task

CLASSIFIER_SHARE = 0.8
"""What a classifier's word counts; the rest is what the text says. A model of four billion parameters that is asked for
several things at once names the kind right about so often, and a wrong word must not rule the right kind out."""

LIKELY = 0.6
"""An outcome of a task of a less likely kind counts for its candidate in no kind that is known."""

_DIGITS = 3


def told_kind(task: Task, kinds: Sequence[str]) -> tuple[str | None, list[Failure]]:
    """The caller's kind where the catalog has it, and what is to be noted where it does not."""
    kind = task.kind if task.kind is not None else task.labels.get("kind") if kinds else None
    if kind is None or kind in kinds:
        return kind, []
    known = ", ".join(kinds) if kinds else "it has none"
    detail = f"kind {kind!r} is not in the catalog ({known}); it is found out"
    return None, [Failure(source="request", problem="unknown-kind", detail=one_line(detail, 500))]


def kind_of(told: str | None, verdict: Verdict | None, source: Source | None, reading: Reading) -> KindTold | None:
    """None where the catalog has no kinds. `told` is the caller's; the `verdict` is of the classifier `source`."""
    if told is not None:
        return KindTold(id=told, source="caller", probabilities={told: 1.0})
    shares = reading.kinds
    if not shares:
        return None
    if verdict is not None and verdict.kind is not None and (source == "local_model" or source == "cli"):
        said = verdict.weighed.kinds if verdict.weighed else {verdict.kind: 1.0}
        shares = {
            kind: (1 - CLASSIFIER_SHARE) * share + CLASSIFIER_SHARE * said.get(kind, 0.0)
            for kind, share in shares.items()
        }
        return _told(shares, source)
    return _told(shares, "text")


def learned_kind(kind: KindTold | None) -> str | None:
    """What its outcomes are learned as: the kind that it was taken for, where that is likely enough to be worth it."""
    return kind.id if kind and kind.probabilities[kind.id] >= LIKELY else None


def _told(shares: dict[str, float], source: KindSource) -> KindTold:
    likeliest = max(shares, key=shares.__getitem__)
    rounded = {kind: round(share, _DIGITS) for kind, share in shares.items()}
    return KindTold(id=likeliest, source=source, probabilities=rounded)
