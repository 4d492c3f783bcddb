"""How far a classifier's choice moves the chances: as much as outcomes have shown that it deserves.

For each candidate a classifier leans by x = ln(n · p), the log of its share of the classifier's weight over an equal
part, and the candidate's ability for this one task is moved by w · x logits. The weight w is a logistic regression on
the outcomes of choices, beside the chance p₀ that the forecast alone gave them:

    logit P(solved) = logit p₀ + a + w · x,      a ~ Normal(0, INTERCEPT_SD²),  w ~ Normal(FIRST_WEIGHT, WEIGHT_SD²)

The intercept takes up a forecast that promises too much or too little for everybody. One weight for each form of
classifier (its source and protocol), because a share of 0.6 means another thing from each.
"""

from collections.abc import Mapping, Sequence
from math import exp, log

import msgspec
import numpy as np

FIRST_WEIGHT = 0.05
"""Logits for each unit of x before any outcome: next to nothing, since half of the published ones are no better."""

WEIGHT_SD = 0.6
INTERCEPT_SD = 0.3

MAX_LEAN = 2.5
"""Of x: a share of 0.99 of twelve candidates, and of 0.007."""

CHOSEN_LEAD = 0.5
"""A classifier that only names its choice is taken to put so much of its weight there beyond the equal part."""

REMEMBERED = 2000
"""Newest outcomes of each form that are learned from: models are replaced, and prompts are edited."""

LEAST_LOGITS = 0.15
"""A smaller effect on every candidate is none, and spares a forecast of its own: so is that of FIRST_WEIGHT."""

STEP_LOGITS = 0.1
"""Effects are rounded to it, so that tasks share forecasts and plans."""

Key = tuple[str, str]


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One choice whose outcome is known: the forecast's own chance of it (0 to 1), the classifier's x, the result."""

    p_forecast: float
    lean: float
    solved: bool


class Weight(msgspec.Struct, frozen=True, kw_only=True):
    """What outcomes taught of one form of classifier: logits for each unit of x, how sure, and from how many."""

    weight: float = FIRST_WEIGHT
    sd: float = WEIGHT_SD
    outcomes: int = 0

    @property
    def hopeful(self) -> "Weight":
        """One standard error higher: with it a classifier of which little is known is followed now and then where it
        differs, and that is how its weight becomes known. The error shrinks with each outcome."""
        return Weight(weight=self.weight + self.sd, sd=self.sd, outcomes=self.outcomes)


def leans_of_shares(shares: Mapping[Key, float], candidates: Sequence[Key]) -> tuple[float, ...]:
    """x for each of the candidates; one that the classifier was not asked about gets that of the last."""
    count = len(shares)
    lowest = min(shares.values(), default=1.0)
    return tuple([_clipped(count * shares.get(key, lowest)) for key in candidates])


def leans_of_choice(chosen: Key, candidates: Sequence[Key]) -> tuple[float, ...]:
    """The same for a classifier that names its choice and no shares."""
    count = len(candidates)
    lead, other = lean_of_choice(count, chosen=True), lean_of_choice(count, chosen=False)
    return tuple([lead if key == chosen else other for key in candidates])


def lean_of_choice(count: int, *, chosen: bool) -> float:
    """x for one of so many candidates, which a classifier that gives no shares has `chosen`, or not."""
    if count < 2:
        return 0.0
    lead = 1 / count + (1 - 1 / count) * CHOSEN_LEAD
    return _clipped(count * (lead if chosen else (1 - lead) / (count - 1)))


def in_logits(leans: Sequence[float], weight: Weight) -> tuple[float, ...]:
    """By how much each candidate's chance moves; empty where it is not worth mentioning."""
    moved = [weight.weight * lean for lean in leans]
    if max(map(abs, moved), default=0.0) < LEAST_LOGITS:
        return ()
    return tuple([round(logit / STEP_LOGITS) * STEP_LOGITS for logit in moved])


def learn_weight(tried: Sequence[Tried]) -> Weight:
    """The most likely weight, by Newton's method; what the prior says where nothing was tried."""
    rows = tried[-REMEMBERED:]
    if not rows:
        return Weight()
    base = np.array([log(p / (1 - p)) for p in (min(max(one.p_forecast, 1e-4), 1 - 1e-4) for one in rows)])
    design = np.array([[1.0, one.lean] for one in rows])
    solved = np.array([float(one.solved) for one in rows])
    prior_mean, prior_precision = np.array([0.0, FIRST_WEIGHT]), np.array([INTERCEPT_SD, WEIGHT_SD]) ** -2.0
    found, curve = prior_mean.copy(), np.diag(prior_precision)
    for _ in range(30):
        chance = 1 / (1 + np.exp(-(base + design @ found)))
        slope = design.T @ (solved - chance) - prior_precision * (found - prior_mean)
        curve = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(prior_precision)
        step = np.linalg.solve(curve, slope)
        found = found + step
        if float(np.abs(step).max()) < 1e-6:
            break
    spread = float(np.linalg.inv(curve)[1, 1]) ** 0.5
    return Weight(weight=float(found[1]), sd=spread, outcomes=len(rows))


def _clipped(ratio: float) -> float:
    low = exp(-MAX_LEAN)
    return min(log(max(ratio, low)), MAX_LEAN)
