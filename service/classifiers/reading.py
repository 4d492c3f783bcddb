"""What a task's text tells without any request: its size, its kind, and which of several like agents it is for."""

from functools import cached_property, lru_cache
from typing import NamedTuple

from service.classifiers.kind_text import KindText, WordCounts
from service.classifiers.kind_words import words_of
from service.classifiers.likeness import Likeness
from service.classifiers.size_text import size_model, with_ends
from service.classifiers.word_sums import WordSums
from service.contract.catalog import Catalog
from service.contract.task import Task
from service.forecast.effort import Effort, estimate_minutes

READINGS_KEPT = 32
"""Texts whose reading is remembered: a task that is asked about again after a failed attempt brings the same text."""

LONGEST_KEPT = 4_000
"""Characters of a title and text that are remembered, so that all of them take a few megabytes at most."""


class _Read(NamedTuple):
    """What words say: the shares of the kinds, the sums for the sizes, and to which candidates the text leans."""

    kinds: dict[str, float]
    sizes: list[float]
    leaning: dict[int, float]


class Reading:
    """One text, read as far as it is asked for and each part once."""

    def __init__(self, reader: "Reader", name: str, instructions: str) -> None:
        self._reader = reader
        self._name = name
        self._instructions = instructions

    @cached_property
    def size(self) -> Effort:
        """A person's minutes."""
        counted = estimate_minutes(self._name, self._instructions)
        return with_ends(counted, size_model().of_sums(self._read.sizes))

    @property
    def kinds(self) -> dict[str, float]:
        """How likely each kind of the catalog is; empty where it has none."""
        return self._read.kinds

    @property
    def leaning(self) -> dict[int, float]:
        """To which candidates the text leans, by their place in the catalog; mostly empty."""
        return self._read.leaning if self._reader.likeness else {}

    def weights(self) -> dict[str, dict[str, float]]:
        """The words that say most about the kind, for an explanation."""
        kind_text = self._reader.kind_text
        return kind_text.weights(words_of(self._name, self._instructions)) if len(kind_text.kinds) > 1 else {}

    def ahead(self) -> None:
        """Reads all of it now."""
        _ = self.kinds, self.size

    @cached_property
    def _read(self) -> _Read:
        reader, words = self._reader, words_of(self._name, self._instructions)
        kinds, sizes = reader.sums.of(words)
        shares = reader.kind_text.of_sums(kinds)
        leaning = reader.likeness.leanings(words) if reader.likeness else {}
        return _Read(dict(zip(reader.kind_text.kinds, shares, strict=True)), sizes, leaning)


class Reader:
    """Reads texts for one catalog; belongs to one event loop."""

    def __init__(self, kind_text: KindText, likeness: Likeness) -> None:
        self.kind_text = kind_text
        self.likeness = likeness
        self._kept = lru_cache(READINGS_KEPT)(self._reading)

    @classmethod
    def of(cls, catalog: Catalog, told: WordCounts | None = None) -> "Reader":
        """`told` are the words of tasks whose kind was told."""
        return cls(KindText(catalog.kinds, told), Likeness(catalog.candidates))

    @cached_property
    def sums(self) -> WordSums:
        """What words say of the kinds and of the sizes."""
        return WordSums((self.kind_text, size_model()))

    def read(self, task: Task) -> Reading:
        """Nothing is read before it is asked for."""
        if len(task.instructions) + len(task.name) > LONGEST_KEPT:
            return self._reading(task.name, task.instructions)
        return self._kept(task.name, task.instructions)

    def _reading(self, name: str, instructions: str) -> Reading:
        return Reading(self, name, instructions)
