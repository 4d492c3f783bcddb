"""From shares of probability to a verdict: the choice, how sure it is, the kind, the minutes, a sentence of ours."""

from collections.abc import Sequence

from service.base.text import one_line
from service.classifiers.protocols.questions import LEVELS, ROUND_MINUTES, Questions
from service.classifiers.protocols.shares import concentration, geometric_mean
from service.classifiers.protocols.slot_bias import SlotBias, Slots
from service.classifiers.verdict import REASON_LIMIT, Verdict, Weighed
from service.contract.settings import ProtocolName

Shares = Sequence[float]


def weigh(
    questions: Questions,
    bias: SlotBias,
    protocol: ProtocolName,
    *,
    candidates: Shares,
    kinds: Shares,
    levels: Shares,
    slots: Slots | None = None,
) -> Verdict:
    """Shares by the order of `questions`, each summing to one; `kinds` and `levels` empty where none were given.

    `slots` are those of the candidates where they were listed among others.
    """
    fair = bias.corrected("candidate", candidates, slots)
    fair_kinds = bias.corrected("kind", kinds)
    best = max(range(len(fair)), key=fair.__getitem__)
    minutes = to_round(geometric_mean(levels, [level.minutes for level in LEVELS])) if levels else None
    weighed = Weighed(
        protocol=protocol,
        candidates=tuple([(one, round(share, 6)) for one, share in zip(questions.candidates, fair, strict=True)]),
        kinds={kind: round(share, 6) for kind, share in zip(questions.kinds, fair_kinds, strict=False)},
        levels=tuple([(level.minutes, round(share, 6)) for level, share in zip(LEVELS, levels, strict=False)]),
        note=questions.note,
    )
    return Verdict(
        candidate=questions.candidates[best],
        minutes=minutes,
        confidence=round(concentration(fair), 4),
        reason=_reason(questions, fair, minutes),
        kind=max(weighed.kinds, key=weighed.kinds.__getitem__) if fair_kinds else None,
        weighed=weighed,
    )


def to_round(minutes: float) -> float:
    """The nearest that people say, by ratio."""
    return min(ROUND_MINUTES, key=lambda known: max(known / minutes, minutes / known))


def _reason(questions: Questions, shares: Shares, minutes: float | None) -> str:
    order = sorted(range(len(shares)), key=lambda place: -shares[place])
    first = f"{questions.candidates[order[0]]} has {shares[order[0]]:.0%}"
    second = f", {questions.candidates[order[1]]} {shares[order[1]]:.0%}" if len(order) > 1 else ""
    long = f"; about {minutes:g} minutes of a person's work" if minutes else ""
    what = f"Of the classifier's weight on {len(shares)} candidates {first}{second}{long}."
    return one_line(what, REASON_LIMIT)
