"""Replay of recorded tasks, and what it is held against."""

import math
from pathlib import Path

import msgspec
import pytest

from service.contract.catalog import Candidate, Catalog
from service.contract.errors import InvalidInputError
from service.contract.settings import CliSettings, DecisionSettings, Settings, StoreSettings
from service.core import Core
from service.evaluation.baselines import Baseline, always, in_order, oracle, random_mix
from service.evaluation.curve import draw, svg
from service.evaluation.recorded import (
    RecordedAttempt,
    RecordedTask,
    catalog_for_tasks,
    catalog_of_tasks,
    history_of,
    read_tasks,
)
from service.evaluation.replay import Played, Verifier, play, summarise

CHEAP, STRONG = "small", "large"
CATALOG = Catalog(
    [
        Candidate(agent_type="any", model=CHEAP, solve_rate=0.5, cost_usd=0.01),
        Candidate(agent_type="any", model=STRONG, solve_rate=0.8, cost_usd=1.0),
    ]
)


def recorded(name: str, *, cheap: bool, strong: bool) -> RecordedTask:
    """A task on which both models were tried."""
    return RecordedTask(
        id=name,
        instructions="do it",
        outcomes={
            CHEAP: RecordedAttempt(solved=cheap, cost_usd=0.02),
            STRONG: RecordedAttempt(solved=strong, cost_usd=0.9),
        },
    )


def core_with(catalog: Catalog) -> Core:
    """The real pipeline without any classifier, over a store in memory."""
    settings = Settings(
        store=StoreSettings(url="sqlite://"), cli=CliSettings(preset=""), decision=DecisionSettings(cache_seconds=0)
    )
    core = Core(settings, environ={})
    core.use_catalog(catalog)
    return core


async def test_a_failure_is_followed_by_the_next_candidate_and_both_are_paid_for() -> None:
    """After a recorded failure the task is asked again with its attempts, and the costs add up."""
    core = core_with(CATALOG)
    task = recorded("t", cheap=False, strong=True)
    played = await play(core.pipeline, task, value_usd=50, max_attempts=None, verifier=Verifier())
    await core.aclose()
    assert played.models == [CHEAP, STRONG]
    assert played.solved
    assert math.isclose(played.cost_usd, 0.92)


async def test_it_stops_where_another_attempt_is_not_worthwhile_but_always_makes_the_first() -> None:
    """With a solved task worth less than the strong model costs, only the first attempt is made."""
    core = core_with(CATALOG)
    task = recorded("t", cheap=False, strong=True)
    played = await play(core.pipeline, task, value_usd=0.001, max_attempts=None, verifier=Verifier())
    await core.aclose()
    assert played.models == [CHEAP]
    assert not played.solved


async def test_no_more_attempts_than_asked_for() -> None:
    """`max_attempts` ends it though another attempt would be worthwhile."""
    core = core_with(CATALOG)
    task = recorded("t", cheap=False, strong=True)
    played = await play(core.pipeline, task, value_usd=50, max_attempts=1, verifier=Verifier())
    await core.aclose()
    assert played.models == [CHEAP]


async def test_a_model_without_a_recorded_outcome_is_never_chosen() -> None:
    """Only what was recorded can be played back."""
    core = core_with(CATALOG)
    task = RecordedTask(id="t", instructions="do it", outcomes={STRONG: RecordedAttempt(solved=False, cost_usd=1.0)})
    played = await play(core.pipeline, task, value_usd=50, max_attempts=None, verifier=Verifier())
    await core.aclose()
    assert played.models == [STRONG]


async def test_a_verifier_that_accepts_a_failure_ends_the_task_unsolved() -> None:
    """What a wrong verifier lets pass counts as unsolved, and nothing further is tried."""
    core = core_with(CATALOG)
    task = recorded("t", cheap=False, strong=True)
    verifier = Verifier(false_accept=1.0)
    played = await play(core.pipeline, task, value_usd=50, max_attempts=None, verifier=verifier)
    await core.aclose()
    assert played.models == [CHEAP]
    assert (played.solved, played.wrong) == (False, True)
    assert summarise("forecast", 50, [played], seed=0).wrong_rate == 1


async def test_plans_that_know_of_the_verifier_weigh_its_harm() -> None:
    """With a harm the plans are told of the rates: the strong model goes first, where wrong work would pass often."""
    tasks = [recorded(str(i), cheap=False, strong=True) for i in range(3)]
    core = core_with(CATALOG)
    verifier = Verifier(false_accept=0.4, harm_usd=50)
    played = [await play(core.pipeline, t, value_usd=50, max_attempts=None, verifier=verifier) for t in tasks]
    await core.aclose()
    assert [one.models for one in played] == [[STRONG]] * 3
    assert summarise("forecast", 50, played, seed=0).wrong_rate == 0


