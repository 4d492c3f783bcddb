"""What is kept of outcomes, what is forgotten, and what a snapshot of it brings back."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from service.contract.catalog import Candidate, Catalog
from service.forecast.ability import learn
from service.forecast.columns import FORMAT, Columns
from service.forecast.difficulty import SHAPE, solve_rate
from service.forecast.history import MAX_TASK_ROWS, History, OutcomeRow
from service.forecast.learned import Learned

CATALOG = Catalog(
    Candidate(agent_type="any", model=f"m{i}", solve_rate=rate, cost_usd=0.1) for i, rate in enumerate([0.5, 0.6, 0.7])
)


def row(
    model: int,
    solved: bool,
    *,
    task: str | None = None,
    failed: tuple[tuple[str, str], ...] = (),
    cost_usd: float | None = None,
    labels: dict[str, str] | None = None,
) -> OutcomeRow:
    """An outcome of a model."""
    return OutcomeRow(
        agent_type="any",
        model=f"m{model}",
        solved=solved,
        task=task,
        failed=failed,
        cost_usd=cost_usd,
        labels=labels or {},
    )


def rate(learned: Learned, model: int) -> float:
    """The share of this service's tasks that it is taken to solve."""
    theta = np.array([learned.abilities["any", f"m{model}"].theta])
    return float(solve_rate(theta, learned.tasks, learned.shape(None))[0])


def test_weights_halve_with_newer_outcomes_of_the_same_candidate() -> None:
    """Outcomes of others, and withdrawn ones, make none older."""
    history = History(half_life=2.0)
    for model in (0, 1, 0, 1, 1):
        history.put(row(model, True), f"{model}-{len(history)}")
    history.withdraw("1-4")
    assert history.snapshot().weight == pytest.approx([0.5**0.5, 0.5**0.5, 1.0, 1.0, 0.0])


def test_newer_outcomes_outvote_many_older_ones() -> None:
    """After 3,000 outcomes at 0.9, 150 at 0.05 leave less than 0.7, though by number they are a twentieth."""
    rng = np.random.default_rng(1)
    history = History(row(2, bool(rng.random() < 0.9)) for _ in range(3000))
    before = rate(learn(CATALOG, history), 2)
    for _ in range(150):
        history.put(row(2, bool(rng.random() < 0.05)))
    assert before > 0.85
    assert rate(learn(CATALOG, history), 2) < 0.7


