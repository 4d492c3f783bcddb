"""Recorded outcomes in columns, as learning reads them: the newest of each candidate, and never more than so many."""

from array import array
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from threading import Lock
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from service.forecast.columns import WITHDRAWN, Codes, Columns, Digests, Key, Places, places

HALF_LIFE = 250.0
"""An outcome counts half as much once so many newer ones of its candidate are on record. tests/load/forgetting.py
prints what that costs where nothing changes (under 0.1 % of a plan's worth from 150 to 350) and after how many of its
outcomes a leader that fell from 0.9 to 0.05 is not tried first any more (120 at most; with 500 it takes up to 210)."""

KEPT_HALF_LIVES = 6.0
"""An outcome that counts less than 2^-6 is forgotten: the last 1.6 % of what a candidate ever showed."""

MAX_ROWS = 40_000
"""Outcomes kept at most, whatever the candidates are called: some 0.2 s of one core to learn from, and 10 MB."""

MAX_TASK_ROWS = 50
"""Outcomes kept of one task: an id that never changes is a constant and no task."""

MAX_FAILED = 20
"""Failed attempts before an outcome that are kept with it."""

_SLACK = 1.25
"""What is forgotten is taken out whenever a quarter more than what must be kept has come."""


class OutcomeRow(msgspec.Struct, frozen=True, kw_only=True):
    """What learning needs of an outcome.

    Outcomes with one `task` share their difficulty; None says that nothing is known of what they share. `minutes` is
    the classifier's estimate for that task, None where the text alone gave one. `failed` are the attempts at the task
    that had failed before this one, one pair for each; those that are on record as outcomes of the same task count
    once. `kind` is an id of the catalog's kinds.
    """

    agent_type: str
    model: str
    solved: bool
    cost_usd: float | None = None
    duration_seconds: float | None = None
    labels: dict[str, str] = {}
    kind: str | None = None
    task: str | None = None
    minutes: float | None = None
    failed: tuple[Key, ...] = ()