async def test_a_verifier_that_rejects_a_solution_is_paid_for() -> None:
    """A solution turned down costs further attempts and is lost."""
    core = core_with(CATALOG)
    task = recorded("t", cheap=True, strong=True)
    verifier = Verifier(false_reject=1.0)
    played = await play(core.pipeline, task, value_usd=50, max_attempts=None, verifier=verifier)
    await core.aclose()
    assert played.models == [CHEAP, STRONG]
    assert not played.solved


def test_a_catalog_of_the_tasks_has_their_efforts() -> None:
    """`agent/model@effort` is three names; a model id without an agent is whole, whatever it holds."""
    names = [
        "codex/gpt@low",
        "codex/gpt@high",
        "codex/openai/gpt@2026@low",
        "opus@2026",
        "/x",
        "codex/mini@",
        "codex/@a",
    ]
    task = RecordedTask(
        id="t", instructions="do it", outcomes={name: RecordedAttempt(solved=True, cost_usd=1) for name in names}
    )
    made = [(one.agent_type, one.model, one.effort) for one in catalog_of_tasks([task]).candidates]
    assert made == [
        ("codex", "gpt", "low"),
        ("codex", "gpt", "high"),
        ("codex", "openai/gpt@2026", "low"),
        ("any", "opus@2026", None),
        ("any", "/x", None),
        ("codex", "mini@", None),
        ("codex", "@a", None),
    ]


EFFORTS = Catalog(
    [
        Candidate(agent_type="codex", model="gpt", effort="low", solve_rate=0.5, cost_usd=0.01),
        Candidate(agent_type="codex", model="gpt", effort="high", solve_rate=0.8, cost_usd=1.0),
    ]
)


async def test_efforts_are_played_back_each_by_its_own_outcomes() -> None:
    """A failure at one effort is followed by the other, and the history names both."""
    low, high = "codex/gpt@low", "codex/gpt@high"
    task = RecordedTask(
        id="t",
        instructions="do it",
        outcomes={low: RecordedAttempt(solved=False, cost_usd=0.02), high: RecordedAttempt(solved=True, cost_usd=0.9)},
    )
    catalog = catalog_for_tasks(EFFORTS, [task])
    core = core_with(catalog)
    played = await play(core.pipeline, task, value_usd=50, max_attempts=None, verifier=Verifier())
    await core.aclose()
    assert (played.models, played.solved) == ([low, high], True)
    assert [(one.model, one.effort, one.solved) for one in history_of([task], EFFORTS)] == [
        ("gpt", "low", False),
        ("gpt", "high", True),
    ]


@pytest.mark.parametrize("name", ["gpt", "codex/gpt"])
def test_a_name_without_an_effort_is_the_first_that_the_catalog_has(name: str) -> None:
    """Tasks that do not say the effort can be read with a catalog that does."""
    task = RecordedTask(id="t", instructions="do it", outcomes={name: RecordedAttempt(solved=True, cost_usd=1)})
    catalog = catalog_for_tasks(EFFORTS, [task])
    assert [one.effort for one in catalog.candidates] == ["low"]
    assert [one.effort for one in history_of([task], catalog)] == ["low"]


def test_the_verifier_errs_at_the_rate_it_is_given_whatever_the_order() -> None:
    """Its errors depend on seed, task and model alone, and are as frequent as asked for."""
    tasks = [recorded(str(i), cheap=False, strong=False) for i in range(4000)]
    verifier = Verifier(false_accept=0.2, seed=1)
    forth = [verifier.accepts(task, CHEAP, solved=False) for task in tasks]
    back = [verifier.accepts(task, CHEAP, solved=False) for task in reversed(tasks)]
    assert forth == back[::-1]
    assert 0.18 < sum(forth) / len(forth) < 0.22
    assert forth != [Verifier(false_accept=0.2, seed=2).accepts(task, CHEAP, solved=False) for task in tasks]


def test_summary_counts_tasks_costs_and_first_choices() -> None:
    """Rates are shares of tasks, and the interval holds the rate."""
    played = [
        Played(solved=True, cost_usd=0.2, models=["a"], seconds=[0.001]),
        Played(solved=False, cost_usd=0.6, models=["a", "b"], seconds=[0.001, 0.003]),
        Played(solved=True, cost_usd=0.4, models=["b"], seconds=[0.002]),
        Played(solved=True, cost_usd=0.0, models=["a"], seconds=[0.002]),
    ]
    result = summarise("forecast", 2.0, played, seed=0)
    assert result.solve_rate == 0.75
    assert math.isclose(result.cost_usd_per_task, 0.3)
    assert result.attempts_per_task == 1.25
    assert result.first_choice == {"a": 0.75, "b": 0.25}
    low, high = result.solve_rate_ci95
    assert low < 0.75 < high
    assert result == summarise("forecast", 2.0, played, seed=0)