def test_costs_are_forgotten_likewise() -> None:
    """A price that rose tenfold is found after as many outcomes as abilities are."""
    history = History([row(1, True, cost_usd=0.1) for _ in range(2000)], half_life=100.0)
    for _ in range(200):
        history.put(row(1, True, cost_usd=1.0))
    assert learn(CATALOG, history).abilities["any", "m1"].cost_usd == pytest.approx(0.76, abs=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_history_is_bounded_whatever_comes(seed: int) -> None:
    """Endless outcomes of one pair, of ever new pairs, of one task, or with ever new labels: rows stay bounded."""
    history = History(max_rows=400, half_life=50.0)
    for i in range(3000):
        history.put(
            (
                row(0, True),
                OutcomeRow(agent_type="any", model=f"n{i}", solved=True, failed=(("x", f"{i}"),)),
                row(i % 3, i % 2 > 0, task="always the same"),
                row(i % 3, True, labels={f"k{i}": "v"}, task=f"t{i // 3}"),
            )[seed],
            f"o{i}",
        )
    columns = history.snapshot()
    assert len(history) <= 510
    assert len(columns.pairs) <= 2 * 510
    assert len(history.to_bytes()) < 40_000
    learn(CATALOG, history)


def test_the_newest_are_kept() -> None:
    """Of one pair those of the last six half-lives; of too many pairs those that came last."""
    history = History(max_rows=1000, half_life=20.0)
    for i in range(5000):
        history.put(row(0, True, cost_usd=float(i)))
    data = Columns.from_bytes(history.to_bytes())
    assert data.cost_usd.tolist() == list(range(4879, 5000))
    many = History(max_rows=1000, half_life=20.0)
    for i in range(5000):
        many.put(OutcomeRow(agent_type="any", model=f"n{i}", solved=True, cost_usd=float(i)))
    assert Columns.from_bytes(many.to_bytes()).cost_usd.tolist() == list(range(4000, 5000))


def test_what_is_forgotten_goes_with_its_task() -> None:
    """A frequent candidate's old failure stays as long as the result of a rare one that followed it."""
    history = History(max_rows=10_000, half_life=10.0)
    history.put(row(0, False, task="rare"))
    history.put(row(2, True, task="rare", failed=(("any", "m0"),)))
    for i in range(500):
        history.put(row(0, True, task=f"t{i}"))
    columns = Columns.from_bytes(history.to_bytes()).weighed(10.0)
    assert columns.solved[:2].tolist() == [0, 1]
    assert len(columns.solved) == 2 + 61
    assert columns.weight[0] < 0.02
    learned = learn(CATALOG, history)
    alone = learn(CATALOG, [row(2, True, failed=(("any", "m0"),))])
    first_try = learn(CATALOG, [row(2, True)])
    assert abs(rate(learned, 2) - rate(alone, 2)) < abs(rate(learned, 2) - rate(first_try, 2))


def test_the_cut_never_goes_through_a_task() -> None:
    """Where there is no room for a whole task it is left out as a whole."""
    history = History(max_rows=100, half_life=inf)
    for i in range(300):
        history.put(row(0, False, task=f"t{i // 3}"))
    _, counts = np.unique(Columns.from_bytes(history.to_bytes()).task, return_counts=True)
    assert counts.tolist() == [3] * 33


def test_one_task_keeps_its_newest_outcomes() -> None:
    """An id that a scheduler sends with everything is no task."""
    history = History(max_rows=100, half_life=inf)
    for i in range(1000):
        history.put(row(0, True, task="x", cost_usd=float(i)))
    assert Columns.from_bytes(history.to_bytes()).cost_usd.tolist() == list(range(1000 - MAX_TASK_ROWS, 1000))


def test_the_same_outcome_again_takes_the_place_of_the_first() -> None:
    """An outcome whose decision was found later is learned once, with what the decision knew."""
    history, direct = History(), History()
    history.put(row(2, True), "one")
    history.put(row(2, True, failed=(("any", "m0"),)), "one")
    direct.put(row(2, True, failed=(("any", "m0"),)), "one")
    assert len(history) == 1
    assert learn(CATALOG, history) == learn(CATALOG, direct)


def test_a_snapshot_brings_everything_back() -> None:
    """From the bytes the same is learned, the same outcomes can be withdrawn, and more can be added."""
    rng = np.random.default_rng(2)
    history = History(max_rows=300, half_life=60.0)
    for i in range(900):
        history.put(
            row(
                i % 3,
                bool(rng.random() < 0.6),
                task=f"t{i // 2}",
                failed=(("any", "m0"), ("gone", "\ud800")) if i % 5 == 0 else (),
                cost_usd=float(rng.random()),
                labels={"repo": f"r{i % 4}"},
            ),
            f"o{i}",
        )
    again = History.from_bytes(history.to_bytes(), max_rows=300, half_life=60.0)
    assert learn(CATALOG, again) == learn(CATALOG, history)
    assert again.withdraw("o899")
    assert history.withdraw("o899")
    assert not again.withdraw("o1")
    again.put(row(1, True), "more")
    history.put(row(1, True), "more")
    assert learn(CATALOG, again) == learn(CATALOG, history)


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\x78\x01"], ids=["empty", "text", "cut"])
def test_a_damaged_snapshot_is_refused(damage: bytes) -> None:
    """It raises ValueError, and nothing else, so that whoever reads it can start from the outcomes."""
    with pytest.raises(ValueError, match="snapshot"):
        History.from_bytes(damage)
    with pytest.raises(ValueError, match="snapshot"):
        Learned.from_bytes(damage)


def test_a_snapshot_that_lies_is_refused() -> None:
    """Columns that do not fit each other are refused before anything is computed from them."""
    whole = History([row(0, True, task="t"), row(1, False, task="t")]).snapshot()
    torn = (
        replace(whole, pair=whole.pair + 7),
        replace(whole, task=whole.task[:1]),
        replace(whole, label_counts=whole.label_counts + 1),
    )
    for columns in torn:
        with pytest.raises(ValueError, match=f"format {FORMAT}"):
            Columns.from_bytes(columns.to_bytes())


def test_what_was_learned_comes_back_from_its_bytes() -> None:
    """All of it, in a few kilobytes."""
    rows = [row(i % 3, i % 2 > 0, labels={"repo": f"r{i % 2}"}, cost_usd=0.2) for i in range(200)]
    learned = learn(CATALOG, rows)
    assert Learned.from_bytes(learned.to_bytes()) == learned
    assert len(learned.to_bytes()) < 4000


def test_from_what_was_learned_a_moment_ago_the_same_is_found() -> None:
    """Learning goes on from where it was, and ends where it would have ended."""
    rng = np.random.default_rng(3)
    rows = [row(i % 3, bool(rng.random() < 0.6), task=f"t{i // 3}", labels={"repo": f"r{i % 7}"}) for i in range(900)]
    before = learn(CATALOG, rows[:-5])
    after, anew = learn(CATALOG, rows, start=before), learn(CATALOG, rows)
    for key, known in anew.abilities.items():
        assert after.abilities[key].theta == pytest.approx(known.theta, abs=0.01)
    assert after.labels == pytest.approx(anew.labels, abs=0.02)


def test_the_shape_of_difficulty_is_learned() -> None:
    """Tasks that all candidates solve or none have a wider spread than tasks on which they differ; kinds by themselves.

    Where single attempts are all there is, nothing tells, and the shape stays as it is assumed to be.
    """
    rng = np.random.default_rng(4)
    theta = np.array([0.0, 0.7, 1.3])

    def rows(sigma: float, kind: str, tasks: int) -> list[OutcomeRow]:
        found: list[OutcomeRow] = []
        for t in range(tasks):
            solved = rng.random(3) < 1 / (1 + np.exp(rng.normal(0, sigma) - theta))
            found += [
                OutcomeRow(agent_type="any", model=f"m{m}", solved=bool(solved[m]), task=f"{kind}{t}", kind=kind)
                for m in range(3)
            ]
        return found

    shapes = learn(CATALOG, rows(4.0, "wide", 600) + rows(1.2, "narrow", 600)).shapes
    assert shapes["wide"].sigma > 3.2
    assert shapes["narrow"].sigma < 1.7
    single = learn(CATALOG, [row(i % 3, i % 5 < 3) for i in range(600)]).shape(None)
    assert single.sigma == pytest.approx(SHAPE.sigma, rel=0.1)
