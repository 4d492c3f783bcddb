"""Learning from outcomes: what each candidate can do, what it costs, and which labels mean harder tasks."""

import hashlib
from collections.abc import Iterable
from math import inf

import numpy as np

from service.contract.catalog import Catalog
from service.forecast import costs
from service.forecast.columns import WITHDRAWN
from service.forecast.difficulty import SHAPE, Array, Shape, ability, cost_factor
from service.forecast.evidence import Evidence, collect
from service.forecast.history import History, OutcomeRow, label_keys
from service.forecast.label_width import label_spreads, label_widths
from service.forecast.learned import Learned, LearnedAbility
from service.forecast.likelihood import POINTS, Likelihood, Place, Prior, start_shape
from service.forecast.maximise import Fit, maximise, next_shape

PRIOR_WEIGHT = 30.0
"""A `solve_rate` of the catalog counts as so many outcomes on average tasks. The data at hand cannot fit it (published
rates include the very tasks, so that the heavier the prior the better): 30 gives up 0.3 to 1 % of log-likelihood there,
and lets 30 outcomes elsewhere outweigh a benchmark."""

UNKNOWN_RATE = 0.5
"""Assumed where the catalog has no `solve_rate`: the middle of the scale."""

UNKNOWN_WEIGHT = 1.0
"""What is assumed counts as one outcome, the weakest prior that keeps an ability finite."""

NEUTRAL = 0.0
"""The ability in logits that solves about UNKNOWN_RATE of the catalog's population."""

TASKS_SD = 0.5
"""How far, in logits, this service's tasks as a whole are expected to be from the catalog's population."""

LABEL_SD = 2.0
"""How far, in logits, tasks with one label are taken to be from the others before the labels of its key were compared:
the prior that shrinks an offset. After that see label_width.py."""

LOG_SIGMA_SD = 0.35
LOG_ODDS_SD = 1.0
"""How far the shape of difficulty is expected to be from `SHAPE`: its spread by a factor of 1.4, and the odds of a task
that nobody solves by a factor of 2.7 (standard deviations). Between kinds of work it differs about as much."""

CLASSIFIER_WEIGHT = 0.3
"""Logits by which a task is harder when the classifier's minutes are e times as long, before any outcome. Minutes by
people are worth 1.5 on SWE-bench Verified (tests/load/forecast_fit.py); a model's are trusted a fifth of that."""

CLASSIFIER_WEIGHT_SD = 0.3
"""Its uncertainty: about a hundred tasks with outcomes and minutes move the weight to what they show."""

_RATES = (0.001, 0.999)
"""A rate beyond these is taken for a rounded one."""

_ROUNDS = 8
"""How often widths of labels and shapes of difficulty are estimated from abilities and offsets, and these from them."""

_SETTLED = 0.01
"""Change of a shape's logs that is none."""

_SILENT = 1e-3
"""An offset below this is none."""

_CHUNK = 8192


def learn(
    catalog: Catalog,
    outcomes: History | Iterable[OutcomeRow],
    *,
    minutes_prior: tuple[float, float] = (CLASSIFIER_WEIGHT, CLASSIFIER_WEIGHT_SD),
    shape: Shape = SHAPE,
    start: Learned | None = None,
) -> Learned:
    """Abilities, costs and offsets from the catalog's figures and the outcomes; pure.

    With no outcomes it is what the catalog says. Safe to run in a thread while outcomes are being added to the
    `History`; those that come later are not in the result. Plain rows all count the same, and nothing is forgotten.
    `minutes_prior` is the mean and standard deviation of what the weight of minutes is taken to be before any outcome,
    `shape` what the shape of difficulty is taken to be. From `start`, what was learned a moment ago, the same is found
    sooner, but for rounding.
    """
    history = outcomes if isinstance(outcomes, History) else History(outcomes, half_life=inf, max_rows=10**9)
    columns = history.snapshot()
    candidates = catalog.candidates
    keys = [candidate.key for candidate in candidates]
    evidence = collect(columns, keys)
    rows, who = evidence.rows, evidence.candidate
    live = int((columns.solved != WITHDRAWN).sum())
    place, prior = _start(catalog, evidence, shape, minutes_prior)
    factor, widths = np.zeros(0), np.zeros(0)
    covariance = np.diag(_prior_variance(prior))
    if len(rows):
        fit, model, widths = _fitted(
            evidence, prior, _resumed(place, prior, evidence, catalog, start) if start else place
        )
        place, covariance, factor = fit.place, fit.covariance, _cost_factors(evidence, model, fit)[evidence.cell]
    seen = columns.cost_usd[rows]
    cost, n_cost = costs.learned_means(
        *costs.prior_costs(candidates), who, seen, factor, columns.weight[rows], costs.UNKNOWN_COST_USD
    )
    n = np.bincount(who, minlength=len(keys))
    theta, shift = place.theta, place.shift
    content = np.concatenate([theta, cost, n, shift, place.shape.ravel(), evidence.labels.astype(np.float64)])
    audible = np.flatnonzero(np.abs(shift[2:]) >= _SILENT).tolist()
    return Learned(
        abilities={
            key: LearnedAbility(theta=float(theta[i]), cost_usd=float(cost[i]), n=int(n[i]), n_cost=int(n_cost[i]))
            for i, key in enumerate(keys)
        },
        tasks=float(shift[0]),
        labels={int(evidence.labels[i]): float(shift[2 + i]) for i in audible},
        label_widths=dict(zip(label_keys(evidence.labels).tolist(), widths.tolist(), strict=True)),
        minutes_weight=float(shift[1]),
        shapes=dict(zip(evidence.settings.kinds, place.shapes(), strict=True)),
        covariance=tuple(map(tuple, covariance[: len(keys) + 1, : len(keys) + 1].tolist())),
        used=len(rows),
        ignored=live - len(rows),
        version=hashlib.sha256(content.round(4).tobytes()).hexdigest()[:12],
    )


