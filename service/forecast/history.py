"""Recorded outcomes in columns, as learning reads them: about 40 bytes each, and 8 for every label."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import msgspec
import numpy as np
import numpy.typing as npt

from service.forecast.difficulty import Array

Codes = npt.NDArray[np.int64]
Digests = npt.NDArray[np.uint64]


class OutcomeRow(msgspec.Struct, frozen=True, kw_only=True):
    """What learning needs of an outcome.

    Outcomes with one `task` share their difficulty; None says that nothing is known of what they share. `minutes` is
    the classifier's estimate for that task, None where the text alone gave one.
    """

    agent_type: str
    model: str
    solved: bool
    cost_usd: float | None = None
    labels: dict[str, str] = {}
    task: str | None = None
    minutes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A snapshot: row i of every array is one outcome; `labels` is flat, `label_counts[i]` of them belong to row i."""

    pairs: tuple[tuple[str, str], ...]
    pair: Codes
    solved: npt.NDArray[np.int8]
    cost_usd: Array
    task: Digests
    minutes: Array
    label_counts: Codes
    labels: Digests


class History:
    """Outcomes in the order they came. One thread adds and withdraws; `snapshot` may be called from any other.

    Strings are kept as 64-bit BLAKE2b digests, so that a million distinct labels or task ids cost no more than a
    million numbers; two different ones meet by chance once in 2^64 / n² pairs.
    """

    def __init__(self, rows: Iterable[OutcomeRow] = ()) -> None:
        self._codes: dict[tuple[str, str], int] = {}
        self._pair = array("q")
        self._cost = array("d")
        self._task = array("Q")
        self._minutes = array("d")
        self._label_counts = array("q")
        self._labels = array("Q")
        self._solved = array("b")
        for row in rows:
            self.add(row)

    def __len__(self) -> int:
        return len(self._solved)

    def add(self, row: OutcomeRow) -> int:
        """Appends an outcome and returns its position."""
        key = (row.agent_type, row.model)
        code = self._codes.get(key)
        if code is None:
            code = self._codes.setdefault(key, len(self._codes))
        self._pair.append(code)
        self._cost.append(np.nan if row.cost_usd is None else row.cost_usd)
        self._task.append(0 if row.task is None else _digest(row.task))
        self._minutes.append(np.nan if row.minutes is None else row.minutes)
        for key_value in row.labels.items():
            self._labels.append(label_digest(*key_value))
        self._label_counts.append(len(row.labels))
        self._solved.append(row.solved)  # the last: `snapshot` counts rows by it
        return len(self._solved) - 1

    def withdraw(self, position: int) -> None:
        """Takes the outcome at `position` out of everything that is learned; positions of the others stay."""
        self._solved[position] = WITHDRAWN

    def snapshot(self) -> Columns:
        """A consistent copy: each slice is one step of the interpreter, and no array is ever shortened."""
        n = len(self._solved)
        counts = np.array(self._label_counts[:n], dtype=np.int64)
        return Columns(
            pairs=tuple(self._codes),
            pair=np.array(self._pair[:n], dtype=np.int64),
            solved=np.array(self._solved[:n], dtype=np.int8),
            cost_usd=np.array(self._cost[:n], dtype=np.float64),
            task=np.array(self._task[:n], dtype=np.uint64),
            minutes=np.array(self._minutes[:n], dtype=np.float64),
            label_counts=counts,
            labels=np.array(self._labels[: int(counts.sum())], dtype=np.uint64),
        )


WITHDRAWN = -1
"""In the column `solved`: not to be learned from."""


@lru_cache(maxsize=8192)
def label_digest(key: str, value: str) -> int:
    """The number that stands for a label; the key's length keeps ("a", "bc") and ("ab", "c") apart."""
    return _digest(f"{len(key)}:{key}{value}")


def _digest(text: str) -> int:
    """64 bits, never 0, the same in every process; lone surrogates, which JSON can carry, are hashed as they are."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1
