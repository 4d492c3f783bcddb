"""How often classifiers agreed with the forecast, and who was right where not: of all of them and of each."""

from typing import Any

import pytest

from service.contract.report import OverallAgreement, Right
from service.observe.agreement import agreement_of
from service.store.tallies import AdvisedDecisionSums, AdvisedOutcomeSums, DecisionSums, OutcomeSums

PAIR: dict[str, Any] = {"agent_type": "claude", "model": "m", "effort": None}


def made(source: str, compared: int, agreed: int, loss_usd: float = 0.0) -> DecisionSums:
    """Decisions of one source."""
    counts: dict[str, Any] = dict.fromkeys(("degraded", "first", "plan_p_solve", "plan_cost_usd", "classifying_usd"), 0)
    counts |= {"n": compared, "known": compared, "compared": compared, "agreed": agreed}
    return DecisionSums(source=source, loss_usd=loss_usd, **PAIR, **counts)


def told(chosen_by: str, n: int, solved: int) -> OutcomeSums:
    """Outcomes of what one or the other wanted."""
    counts: dict[str, Any] = dict.fromkeys(("priced", "cost_usd", "promised", "expected", "kept"), 0)
    return OutcomeSums(kind=None, step=1, chosen_by=chosen_by, n=n, solved=solved, **PAIR, **counts)


def heard(source: str, chosen_by: str, n: int, solved: int) -> AdvisedOutcomeSums:
    """Those of them where this classifier was heard."""
    return AdvisedOutcomeSums(advised_by=source, chosen_by=chosen_by, n=n, solved=solved)


def of(agreement: OverallAgreement | None) -> OverallAgreement:
    """It is there."""
    assert agreement is not None
    return agreement


def test_each_classifier_is_judged_by_its_own_outcomes() -> None:
    """One is worth its time and the other is not, though together they show no difference."""
    agreement = of(
        agreement_of(
            [made("cli", 400, 0, 3.0), made("local_model", 400, 0, 5.0), made("forecast", 800, 80)],
            [told("classifier", 800, 480), told("forecast", 800, 480), told("both", 50, 50)],
            [
                AdvisedDecisionSums(advised_by="local_model", compared=500, agreed=50),
                AdvisedDecisionSums(advised_by="cli", compared=300, agreed=30),
            ],
            [
                heard("local_model", "classifier", 400, 320),
                heard("local_model", "forecast", 400, 240),
                heard("cli", "classifier", 400, 160),
                heard("cli", "forecast", 400, 240),
                heard("cli", "both", 50, 50),
            ],
        )
    )
    assert agreement.worth.startswith("No difference shown")
    assert (agreement.compared, agreement.agreed, agreement.loss_usd) == (1600, 80, 8.0)
    local, cli = agreement.by_source
    assert (local.source, local.compared, local.agreed, local.loss_usd) == ("local_model", 900, 50, 5.0)
    assert (cli.source, cli.compared, cli.agreed, cli.loss_usd) == ("cli", 700, 30, 3.0)
    assert (local.classifier, cli.forecast) == (Right(n=400, solved=320), Right(n=400, solved=240))
    assert local.worth.startswith("The classifier is worth its time")
    assert cli.worth.startswith("The classifier is not worth its time")
    assert agreement.apart == [local, cli]


def test_one_that_is_all_is_not_told_twice() -> None:
    """But it is where an older version recorded more, and did not say of which classifier."""
    decisions, heard_of = [made("cli", 10, 4, 0.5)], [heard("cli", "classifier", 5, 3)]
    alone = of(agreement_of(decisions, [told("classifier", 5, 3)], [], heard_of))
    assert [one.source for one in alone.by_source] == ["cli"]
    assert alone.apart == []
    more = of(agreement_of(decisions, [told("classifier", 9, 3)], [], heard_of))
    assert (more.classifier.n, more.by_source[0].classifier.n) == (9, 5)
    assert more.apart == more.by_source


@pytest.mark.parametrize("source", ["forecast", "requested"])
def test_what_an_older_version_recorded_counts_in_all(source: str) -> None:
    """Nothing tells which classifier was heard where none chose."""
    agreement = of(agreement_of([made(source, 10, 4)], [told("forecast", 3, 2)], [], []))
    assert (agreement.compared, agreement.agreed, agreement.forecast) == (10, 4, Right(n=3, solved=2))
    assert agreement.by_source == agreement.apart == []


def test_the_order_is_that_in_which_they_are_asked() -> None:
    """What a later version may call otherwise comes after them; also one of whose decisions none is in the span."""
    decisions = [made("cli", 1, 1), made("local_model", 1, 1)]
    heard_of = [heard("zebra", "both", 1, 1), heard("another", "classifier", 2, 1)]
    agreement = of(agreement_of(decisions, [], [], heard_of))
    assert [one.source for one in agreement.by_source] == ["local_model", "cli", "another", "zebra"]
    assert [one.compared for one in agreement.by_source] == [1, 1, 0, 0]
    assert agreement_of([made("forecast", 0, 0)], [], [], heard_of) is None
