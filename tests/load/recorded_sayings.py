"""Classifiers that are simulated on recorded outcomes: how good one is, is then known exactly."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp
from typing import NamedTuple

import msgspec

from service.classifiers.classifier import Brief, Classified
from service.classifiers.verdict import Weighed
from service.contract.catalog import Candidate
from tests.load.recorded_sets import RecordedSet
from tests.support.scripted_classifier import verdict

INSIGHT = 1.5
"""Logits by which the shares of `shares` are higher for a candidate that would solve the task, beside noise of one."""


class Offer(NamedTuple):
    """An eligible candidate, what the record says of it on this task, and its mean rate and cost over all tasks."""

    candidate: Candidate
    solved: bool
    cost_usd: float
    mean: tuple[float, float]


Says = Callable[[random.Random, Sequence[Offer]], Offer]


def best(offers: Sequence[Offer]) -> Offer:
    """Who solves the task at the least cost; where nobody does, who costs least."""
    return min(offers, key=lambda offer: (not offer.solved, offer.cost_usd))


def right(share: float) -> Says:
    """The best so often, else any other."""

    def says(source: random.Random, offers: Sequence[Offer]) -> Offer:
        found = best(offers)
        others = [offer for offer in offers if offer is not found]
        return source.choice(others) if others and source.random() >= share else found

    return says


def strongest(_source: random.Random, offers: Sequence[Offer]) -> Offer:
    """Who solves most tasks, whatever the task."""
    return max(offers, key=lambda offer: offer.mean[0])


def cheapest(_source: random.Random, offers: Sequence[Offer]) -> Offer:
    """Who costs least on average, whatever the task."""
    return min(offers, key=lambda offer: offer.mean[1])


def wrong(source: random.Random, offers: Sequence[Offer]) -> Offer:
    """Somebody who fails, where anybody does."""
    return source.choice([offer for offer in offers if not offer.solved] or list(offers))


SAYS: dict[str, Says | None] = {
    "right 30 %": right(0.3),
    "right 60 %": right(0.6),
    "right 90 %": right(0.9),
    "strongest": strongest,
    "cheapest": cheapest,
    "wrong": wrong,
    "shares": None,
}
"""By name; `shares` gives a probability for each candidate and names the likeliest."""


class Saying:
    """One classifier over one set of tasks. Asked again after a failure, it draws anew; otherwise it says the same."""

    def __init__(self, recorded: RecordedSet, name: str, seed: int) -> None:
        self._called = recorded.called
        self._tasks = {task.id: task for task in recorded.tasks}
        self._says = SAYS[name]
        self._seed = seed
        self._means = {key: self._mean(model) for key, model in recorded.called.items()}
        self.first: dict[str, str] = {}
        """Whom it named first for each task, by what the task calls that candidate."""

    def of(self, brief: Brief) -> Classified:
        """Its verdict, which tells neither minutes nor kind."""
        task = brief.task.task_id or ""
        source = random.Random(f"{self._seed}:{task}:{len(brief.task.attempts)}")
        offers = [self._offer(task, candidate) for candidate in brief.eligible]
        if self._says is None:
            said = self._weighed(source, offers)
        else:
            said = verdict(self._says(source, offers).candidate, minutes=None)
        self.first.setdefault(task, self._called[said.verdict.candidate.key])
        return said

    def _weighed(self, source: random.Random, offers: Sequence[Offer]) -> Classified:
        weights = [exp(INSIGHT * offer.solved + source.gauss(0.0, 1.0)) for offer in offers]
        shares = [(offer.candidate, weight / sum(weights)) for offer, weight in zip(offers, weights, strict=True)]
        said = verdict(max(shares, key=lambda one: one[1])[0], minutes=None)
        weighed = Weighed(protocol="labels", candidates=tuple(shares))
        return replace(said, verdict=msgspec.structs.replace(said.verdict, weighed=weighed))

    def _offer(self, task: str, candidate: Candidate) -> Offer:
        recorded = self._tasks[task].outcomes[self._called[candidate.key]]
        return Offer(candidate, recorded.solved, recorded.cost_usd, self._means[candidate.key])

    def _mean(self, model: str) -> tuple[float, float]:
        tried = [task.outcomes[model] for task in self._tasks.values() if model in task.outcomes]
        return sum(one.solved for one in tried) / len(tried), sum(one.cost_usd for one in tried) / len(tried)
