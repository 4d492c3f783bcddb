"""What the plan must reach on recorded benchmark tasks, where they are on this machine: through the real pipeline."""

import pytest

from service.evaluation.baselines import Baseline, always
from service.evaluation.recorded import RecordedTask, read_tasks
from tests.load.cost_quality import curve
from tests.support.recorded_tasks import Recorded, data_directory

DATA = data_directory()
pytestmark = pytest.mark.skipif(DATA is None, reason="the recorded tasks are not here; POINTSMAN_DATA names them")


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    """The 231 tasks as arrays, and their catalog."""
    assert DATA is not None
    return Recorded.load(DATA)


@pytest.fixture(scope="module")
def tasks() -> list[RecordedTask]:
    """The same as requests are made of them."""
    assert DATA is not None
    return read_tasks(DATA / "swebench_dev.jsonl")


@pytest.fixture(scope="module")
def best(recorded: Recorded, tasks: list[RecordedTask]) -> Baseline:
    """The single model that solves most."""
    return max((always(tasks, model) for model in recorded.models), key=lambda single: single.solve_rate)


@pytest.mark.parametrize(("outcomes", "share"), [(None, 0.15), (0, 0.20)], ids=["learned", "published-only"])
async def test_the_best_single_models_rate_for_a_fraction_of_its_cost(
    recorded: Recorded, tasks: list[RecordedTask], best: Baseline, outcomes: int | None, share: float
) -> None:
    """At $1.50 a solved task, as many are solved as by the best model alone, for 15 % of its cost, or 20 % untaught."""
    (reached,) = await curve(recorded.catalog(DATA), tasks, values=(1.5,), outcomes=outcomes)
    assert reached.solve_rate >= best.solve_rate
    assert reached.cost_usd_per_task <= share * best.cost_usd_per_task


async def test_more_is_solved_at_no_more_than_the_best_single_models_cost(
    recorded: Recorded, tasks: list[RecordedTask], best: Baseline
) -> None:
    """At $15 a solved task, at least six points more are solved than by the best model alone, for no more money."""
    (reached,) = await curve(recorded.catalog(DATA), tasks, values=(15.0,))
    assert reached.solve_rate >= best.solve_rate + 0.06
    assert reached.cost_usd_per_task <= best.cost_usd_per_task
