"""How the benchmarks of blending compare policies, and what their simulated classifiers say."""

import random

import numpy as np
import pytest

from service.contract.catalog import Candidate
from tests.load.leads import Lead, Numbers, Policy, half_interval
from tests.load.recorded_sayings import Offer, best, cheapest, right, strongest, wrong

OFFERS = [
    Offer(Candidate(agent_type="a", model="dear"), True, 2.0, (0.9, 1.5)),
    Offer(Candidate(agent_type="a", model="middling"), True, 1.0, (0.7, 1.0)),
    Offer(Candidate(agent_type="a", model="cheap"), False, 0.1, (0.3, 0.2)),
]
DEAR, MIDDLING, CHEAP = OFFERS


def test_the_blend_is_held_against_the_better_of_both() -> None:
    """By the mean over seeds, and the difference is taken seed by seed."""
    net: dict[Policy, Numbers] = {
        "classifier": np.array([1.0, 1.0]),
        "forecast": np.array([0.5, 2.0]),
        "blend": np.array([0.8, 2.3]),
    }
    lead = Lead.of(net, 3.0)
    assert lead.better == "forecast"
    assert lead.mean == pytest.approx(0.1)
    assert lead.spread == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("seeds", "quantile"), [(5, 2.776), (6, 2.571), (8, 2.365), (12, 2.201)])
def test_few_seeds_have_a_wider_interval(seeds: int, quantile: float) -> None:
    """That of Student's t (tables), within two per cent."""
    values = np.arange(seeds, dtype=np.float64)
    assert half_interval(values) == pytest.approx(quantile * values.std(ddof=1) / seeds**0.5, rel=0.02)


def test_the_best_solves_at_the_least_cost() -> None:
    """Where nobody solves the task, the least is lost by whoever costs least."""
    assert best(OFFERS) is MIDDLING
    assert best([offer._replace(solved=False) for offer in OFFERS]).candidate is CHEAP.candidate


def test_simulated_classifiers_are_as_right_as_they_say() -> None:
    """A share of 0.3 is that of the best one's, exactly: any other is named else."""
    source = random.Random(1)
    says = [right(0.3)(source, OFFERS) is MIDDLING for _ in range(4000)]
    assert sum(says) / len(says) == pytest.approx(0.3, abs=0.03)
    assert right(0.0)(source, [CHEAP]) is CHEAP


def test_some_do_not_look_at_the_task() -> None:
    """The strongest and the cheapest are so over all tasks; who is wrong names a failure where there is one."""
    source = random.Random(1)
    assert strongest(source, OFFERS) is DEAR
    assert cheapest(source, OFFERS) is CHEAP
    assert wrong(source, OFFERS) is CHEAP
    assert wrong(source, [DEAR]) is DEAR