class History:
    """Outcomes in the order they came, forgotten as newer ones come. May be used by several threads.

    Strings are kept as 64-bit BLAKE2b digests, so that distinct labels or task ids cost no more than numbers; two
    different ones meet by chance once in 2^64 / n² pairs.
    """

    def __init__(
        self, rows: Iterable[OutcomeRow] = (), *, half_life: float = HALF_LIFE, max_rows: int = MAX_ROWS
    ) -> None:
        self._half_life = half_life
        self._max_rows = max_rows
        self._lock = Lock()
        self._codes: dict[Key, int] = {}
        self._kinds: dict[str, int] = {"": 0}
        self._position: dict[int, int] = {}
        self._live = 0
        self._compact_at = int(_SLACK * max_rows) + 1
        self._hold(Columns.empty())
        for row in rows:
            self.put(row)

    def __len__(self) -> int:
        """Outcomes that are kept and not withdrawn."""
        return self._live

    @property
    def half_life(self) -> float:
        """Newer outcomes of the same candidate after which one counts half."""
        return self._half_life

    def put(self, row: OutcomeRow, outcome_id: str = "") -> None:
        """Appends an outcome, in place of the one with the same id where it is kept."""
        with self._lock:
            identity = digest(outcome_id) if outcome_id else 0
            self._withdraw(identity)
            if identity:
                self._position[identity] = len(self._solved)
            self._identity.append(identity)
            self._pair.append(self._code((row.agent_type, row.model)))
            self._cost.append(np.nan if row.cost_usd is None else row.cost_usd)
            self._seconds.append(np.nan if row.duration_seconds is None else row.duration_seconds)
            self._task.append(0 if row.task is None else digest(row.task))
            self._minutes.append(np.nan if row.minutes is None else row.minutes)
            self._kind.append(self._kinds.setdefault(row.kind or "", len(self._kinds)))
            for key_value in row.labels.items():
                self._labels.append(label_digest(*key_value))
            self._label_counts.append(len(row.labels))
            for key in row.failed[:MAX_FAILED]:
                self._failed.append(self._code(key))
            self._failed_counts.append(min(len(row.failed), MAX_FAILED))
            self._solved.append(row.solved)
            self._live += 1
            if len(self._solved) >= self._compact_at:
                self._compact()

    def withdraw(self, outcome_id: str) -> bool:
        """Takes that outcome out of everything that is learned; False where it is not kept."""
        with self._lock:
            return bool(outcome_id) and self._withdraw(digest(outcome_id))

    def snapshot(self) -> Columns:
        """A consistent copy of what is kept now."""
        with self._lock:
            return self._columns()

    def to_bytes(self) -> bytes:
        """All that is kept, for `from_bytes`: some 40 bytes an outcome."""
        with self._lock:
            self._compact()
            return self._columns().to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, *, half_life: float = HALF_LIFE, max_rows: int = MAX_ROWS) -> "History":
        """What `to_bytes` wrote. Raises ValueError where this release cannot read it."""
        history = cls(half_life=half_life, max_rows=max_rows)
        history._hold(Columns.from_bytes(data))
        history._compact()
        return history

    def _code(self, key: Key) -> int:
        code = self._codes.get(key)
        return self._codes.setdefault(key, len(self._codes)) if code is None else code

    def _withdraw(self, identity: int) -> bool:
        position = self._position.pop(identity, None) if identity else None
        if position is None:
            return False
        self._solved[position] = WITHDRAWN
        self._live -= 1
        return True

    def _hold(self, columns: Columns) -> None:
        self._codes = {key: code for code, key in enumerate(columns.pairs)}
        self._kinds = {kind: code for code, kind in enumerate(columns.kinds)}
        self._identity = _array("Q", columns.identity)
        self._pair = _array("q", columns.pair)
        self._solved = _array("b", columns.solved)
        self._cost = _array("d", columns.cost_usd)
        self._seconds = _array("d", columns.seconds)
        self._task = _array("Q", columns.task)
        self._minutes = _array("d", columns.minutes)
        self._kind = _array("q", columns.kind)
        self._label_counts = _array("q", columns.label_counts)
        self._labels = _array("Q", columns.labels)
        self._failed_counts = _array("q", columns.failed_counts)
        self._failed = _array("q", columns.failed)
        self._position = {one: at for at, one in enumerate(self._identity) if one and self._solved[at] != WITHDRAWN}
        self._live = int((columns.solved != WITHDRAWN).sum())

    def _columns(self) -> Columns:
        columns = Columns(
            pairs=tuple(self._codes),
            kinds=tuple(self._kinds),
            identity=np.array(self._identity, dtype=np.uint64),
            pair=np.array(self._pair, dtype=np.int64),
            solved=np.array(self._solved, dtype=np.int8),
            cost_usd=np.array(self._cost, dtype=np.float64),
            seconds=np.array(self._seconds, dtype=np.float64),
            task=np.array(self._task, dtype=np.uint64),
            minutes=np.array(self._minutes, dtype=np.float64),
            kind=np.array(self._kind, dtype=np.int64),
            label_counts=np.array(self._label_counts, dtype=np.int64),
            labels=np.array(self._labels, dtype=np.uint64),
            failed_counts=np.array(self._failed_counts, dtype=np.int64),
            failed=np.array(self._failed, dtype=np.int64),
            weight=np.zeros(0),
        )
        return columns.weighed(self._half_life)

    def _compact(self) -> None:
        """Forgets what counts for nothing. A task goes as a whole, so that no result loses the failures before it."""
        columns = self._columns()
        self._hold(columns.taken(_kept(columns, self._max_rows)))
        self._compact_at = int(_SLACK * max(len(self._solved), self._max_rows // 5)) + 1


def _kept(columns: Columns, max_rows: int) -> Places:
    """Which rows are worth keeping, oldest first: whole tasks, by the newest of their outcomes."""
    weight = np.where(columns.solved == WITHDRAWN, -1.0, columns.weight)
    order, starts, group = places(columns.task, np.arange(len(weight)))
    if not len(order):
        return order
    lengths = np.diff(np.r_[starts, len(order)])
    newest = np.maximum.reduceat(weight[order], starts)[group]
    arrived = np.maximum.reduceat(order, starts)[group]
    from_end = np.repeat(starts + lengths, lengths) - np.arange(len(order))
    good = (weight[order] >= 0) & (newest >= 2.0**-KEPT_HALF_LIVES) & (from_end <= MAX_TASK_ROWS)
    rows, newest, arrived = order[good], newest[good], arrived[good]
    best = np.lexsort((group[good], -arrived, -newest))
    if len(best) > max_rows:
        cut = group[good][best]
        best = best[: int(np.flatnonzero(cut == cut[max_rows])[0])]
    kept: Places = np.sort(rows[best])
    return kept


def _array(code: str, column: npt.NDArray[Any]) -> "array[Any]":
    made: array[Any] = array(code)
    made.frombytes(np.ascontiguousarray(column, dtype=np.dtype(code)).tobytes())
    return made


@lru_cache(maxsize=8192)
def label_digest(key: str, value: str) -> int:
    """The number that stands for a label: 16 bits of its key, then 48 of both; see `label_keys`.

    The key's length keeps ("a", "bc") and ("ab", "c") apart.
    """
    return (digest(key) & 0xFFFF) << 48 | (digest(f"{len(key)}:{key}{value}") >> 16)


def label_keys(labels: Digests) -> Codes:
    """A number for the key of each label; keys that share one by chance share what is learned about keys."""
    return (labels >> np.uint64(48)).astype(np.int64)


def digest(text: str) -> int:
    """64 bits, never 0, the same in every process; lone surrogates, which JSON can carry, are hashed as they are."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1
