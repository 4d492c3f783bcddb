"""Learning from outcomes: what each candidate can do, what it costs, and which labels mean harder tasks."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np

from service.contract.catalog import Catalog
from service.forecast import costs
from service.forecast.difficulty import ability
from service.forecast.evidence import collect
from service.forecast.history import WITHDRAWN, History, OutcomeRow
from service.forecast.likelihood import Prior, cost_factors, maximise

PRIOR_WEIGHT = 30.0
"""A `solve_rate` of the catalog counts as so many outcomes on average tasks. The data at hand cannot fit it (published
rates include the very tasks, so that the heavier the prior the better): 30 gives up 0.3 to 1 % of log-likelihood there,
and lets 30 outcomes elsewhere outweigh a benchmark."""

UNKNOWN_RATE = 0.5
"""Assumed where the catalog has no `solve_rate`: the middle of the scale."""

UNKNOWN_WEIGHT = 1.0
"""What is assumed counts as one outcome, the weakest prior that keeps an ability finite."""

NEUTRAL = 0.0
"""The ability in logits that solves UNKNOWN_RATE of the catalog's population."""

TASKS_SD = 0.5
"""How far, in logits, this service's tasks as a whole are expected to be from the catalog's population."""

LABEL_SD = 0.7
"""How far, in logits, tasks with one label are expected to be from the others: the prior that shrinks an offset."""

CLASSIFIER_WEIGHT = 0.3
"""Logits by which a task is harder when the classifier's minutes are e times as long, before any outcome. Minutes by
people are worth 1.5 on SWE-bench Verified (tests/load/forecast_fit.py); a model's are trusted a fifth of that."""

CLASSIFIER_WEIGHT_SD = 0.3
"""Its uncertainty: about a hundred tasks with outcomes and minutes move the weight to what they show."""

_RATES = (0.001, 0.999)
"""A rate beyond these is taken for a rounded one."""


class LearnedAbility(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate: ability in logits, mean cost of an attempt in US dollars, and the outcomes that told of each."""

    theta: float
    cost_usd: float
    n: int
    n_cost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """Everything that outcomes taught, for the candidates of one catalog. Immutable.

    `used` outcomes count in it; `ignored` are of pairs that the catalog does not have. `tasks` is by how much this
    service's tasks are harder than the catalog's population, in logits, `labels` the same for a label (by digest);
    `minutes_weight` is how many logits harder a task is when the classifier's minutes are e times as long.
    """

    abilities: dict[tuple[str, str], LearnedAbility]
    tasks: float
    labels: dict[int, float]
    minutes_weight: float
    used: int
    ignored: int
    version: str


def learn(
    catalog: Catalog,
    outcomes: History | Iterable[OutcomeRow],
    *,
    minutes_prior: tuple[float, float] = (CLASSIFIER_WEIGHT, CLASSIFIER_WEIGHT_SD),
) -> Learned:
    """Abilities, costs and offsets from the catalog's figures and the outcomes; pure, and the same in any order.

    With no outcomes it is what the catalog says. Safe to run in a thread while outcomes are being added to the
    `History`; those that come later are not in the result. `minutes_prior` is the mean and
    standard deviation of what the weight of minutes is taken to be before any outcome.
    """
    history = outcomes if isinstance(outcomes, History) else History(outcomes)
    columns = history.snapshot()
    candidates = catalog.candidates
    keys = [candidate.key for candidate in candidates]
    evidence = collect(columns, keys)
    rows, who = evidence.rows, evidence.candidate
    live = int((columns.solved != WITHDRAWN).sum())
    rate = np.array([UNKNOWN_RATE if c.solve_rate is None else c.solve_rate for c in candidates])
    weight = np.array([UNKNOWN_WEIGHT if c.solve_rate is None else PRIOR_WEIGHT for c in candidates])
    rate = np.clip(rate, *_RATES)
    theta = ability(rate)
    shift = np.array([0.0, minutes_prior[0]] + [0.0] * len(evidence.labels))
    factor = np.zeros(0)
    if len(rows):
        spread = np.array([TASKS_SD, minutes_prior[1]] + [LABEL_SD] * len(evidence.labels))
        fit = maximise(evidence, Prior(rate=rate, weight=weight, shift_mean=shift, shift_sd=spread), theta)
        theta, shift, factor = fit.theta, fit.shift, cost_factors(evidence, fit)[evidence.cell]
    cost, n_cost = costs.learned_costs(*costs.prior_costs(candidates), who, columns.cost_usd[rows], factor)
    n = np.bincount(who, minlength=len(keys))
    abilities = {
        key: LearnedAbility(theta=float(theta[i]), cost_usd=float(cost[i]), n=int(n[i]), n_cost=int(n_cost[i]))
        for i, key in enumerate(keys)
    }
    content = np.concatenate([theta, cost, n, shift, evidence.labels.astype(np.float64)]).tobytes()
    return Learned(
        abilities=abilities,
        tasks=float(shift[0]),
        labels={int(label): float(shift[2 + i]) for i, label in enumerate(evidence.labels)},
        minutes_weight=float(shift[1]),
        used=len(rows),
        ignored=live - len(rows),
        version=hashlib.sha256(content).hexdigest()[:12],
    )
