"""How often classifiers agreed with the forecast and who was right where they did not: of all, and of each of them."""

from collections.abc import Iterable, Sequence
from typing import Any

from service.contract.report import OverallAgreement, Right, SourceAgreement
from service.observe.worth import in_words
from service.store.facts import CLASSIFIERS
from service.store.tallies import AdvisedDecisionSums, AdvisedOutcomeSums, DecisionSums, OutcomeSums


def agreement_of(
    made: Sequence[DecisionSums],
    told: Sequence[OutcomeSums],
    advised: Sequence[AdvisedDecisionSums],
    advised_outcomes: Sequence[AdvisedOutcomeSums],
) -> OverallAgreement | None:
    """None where nothing was compared. `advised` are the decisions in which a classifier was not followed, which are
    among those `made` too, where nothing tells which classifier it was."""
    compared = sum(one.compared for one in made)
    if not compared:
        return None
    sources = {one.source for one in made if one.source in CLASSIFIERS and one.compared}
    sources |= {one.advised_by for one in advised} | {one.advised_by for one in advised_outcomes}
    return OverallAgreement(
        **_agreement(made, made, told),
        by_source=[
            _of_source(
                source,
                [one for one in made if one.source == source],
                [one for one in advised if one.advised_by == source],
                [one for one in advised_outcomes if one.advised_by == source],
            )
            for source in sorted(sources, key=_place)
        ],
    )


def _of_source(
    source: str,
    own: Sequence[DecisionSums],
    others: Sequence[AdvisedDecisionSums],
    told: Sequence[AdvisedOutcomeSums],
) -> SourceAgreement:
    """Of what it chose itself, and of what the forecast chose beside it."""
    return SourceAgreement(source=source, **_agreement([*own, *others], own, told))


def _agreement(
    compared: Iterable[DecisionSums | AdvisedDecisionSums],
    chosen: Iterable[DecisionSums],
    told: Sequence[OutcomeSums | AdvisedOutcomeSums],
) -> dict[str, Any]:
    both = [(one.compared, one.agreed) for one in compared]
    loss_usd = sum((one.loss_usd for one in chosen), 0.0)
    classifier, forecast = _right(told, "classifier"), _right(told, "forecast")
    return {
        "compared": sum(of_all for of_all, _ in both),
        "agreed": sum(agreed for _, agreed in both),
        "loss_usd": loss_usd,
        "classifier": classifier,
        "forecast": forecast,
        "worth": in_words(classifier, forecast, loss_usd),
    }


def _right(told: Sequence[OutcomeSums | AdvisedOutcomeSums], who: str) -> Right:
    own = [one for one in told if one.chosen_by == who]
    return Right(n=sum(one.n for one in own), solved=sum(one.solved for one in own))


def _place(source: str) -> tuple[int, str]:
    """As they are asked; what a later version may name besides, after them."""
    return (CLASSIFIERS.index(source) if source in CLASSIFIERS else len(CLASSIFIERS)), source