def published(catalog: Catalog, shape: Shape) -> Array:
    """The abilities that the catalog's rates are, where difficulty has this shape."""
    rate = np.array([UNKNOWN_RATE if c.solve_rate is None else c.solve_rate for c in catalog.candidates])
    return ability(np.clip(rate, *_RATES), shape) if len(rate) else rate


def _start(
    catalog: Catalog, evidence: Evidence, shape: Shape, minutes_prior: tuple[float, float]
) -> tuple[Place, Prior]:
    known = [candidate.solve_rate is not None for candidate in catalog.candidates]
    rate = [UNKNOWN_RATE if c.solve_rate is None else c.solve_rate for c in catalog.candidates]
    labels = len(evidence.labels)
    mean = np.r_[0.0, minutes_prior[0], np.zeros(labels)]
    prior = Prior(
        rate=np.clip(np.array(rate, dtype=np.float64), *_RATES),
        weight=np.where(known, PRIOR_WEIGHT, UNKNOWN_WEIGHT),
        shift_mean=mean,
        shift_sd=np.r_[TASKS_SD, minutes_prior[1], np.full(labels, LABEL_SD)],
        shape=shape,
        shape_sd=(LOG_SIGMA_SD, LOG_ODDS_SD),
    )
    kinds = len(evidence.settings.kinds)
    return Place(published(catalog, shape), mean, np.tile(start_shape(shape), (kinds, 1))), prior


def _resumed(place: Place, prior: Prior, evidence: Evidence, catalog: Catalog, start: Learned) -> Place:
    """What was learned before, as far as it goes."""
    known = [start.abilities.get(candidate.key) for candidate in catalog.candidates]
    widths = np.array([start.label_widths.get(key, LABEL_SD) for key in label_keys(evidence.labels).tolist()])
    labels = np.array([start.labels.get(label, 0.0) for label in evidence.labels.tolist()])
    found = Place(
        np.array([theta if one is None else one.theta for one, theta in zip(known, place.theta.tolist(), strict=True)]),
        np.r_[start.tasks, start.minutes_weight, labels],
        np.array([start_shape(start.shape(kind)) for kind in evidence.settings.kinds]),
    )
    prior.shift_sd[2:] = label_spreads(widths, labels / found.unit(prior.shape))
    return found


def _prior_variance(prior: Prior) -> Array:
    """Of abilities and of the mean of all tasks, before any outcome: that of a rate in logits, for difficulty's spread
    (Laplace)."""
    attenuated = 1 + (prior.shape.sigma / 1.7) ** 2
    variance: Array = np.r_[attenuated / (prior.weight * prior.rate * (1 - prior.rate)), TASKS_SD**2]
    return variance


def _fitted(evidence: Evidence, prior: Prior, place: Place) -> tuple[Fit, Likelihood, Array]:
    """The fit, what it was made with, and the width of each label's key."""
    model, again = Likelihood(evidence, prior), Likelihood(evidence, prior, again=True)
    left = _ROUNDS
    while True:
        left -= 1
        fit = maximise(model, place)
        unit = fit.place.unit(prior.shape)
        widths = label_widths(evidence.labels, fit.label_alone / unit, fit.label_variance / unit**2)
        spreads = label_spreads(widths, fit.place.shift[2:] / unit)
        shape = next_shape(again, fit.place)
        changed = max(
            np.abs(np.log(spreads / prior.shift_sd[2:])).max(initial=0.0), np.abs(shape - fit.place.shape).max()
        )
        if changed < _SETTLED or left == 0:
            return fit, model, widths
        prior.shift_sd[2:] = spreads
        place = fit.place.reshaped(shape)


def _cost_factors(evidence: Evidence, model: Likelihood, fit: Fit) -> Array:
    """For each i of the evidence how costly an attempt at such a task is, relative to this service's average task.

    It is the mean of `cost_factor` over the task's posterior: costs of a strong candidate that are seen only after
    weaker ones failed come from harder tasks, and are not taken for its mean.
    """
    like, _ = model.like(fit.place.theta)
    density = model.density(fit.place)[0]
    curve = cost_factor(float(fit.place.shift[0]), fit.place.shapes()[0])[::2]
    both = np.vstack([curve, np.ones(len(POINTS))]).T
    factors = np.empty(len(evidence.count))
    for low in range(0, len(factors), _CHUNK):
        part = slice(low, low + _CHUNK)
        sums = (like[evidence.pattern[part]] * density[evidence.setting[part]]) @ both
        factors[part] = sums[:, 0] / sums[:, 1]
    return factors
