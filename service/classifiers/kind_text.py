"""What kind of work a task is, from its text alone: a sum of weights of its words, calibrated; no request, no model.

Each kind has a weight for each word: the log of how much more often texts of that kind have the word than texts at
large do, shrunk towards 0 by how seldom it was seen. They come from three sources that are simply added up: counts that
ship with the package (kind_words.json, which tests/load/kind_fit.py makes), the catalog's descriptions and examples,
and the tasks whose kind a caller or a classifier told. So a kind of an operator's own needs nothing but a description
and a few examples, and every weight can be read (`KindText.weights`).
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import exp, log, sqrt
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from service.classifiers.kind_words import stems_of, words_of
from service.contract.kind import Kind

SHIPPED = Path(__file__).with_name("kind_words.json")

SHRINK = 0.3
"""Texts with and without the word are both taken to be so many more than were seen: of 0.15 to 4 the best by
log-likelihood in cross-validation."""

SCALE = 1.3
"""Logits = SCALE × sum of weights / √(1 + words): words repeat each other, so a long text is not many times as sure.
Scale and root were fitted by cross-validation, so that what is said is what is seen (tests/load/kind_fit.py)."""

FLOOR = 0.02
"""This share of the probability is spread evenly whatever the words say."""

TOLD_WEIGHT = 20.0
"""How common a kind is counts with its square root once callers or classifiers told so many tasks for each kind."""

MAX_LEARNED_WORDS = 20_000
"""Words that are kept of tasks whose kind was told; those that come later teach only by the words that are there."""

LONGEST_WORD = 40
"""Letters of the longest word that is kept: a longer one is no word of any language's tasks, and is counted by its
first letters alone."""

_DECODER = msgspec.json.Decoder(dict[str, dict[str, float]])


class WordCounts:
    """In how many texts of each kind each word stood. One thread adds; a model is made from a copy.

    At most `limit` words are kept, so that hostile texts cannot make it grow.
    """

    def __init__(self, *, limit: int = MAX_LEARNED_WORDS) -> None:
        self.texts: dict[str, float] = {}
        self.words: dict[str, dict[str, float]] = {}
        self._limit = limit

    def add(self, kind: str, name: str, instructions: str, weight: float = 1.0) -> None:
        """Counts one text of that kind; `weight` is below 1 where who told the kind errs."""
        self.texts[kind] = self.texts.get(kind, 0.0) + weight
        for stem in {stem for word in words_of(name, instructions) for stem in stems_of(word)}:
            counts = self.words.get(stem)
            if counts is None:
                if len(self.words) >= self._limit or len(stem) > LONGEST_WORD:
                    continue
                counts = self.words[stem] = {}
            counts[kind] = counts.get(kind, 0.0) + weight


class KindText:
    """Tells the kinds of one catalog apart. Immutable; `kinds` are ids in their order. See WordSums for a text's words
    put to it."""

    def __init__(
        self,
        kinds: Sequence[Kind],
        learned: WordCounts | None = None,
        *,
        shipped: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.kinds = tuple(kind.id for kind in kinds)
        told = learned.texts if learned else {}
        words = [_described(kinds), shipped_words() if shipped is None else shipped, learned.words if learned else {}]
        self._row: dict[str, int] = {}
        for source in words:
            for word in source:
                self._row.setdefault(word, len(self._row))
        self._weight = _weights(self.kinds, self._row, words)
        self._nothing = [0.0] * (len(self.kinds) + 1)
        self._prior = [log(sqrt((told.get(kind, 0.0) + TOLD_WEIGHT) / TOLD_WEIGHT)) for kind in self.kinds]

    def sum_of(self, word: str) -> list[float]:
        """For each kind the sum of the weights of a word's stems that are known, and last their number."""
        rows = [row for stem in stems_of(word) if (row := self._row.get(stem)) is not None]
        return [*self._weight[rows].sum(axis=0).tolist(), float(len(rows))] if rows else self._nothing

    def probabilities(self, name: str, instructions: str) -> tuple[float, ...]:
        """How likely each kind is for a task's title and text, in the order of `kinds`; they sum to one."""
        sums = list(self._nothing)
        for word, amount in words_of(name, instructions).items():
            for i, one in enumerate(self.sum_of(word)):
                sums[i] += amount * one
        return self.of_sums(sums)

    def of_sums(self, sums: Sequence[float]) -> tuple[float, ...]:
        """The same by what `sum_of` all words, each with its weight, adds up to."""
        count = len(self.kinds)
        if count < 2:
            return (1.0,) * count
        scale = SCALE / sqrt(1.0 + sums[-1])
        logits = [base + scale * one for base, one in zip(self._prior, sums, strict=False)]
        top = max(logits)
        raised = [exp(logit - top) for logit in logits]
        total = sum(raised)
        return tuple([(1 - FLOOR) * one / total + FLOOR / count for one in raised])

    def weights(self, words: Mapping[str, float], top: int = 12) -> dict[str, dict[str, float]]:
        """Those of the words that say most about the kind, with their weight for each kind: for an explanation."""
        shown: dict[str, dict[str, float]] = {}
        for word, amount in words.items():
            for stem in stems_of(word):
                row = self._row.get(stem)
                if row is not None:
                    weight = amount * self._weight[row]
                    shown[stem] = {kind: round(float(one), 2) for kind, one in zip(self.kinds, weight, strict=True)}
        spread = sorted(shown, key=lambda stem: min(shown[stem].values()) - max(shown[stem].values()))
        return {stem: shown[stem] for stem in spread[:top]}


@cache
def shipped_words() -> dict[str, dict[str, float]]:
    """The counts of kinds that ship with the package."""
    return read_words(SHIPPED)


def read_words(path: Path) -> dict[str, dict[str, float]]:
    """A file of counts: word → kind → texts."""
    return _DECODER.decode(path.read_bytes())


def _described(kinds: Sequence[Kind]) -> dict[str, dict[str, float]]:
    counts = WordCounts(limit=10 * MAX_LEARNED_WORDS)
    for kind in kinds:
        for text in (kind.id.replace("-", " ").replace("_", " "), kind.description, *kind.examples):
            counts.add(kind.id, "", text)
    return counts.words


def _weights(
    kinds: tuple[str, ...], row: Mapping[str, int], sources: Iterable[Mapping[str, Mapping[str, float]]]
) -> npt.NDArray[np.float64]:
    """log((texts of the kind with the word + SHRINK) / (as many as were expected + SHRINK)): words × kinds."""
    column = {kind: i for i, kind in enumerate(kinds)}
    seen = np.zeros((len(row), len(kinds)))
    anywhere = np.zeros(len(row))
    for source in sources:
        for word, counts in source.items():
            at = row[word]
            for kind, count in counts.items():
                anywhere[at] += count
                if kind in column:
                    seen[at, column[kind]] += count
    expected = np.outer(anywhere / max(anywhere.sum(), 1.0), seen.sum(axis=0))
    return np.log((seen + SHRINK) / (expected + SHRINK))