def test_baselines_against_figures_worked_out_by_hand() -> None:
    """Each baseline on three tasks."""
    tasks = [
        recorded("easy", cheap=True, strong=True),
        recorded("hard", cheap=False, strong=True),
        recorded("hopeless", cheap=False, strong=False),
    ]
    single = always(tasks, CHEAP)
    assert (single.solve_rate, round(single.cost_usd_per_task, 6)) == (1 / 3, 0.02)
    both = in_order("both", tasks, (CHEAP, STRONG), max_attempts=None, verifier=Verifier())
    assert both.solve_rate == 2 / 3
    assert math.isclose(both.cost_usd_per_task, (0.02 + 0.92 + 0.92) / 3)
    best = oracle(tasks, (CHEAP, STRONG))
    assert best.solve_rate == 2 / 3
    assert math.isclose(best.cost_usd_per_task, (0.02 + 0.9 + 0.02) / 3)


def test_a_random_mix_lies_on_the_line_between_two_models() -> None:
    """At the mean of two costs it solves the mean of the two rates; below the cheapest it is the cheapest."""
    tasks = [recorded("a", cheap=True, strong=True), recorded("b", cheap=False, strong=True)]
    singles = [always(tasks, CHEAP), always(tasks, STRONG)]
    middle = random_mix("mix", singles, (0.02 + 0.9) / 2)
    assert math.isclose(middle.solve_rate, 0.75)
    assert math.isclose(middle.cost_usd_per_task, 0.46)
    assert random_mix("mix", singles, 0.001).solve_rate == 0.5
    assert random_mix("mix", singles, 5.0).solve_rate == 1.0


def test_tasks_are_read_with_file_line_and_place_of_what_is_wrong(tmp_path: Path) -> None:
    """An error names the line and the path in it."""
    good = msgspec.json.encode(recorded("t", cheap=True, strong=True))
    file = tmp_path / "tasks.jsonl"
    file.write_bytes(good + b"\n\n" + good.replace(b"true", b'"yes"', 1) + b"\n")
    assert len(read_tasks(file, limit=1)) == 1
    with pytest.raises(InvalidInputError, match=r"line 3: \$\.outcomes\.small\.solved: expected `bool`"):
        read_tasks(file)
    file.write_bytes(b"\n")
    with pytest.raises(InvalidInputError, match="found none"):
        read_tasks(file)
    with pytest.raises(FileNotFoundError):
        read_tasks(tmp_path / "missing.jsonl")


def test_catalogs_for_tasks() -> None:
    """The catalog's models that were recorded, or one of the tasks' own with nothing known of them."""
    tasks = [recorded("t", cheap=True, strong=True)]
    own = catalog_of_tasks(tasks)
    assert [candidate.model for candidate in own.candidates] == [CHEAP, STRONG]
    assert own.candidates[0].solve_rate is None
    assert catalog_for_tasks(CATALOG, tasks).candidates == CATALOG.candidates
    with pytest.raises(InvalidInputError, match="--catalog-from-tasks"):
        catalog_for_tasks(Catalog([Candidate(agent_type="x", model="y")]), tasks)
    assert {(outcome.model, outcome.solved) for outcome in history_of(tasks, CATALOG)} == {
        (CHEAP, True),
        (STRONG, True),
    }


def test_the_curve_marks_every_point_and_escapes_what_it_writes() -> None:
    """Ours are capitals, others small letters; the SVG is well-formed whatever a model is called."""
    played = [Played(solved=number < 4, cost_usd=0.1, models=["a"], seconds=[0.001]) for number in range(5)]
    ours = [summarise("forecast", 3.0, played, seed=0)]
    others = [Baseline(name="always:<b>&", solve_rate=0.6, cost_usd_per_task=0.5)]
    picture = draw(ours, others)
    assert "A forecast at $3: 80.0% for $0.100" in picture
    assert "a always:<b>&: 60.0% for $0.500" in picture
    assert picture.count("A") >= 2
    text = svg(ours, others, title="<tasks>")
    assert "always:&lt;b&gt;&amp;" in text
    assert "<b>" not in text
    assert text.startswith("<svg")
    assert text.endswith("</svg>\n")
