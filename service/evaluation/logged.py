"""Logged requests decided anew with other knowledge: what would change, and what that is expected to be worth.

What was read from a task's text then (kind, minutes, a classifier's verdict) is taken from the log, so that only what
was changed makes a difference. Nothing is asked, and nothing is recorded.
"""

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec

from service.classifiers.breaker import Breaker
from service.classifiers.classifier import Blame, Brief, Classified, ClassifierError
from service.classifiers.ladder import Ladder, Stage
from service.classifiers.reading import Reader, Reading
from service.classifiers.verdict import Verdict
from service.contract.decision import Decision, Source, Usage
from service.contract.decoding import DECODE_ERRORS, convert_tree
from service.contract.errors import InvalidInputError, NoCandidateAvailableError, NoEligibleCandidateError
from service.contract.task import Key, Task
from service.decide.pipeline import Pipeline
from service.decide.shared_classifiers import SharedClassifiers
from service.forecast.effort import SPREAD, Effort
from service.knowledge.knowledge import InUse, Knowledge
from service.store.decisions import StoredDecision
from service.store.facts import CLASSIFIERS

NO_TEXT = "(the log does not keep the text)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """One request decided anew. `after` is None where nothing could take it any more; `gain_usd` is by how much the new
    plan is expected to be worth more than one that begins with the old choice, None where that is not on offer."""

    before: Decision
    after: Decision | None
    gain_usd: float | None

    @property
    def changed(self) -> bool:
        """Whether another candidate would be the first."""
        return self.after is None or self.after.key != self.before.key


class Replayer:
    """Decides one logged request after the other with the same knowledge."""

    def __init__(self, knowledge: Knowledge, *, verdicts: bool = True) -> None:
        """Without `verdicts` the forecast chooses where a classifier did."""
        self._knowledge = knowledge
        self._verdicts = verdicts
        self._logged = _LoggedClassifier()
        ladder = Ladder([Stage(self._logged, Breaker(time.monotonic))])
        shared = SharedClassifiers(ladder, max_in_flight=16, cache_seconds=lambda: 0.0)
        self._moment: Any = None
        self._pipeline = Pipeline(InUse(knowledge), shared, now=lambda: self._moment)

    async def decide(self, stored: StoredDecision) -> Again | None:
        """None where the log does not have the whole request, or not in a form that is understood."""
        try:
            before = stored.decoded()
        except DECODE_ERRORS:
            return None
        task = _task_of(stored)
        if task is None:
            return None
        self._moment = stored.decided_at
        by_classifier = before.source in CLASSIFIERS and self._verdicts
        self._logged.say(before.key if by_classifier else None, stored.known.minutes)
        decision = self._knowledge.decision
        if not by_classifier:  # then its minutes counted, and its candidate did not
            decision = msgspec.structs.replace(decision, first_choice="forecast")
        self._pipeline.in_use.knowledge = replace(
            self._knowledge, decision=decision, reader=_reader(self._knowledge, stored, before)
        )
        after = await self._decided(task)
        if after is None or after.key == before.key:
            return Again(before=before, after=after, gain_usd=None if after is None else 0.0)
        old = {"agent_type": before.agent_type, "model": before.model, "effort": before.effort}
        kept = await self._decided(msgspec.structs.replace(task, **old))
        # An agent that is not in the catalog any more is no error, and then every agent competes.
        offered = kept is not None and kept.key == before.key
        gain = self._worth(task, after) - self._worth(task, kept) if kept is not None and offered else None
        return Again(before=before, after=after, gain_usd=gain)

    async def _decided(self, task: Task) -> Decision | None:
        try:
            return await self._pipeline.decide(task)
        except (NoEligibleCandidateError, NoCandidateAvailableError):
            return None

    def _worth(self, task: Task, decision: Decision) -> float:
        """What a plan is expected to be worth in US dollars, as plans are weighed."""
        settings, verifier = self._knowledge.decision, task.verifier or self._knowledge.verifier
        value = settings.value_usd(task.objective) if task.value_usd is None else task.value_usd
        delay = settings.delay_usd_per_hour if task.delay_usd_per_hour is None else task.delay_usd_per_hour
        waited = delay * (decision.plan_minutes or 0.0) / 60
        wrong = verifier.harm_usd * decision.plan_p_wrong
        return value * decision.plan_p_solve - decision.plan_cost_usd - waited - wrong


class _LoggedClassifier:
    """Says what the log has; the rest of what a classifier is asked for does not matter to it."""

    source: Source = "local_model"
    name = "log"
    local = True
    timeout_seconds = 3600.0
    least_seconds = 0.0
    patience_seconds = 0.0

    def __init__(self) -> None:
        self._key: Key | None = None
        self._minutes: float | None = None

    def say(self, key: Key | None, minutes: float | None) -> None:
        self._key, self._minutes = key, minutes

    def available(self) -> bool:
        return True

    async def classify(self, brief: Brief, *, timeout_seconds: float) -> Classified:
        del timeout_seconds
        named = next((candidate for candidate in brief.eligible if candidate.key == self._key), None)
        # Where the forecast chooses, a verdict tells its minutes and nothing else.
        candidate = named or (brief.eligible[0] if self._key is None and self._minutes is not None else None)
        if candidate is None:
            raise ClassifierError("no-verdict", "the log has none that still counts", blame=Blame.REQUEST)
        verdict = Verdict(candidate=candidate, minutes=self._minutes, confidence=None, reason="")
        return Classified(verdict=verdict, usage=Usage(), prompt="", reply="")

    async def aclose(self) -> None:
        return None


class _LoggedReading(Reading):
    """What was read from a text then. To which of several like agents it leaned is not in the log."""

    def __init__(self, minutes: float | None, kinds: dict[str, float]) -> None:
        self._minutes = minutes
        self._kinds = kinds

    @cached_property
    def size(self) -> Effort:
        return Effort(minutes=self._minutes or 1.0, spread=SPREAD, features={}, clipped=False)

    @property
    def kinds(self) -> dict[str, float]:
        return self._kinds

    @property
    def leaning(self) -> dict[int, float]:
        return {}

    def weights(self) -> dict[str, dict[str, float]]:
        return {}


class _LoggedReader(Reader):
    def __init__(self, base: Reader, reading: Reading) -> None:
        super().__init__(base.kind_text, base.likeness)
        self._reading_then = reading

    def read(self, task: Task) -> Reading:
        del task
        return self._reading_then


def _reader(knowledge: Knowledge, stored: StoredDecision, before: Decision) -> Reader:
    """Of what the log has; of kinds that the catalog does not have any more, the others' shares."""
    known = knowledge.catalog.kind_ids
    told = before.kind.probabilities if before.kind is not None else {}
    shares = {kind: told.get(kind, 0.0) for kind in known}
    total = sum(shares.values())
    kinds = {kind: share / total if total else 1 / len(known) for kind, share in shares.items()}
    minutes = stored.request.minutes_of_text if stored.request else None
    return _LoggedReader(knowledge.reader, _LoggedReading(minutes, kinds))


def _task_of(stored: StoredDecision) -> Task | None:
    if stored.request is None:
        return None
    asked = stored.request.task
    fields = {**asked, "instructions": asked.get("instructions") or NO_TEXT, "strict": False, "explain": False}
    try:
        return convert_tree(fields, Task)
    except InvalidInputError:
        return None
