"""In which settings tasks were tried: what shifts the mean of their difficulty, and what kind of work they are."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.forecast.columns import Codes, Columns, Digests, Places, ranges
from service.forecast.difficulty import Array

MIN_LABELLED = 5
"""An offset is kept for a label that at least so many outcomes carry; shrinkage leaves little of rarer ones."""

MAX_LABELS = 20_000
"""Offsets are kept for at most so many labels, those with the most outcomes. Of what `History` keeps with 32 labels
each, no more than so many can have 64."""

MIN_OF_KIND = 20
MAX_KINDS = 16
"""A kind has a spread of its own from so many outcomes on; so many kinds at most, those with the most outcomes."""

_MINUTES_PLACES = 64

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is common to tasks: `log_minutes` (0 where none were told), a number of `kinds`, and a set of labels.

    Columns that shift the mean of difficulty: one for all tasks, one for minutes, then one for each label. The label
    sets are flat: `token_set` says of which set each of `token_label` is.
    """

    log_minutes: Array
    kind: Codes
    kinds: tuple[str, ...]
    label_set: Codes
    sets: int
    labels: Digests
    token_set: Places
    token_label: Codes

    def __len__(self) -> int:
        return len(self.log_minutes)

    @property
    def columns(self) -> int:
        """How many shifts there are."""
        return 2 + len(self.labels)

    def mean(self, shift: Array) -> Array:
        """The mean of difficulty in each setting."""
        by_set = np.bincount(self.token_set, shift[2:][self.token_label], self.sets)
        means: Array = shift[0] + shift[1] * self.log_minutes + by_set[self.label_set]
        return means

    def gathered(self, values: Array) -> Array:
        """The transpose of `mean`: for each column the sum over settings of their values times what they have of it."""
        by_set = np.bincount(self.label_set, values, self.sets)
        by_label = np.bincount(self.token_label, by_set[self.token_set], len(self.labels))
        found: Array = np.r_[values.sum(), values @ self.log_minutes, by_label]
        return found


def settings_of(
    columns: Columns, rows: Places, known: Flags, starts: Places, task: Places, halves: Codes
) -> tuple[Codes, Settings]:
    """The setting of each row, and the distinct settings. `halves` are minutes in half octaves from the neutral; labels
    and kinds of rows that are not `known` do not count."""
    number, sets, labels, token_set, token_label = _label_sets(columns, rows, known)
    kind, kinds = _kinds(columns, rows, known)
    if not len(rows):
        return np.zeros(0, np.int64), _settings(np.zeros(0, np.int64), kinds, labels, 1, token_set, token_label)
    key = (np.maximum.reduceat(number, starts) * len(kinds) + np.maximum.reduceat(kind, starts)) * _MINUTES_PLACES
    key = key + np.maximum.reduceat(halves, starts) + _MINUTES_PLACES // 2
    distinct, setting = np.unique(key, return_inverse=True)
    return setting[task], _settings(distinct, kinds, labels, sets, token_set, token_label)


def _settings(
    key: Codes, kinds: tuple[str, ...], labels: Digests, sets: int, token_set: Places, token_label: Codes
) -> Settings:
    halves = key % _MINUTES_PLACES - _MINUTES_PLACES // 2
    return Settings(
        log_minutes=np.where(halves == -_MINUTES_PLACES // 2, 0.0, halves * (np.log(2.0) / 2)),
        kind=key // _MINUTES_PLACES % len(kinds),
        kinds=kinds,
        label_set=key // _MINUTES_PLACES // len(kinds),
        sets=sets,
        labels=labels,
        token_set=token_set,
        token_label=token_label,
    )


def _kinds(columns: Columns, rows: Places, known: Flags) -> tuple[Codes, tuple[str, ...]]:
    """The number of each row's kind among those that have a spread of their own; 0 is for all others."""
    kind = np.where(known, columns.kind[rows], 0)
    counts = np.bincount(kind, minlength=len(columns.kinds))
    counts[0] = 0
    frequent: list[int] = [
        one for one in np.argsort(-counts, kind="stable")[:MAX_KINDS].tolist() if counts[one] >= MIN_OF_KIND
    ]
    number = np.zeros(len(columns.kinds), np.int64)
    number[frequent] = 1 + np.arange(len(frequent))
    kinds: tuple[str, ...] = ("", *(columns.kinds[int(one)] for one in frequent))
    return number[kind], kinds


def _label_sets(columns: Columns, rows: Places, known: Flags) -> tuple[Codes, int, Digests, Places, Codes]:
    """For each row the number of its set of kept labels, how many sets, the kept labels, and the sets, flat."""
    begin = (np.cumsum(columns.label_counts) - columns.label_counts)[rows]
    counts = np.where(known, columns.label_counts[rows], 0)
    flat = columns.labels[ranges(begin, counts)]
    of_row = np.repeat(np.arange(len(rows)), counts)
    distinct, times = np.unique(flat, return_counts=True)
    frequent = np.lexsort((distinct, -times))[:MAX_LABELS]
    labels = np.sort(distinct[frequent[times[frequent] >= MIN_LABELLED]])
    if not len(labels):
        none = np.zeros(0, np.int64)
        return np.zeros(len(rows), np.int64), 1, labels, none, none
    which = np.minimum(np.searchsorted(labels, flat), len(labels) - 1)
    kept = labels[which] == flat
    of_row, which = of_row[kept], which[kept]
    digest = np.zeros(len(rows), np.uint64)
    np.add.at(digest, of_row, labels[which] * np.uint64(0x9E3779B97F4A7C15) ^ labels[which] >> np.uint64(29))
    sets, example, number = np.unique(digest, return_index=True, return_inverse=True)
    ends = np.searchsorted(of_row, example, side="right")
    first = np.searchsorted(of_row, example, side="left")
    tokens = ranges(first, ends - first)
    token_set = np.repeat(np.arange(len(sets)), ends - first)
    return number, len(sets), labels, token_set, which[tokens]
