"""Learning from outcomes: what each candidate can do, what it costs, and which labels mean harder tasks."""

import hashlib
from collections.abc import Iterable
from functools import partial
from math import inf

import numpy as np

from service.contract.catalog import Catalog
from service.forecast.by_kind import ROUNDS, Fitted, Seen, costs_differ, estimated, learned_kinds, untaught
from service.forecast.cells import Cells, Grid, Width, cells_of, grid
from service.forecast.columns import WITHDRAWN
from service.forecast.difficulty import SHAPE, Array, Shape, cost_factor
from service.forecast.evidence import Evidence, collect
from service.forecast.history import History, OutcomeRow, label_keys
from service.forecast.label_width import label_spreads, label_widths
from service.forecast.learned import Learned, LearnedAbility, LearnedKind
from service.forecast.likelihood import POINTS, Likelihood, Place, Prior, start_shape
from service.forecast.maximise import maximise
from service.forecast.shapes import next_shape

NEUTRAL = 0.0
"""The ability in logits that solves about half of the catalog's population."""

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
    hurried: bool = False,
) -> Learned:
    """Abilities, costs and offsets from the catalog's figures and the outcomes; pure.

    With no outcomes it is what the catalog says. Safe to run in a thread while outcomes are being added to the
    `History`; those that come later are not in the result. Plain rows all count the same, and nothing is forgotten.
    `minutes_prior` is the mean and standard deviation of what the weight of minutes is taken to be before any outcome,
    `shape` what the shape of difficulty is taken to be. From `start`, what was learned a moment ago, the same is found
    sooner, but for rounding. `hurried` from there on takes a third of the time: abilities and offsets are the most
    probable ones, but the widths of labels and kinds and the shapes of difficulty go only one step towards theirs.
    """
    history = outcomes if isinstance(outcomes, History) else History(outcomes, half_life=inf, max_rows=10**9)
    columns = history.snapshot()
    expected, cells = grid(catalog, shape), cells_of(catalog, columns)
    evidence = collect(cells.columns, cells.keys)
    rows = evidence.rows
    live = int((columns.solved != WITHDRAWN).sum())
    place, prior = _start(expected, cells, evidence, shape, minutes_prior)
    found, factor, widths = untaught(expected, TASKS_SD), np.zeros(0), np.zeros(0)
    who, kind, weight = cells.place[evidence.candidate] // expected.columns, cells.kind[rows], columns.weight[rows]
    cost_usd = columns.cost_usd[rows]
    if len(rows):
        begin = _resumed(place, prior, evidence, cells, start) if start else place
        width = Width(*start.kind_widths) if start else Width()
        hurried = hurried and start is not None
        maximum = partial(_fitted, evidence, hurried=hurried)
        found, fitted = estimated(
            expected,
            cells,
            prior,
            begin,
            width,
            maximum,
            rounds=0 if hurried else ROUNDS,
            differ=costs_differ(catalog, who, kind, cost_usd, weight),
        )
        place, widths = fitted.fit.place, fitted.label_widths
        factor = _cost_factors(evidence, fitted.model, place)[evidence.cell]
    seen = Seen(
        who=who,
        kind=kind,
        cost_usd=cost_usd,
        minutes=columns.seconds[rows] / 60.0,
        factor=factor,
        weight=weight,
    )
    abilities = learned_kinds(catalog, found, seen)
    everywhere: list[LearnedAbility | LearnedKind] = []
    for known in abilities.values():
        everywhere += [known, *known.kinds.values()]
    numbers = np.array([(one.theta, one.cost_usd, one.minutes or 0.0, one.n) for one in everywhere]).ravel()
    shift = place.shift
    content = np.concatenate([numbers, shift, place.shape.ravel(), evidence.labels.astype(np.float64)])
    audible = np.flatnonzero(np.abs(shift[2:]) >= _SILENT).tolist()
    return Learned(
        abilities=abilities,
        tasks=float(shift[0]),
        labels={int(evidence.labels[i]): float(shift[2 + i]) for i in audible},
        label_widths=dict(zip(label_keys(evidence.labels).tolist(), widths.tolist(), strict=True)),
        minutes_weight=float(shift[1]),
        kind_widths=(found.width.kind_sd, found.width.own_sd),
        shapes=dict(zip(evidence.settings.kinds, place.shapes(), strict=True)),
        covariance=tuple(map(tuple, found.covariance.tolist())),
        used=len(rows),
        ignored=live - len(rows),
        version=hashlib.sha256(content.round(4).tobytes()).hexdigest()[:12],
    )


