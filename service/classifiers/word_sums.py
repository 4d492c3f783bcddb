"""The words of a text put to several models at once: each word is looked up once."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from service.classifiers.kind_text import KindText

MEMO = 20_000
"""Words whose sums are remembered, before they are forgotten all at once."""

_FIRST_ROWS = 1024


class WordSums:
    """Belongs to one event loop, because it remembers what each word says to each of the models."""

    def __init__(self, models: Sequence[KindText]) -> None:
        self._models = tuple(models)
        self._remembered = _Remembered(self._models)
        ends = list(accumulate((len(model.kinds) + 1 for model in models), initial=0))
        self._parts = list(pairwise(ends))

    def of(self, words: Mapping[str, float]) -> list[list[float]]:
        """For each model what KindText.of_sums takes, of a text of these words with their weights."""
        remembered = self._remembered
        if len(remembered) > MEMO:
            remembered = self._remembered = _Remembered(self._models)
        rows = [*map(remembered.__getitem__, words)]
        sums: list[float] = (np.array([*words.values()]) @ remembered.sums.take(rows, axis=0)).tolist()
        return [sums[begin:end] for begin, end in self._parts]


class _Remembered(dict[str, int]):
    """By word, which row of `sums` it has: what it adds for each kind of each model, and the number of its stems that
    the model knows. The first row is that of all words which no model knows."""

    def __init__(self, models: Sequence[KindText]) -> None:
        super().__init__()
        self._models = models
        self.sums = np.zeros((_FIRST_ROWS, sum(len(model.kinds) + 1 for model in models)))
        self._used = 1

    def __missing__(self, word: str) -> int:
        found = [one for model in self._models for one in model.sum_of(word)]
        row = self[word] = self._used if any(found) else 0
        if row:
            if row == len(self.sums):
                self.sums = np.vstack([self.sums, np.zeros_like(self.sums)])
            self.sums[row] = found
            self._used += 1
        return row