def _start(
    expected: Grid, cells: Cells, evidence: Evidence, shape: Shape, minutes_prior: tuple[float, float]
) -> tuple[Place, Prior]:
    labels, kinds = len(evidence.labels), len(evidence.settings.kinds)
    candidate = cells.place // expected.columns
    mean = np.r_[0.0, minutes_prior[0], np.zeros(labels)]
    prior = Prior(
        rate=expected.rate[candidate],
        weight=expected.weight[candidate],
        shift_mean=mean,
        shift_sd=np.r_[TASKS_SD, minutes_prior[1], np.full(labels, LABEL_SD)],
        shape=shape,
        shape_sd=(LOG_SIGMA_SD, LOG_ODDS_SD),
    )
    theta = expected.mean.ravel()[cells.place]
    return Place(theta, mean, np.tile(start_shape(shape), (kinds, 1))), prior


def _resumed(place: Place, prior: Prior, evidence: Evidence, cells: Cells, start: Learned) -> Place:
    """What was learned before, as far as it goes."""
    known = [start.abilities.get(key) for key, _ in cells.names]
    theta = [
        before if one is None else one.of(kind).theta
        for one, before, (_, kind) in zip(known, place.theta.tolist(), cells.names, strict=True)
    ]
    widths = np.array([start.label_widths.get(key, LABEL_SD) for key in label_keys(evidence.labels).tolist()])
    labels = np.array([start.labels.get(label, 0.0) for label in evidence.labels.tolist()])
    found = Place(
        np.array(theta),
        np.r_[start.tasks, start.minutes_weight, labels],
        np.array([start_shape(start.shape(kind)) for kind in evidence.settings.kinds]),
    )
    prior.shift_sd[2:] = label_spreads(widths, labels / found.unit(prior.shape))
    return found


def _fitted(evidence: Evidence, prior: Prior, place: Place, times: int, *, hurried: bool) -> Fitted:
    model, again = Likelihood(evidence, prior), Likelihood(evidence, prior, again=True)
    left = times
    if hurried:
        shape = next_shape(again, place)
        place = place.reshaped(shape) if np.abs(shape - place.shape).max() >= _SETTLED else place
    while True:
        left -= 1
        fit = maximise(model, place)
        unit = fit.place.unit(prior.shape)
        widths = label_widths(evidence.labels, fit.label_alone / unit, fit.label_variance / unit**2)
        if hurried:
            return Fitted(fit=fit, model=model, label_widths=widths)
        spreads = label_spreads(widths, fit.place.shift[2:] / unit)
        shape = next_shape(again, fit.place)
        changed = max(
            np.abs(np.log(spreads / prior.shift_sd[2:])).max(initial=0.0), np.abs(shape - fit.place.shape).max()
        )
        if changed < _SETTLED or left <= 0:
            return Fitted(fit=fit, model=model, label_widths=widths)
        prior.shift_sd[2:] = spreads
        place = fit.place.reshaped(shape)


def _cost_factors(evidence: Evidence, model: Likelihood, place: Place) -> Array:
    """For each i of the evidence how costly an attempt at such a task is, relative to this service's average task.

    It is the mean of `cost_factor` over the task's posterior: costs of a strong candidate that are seen only after
    weaker ones failed come from harder tasks, and are not taken for its mean.
    """
    like, _ = model.like(place.theta)
    density = model.density(place)[0]
    curve = cost_factor(float(place.shift[0]), place.shapes()[0])[::2]
    both = np.vstack([curve, np.ones(len(POINTS))]).T
    factors = np.empty(len(evidence.count))
    for low in range(0, len(factors), _CHUNK):
        part = slice(low, low + _CHUNK)
        sums = (like[evidence.pattern[part]] * density[evidence.setting[part]]) @ both
        factors[part] = sums[:, 0] / sums[:, 1]
    return factors
