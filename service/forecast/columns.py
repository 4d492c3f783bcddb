"""Outcomes as columns of numbers: what learning computes on, and what a snapshot of it is written as."""

import zlib
from dataclasses import dataclass, fields, replace

import msgspec
import numpy as np
import numpy.typing as npt

from service.contract.task import Key as Key
from service.forecast.difficulty import Array

Codes = npt.NDArray[np.int64]
Digests = npt.NDArray[np.uint64]
Places = npt.NDArray[np.intp]
WITHDRAWN = -1
"""In the column `solved`: not to be learned from."""

FORMAT = 1
"""Of `to_bytes`; another number is read by another release."""


class _Packed(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    pairs: list[tuple[bytes, bytes]]
    kinds: list[bytes]
    columns: dict[str, bytes]


_DECODER = msgspec.msgpack.Decoder(_Packed)
_TYPES = {
    "identity": "<u8",
    "solved": "<i1",
    "task": "<u8",
    "labels": "<u8",
    **dict.fromkeys(("cost_usd", "seconds", "minutes", "weight"), "<f8"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Row i of every array is one outcome, oldest first; `pair` numbers `pairs`, `kind` numbers `kinds`.

    `identity` and `task` are digests, 0 where there is none. `labels` is flat, `label_counts[i]` of them belong to row
    i, and so is `failed`, the pairs that had failed before. `weight` is how much an outcome counts, up to 1.
    """

    pairs: tuple[Key, ...]
    kinds: tuple[str, ...]
    identity: Digests
    pair: Codes
    solved: npt.NDArray[np.int8]
    cost_usd: Array
    seconds: Array
    task: Digests
    minutes: Array
    kind: Codes
    label_counts: Codes
    labels: Digests
    failed_counts: Codes
    failed: Codes
    weight: Array

    @classmethod
    def empty(cls) -> "Columns":
        """No outcome at all."""
        return cls(pairs=(), kinds=("",), **{name: np.zeros(0, _type(name)) for name in _ARRAYS})

    def weighed(self, half_life: float) -> "Columns":
        """The same, with weights that halve with so many newer outcomes of the same pair; withdrawn ones have none."""
        live = np.flatnonzero(self.solved != WITHDRAWN)
        order = live[np.argsort(self.pair[live], kind="stable")]
        ends = np.searchsorted(self.pair[order], np.arange(len(self.pairs)), side="right")
        age = ends[self.pair[order]] - 1 - np.arange(len(order))
        weight = np.zeros(len(self.pair))
        weight[order] = 0.5 ** (age / half_life)
        return replace(self, weight=weight)

    def taken(self, rows: Places) -> "Columns":
        """These rows only, and only the pairs and kinds that they name."""
        failed = self.failed[_flat(self.failed_counts, rows)]
        used, code = np.unique(np.concatenate([self.pair[rows], failed]), return_inverse=True)
        kinds, kind = np.unique(np.concatenate([np.zeros(1, np.int64), self.kind[rows]]), return_inverse=True)
        return Columns(
            pairs=tuple(self.pairs[int(one)] for one in used),
            kinds=tuple(self.kinds[int(one)] for one in kinds),
            identity=self.identity[rows],
            pair=code[: len(rows)].astype(np.int64),
            solved=self.solved[rows],
            cost_usd=self.cost_usd[rows],
            seconds=self.seconds[rows],
            task=self.task[rows],
            minutes=self.minutes[rows],
            kind=kind[1:].astype(np.int64),
            label_counts=self.label_counts[rows],
            labels=self.labels[_flat(self.label_counts, rows)],
            failed_counts=self.failed_counts[rows],
            failed=code[len(rows) :].astype(np.int64),
            weight=self.weight[rows] if len(self.weight) else self.weight,
        )

    def to_bytes(self) -> bytes:
        """Compressed, with a version; weights are left out, because they follow from the rest."""
        packed = _Packed(
            version=FORMAT,
            pairs=[(_encoded(agent_type), _encoded(model)) for agent_type, model in self.pairs],
            kinds=[_encoded(kind) for kind in self.kinds],
            columns={name: getattr(self, name).astype(_type(name)).tobytes() for name in _ARRAYS if name != "weight"},
        )
        return zlib.compress(msgspec.msgpack.encode(packed), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Columns":
        """What `to_bytes` wrote. Raises ValueError where it is damaged or of another release."""
        try:
            packed = _DECODER.decode(zlib.decompress(data))
            arrays = {name: np.frombuffer(packed.columns[name], _type(name)) for name in _ARRAYS if name != "weight"}
            pairs = tuple((_decoded(agent_type), _decoded(model)) for agent_type, model in packed.pairs)
            kinds = tuple(_decoded(kind) for kind in packed.kinds)
        except (msgspec.MsgspecError, UnicodeError, zlib.error, KeyError, ValueError) as error:
            raise ValueError(f"not a snapshot of outcomes: {error}") from error
        columns = cls(pairs=pairs, kinds=kinds, **arrays, weight=np.zeros(0))
        if packed.version != FORMAT or not columns.sound():
            raise ValueError(f"a snapshot of outcomes of format {packed.version}, which this release cannot read")
        return columns

    def sound(self) -> bool:
        """Whether the columns fit each other."""
        n = len(self.solved)
        flat = (self.labels, self.failed, self.weight)
        plain = [getattr(self, name) for name in _ARRAYS]
        return (
            all(len(column) == n for column in plain if not any(column is other for other in flat))
            and int(self.label_counts.sum()) == len(self.labels)
            and int(self.failed_counts.sum()) == len(self.failed)
            and all(
                not len(code) or (code.min() >= 0 and code.max() < bound)
                for code, bound in (
                    (self.pair, len(self.pairs)),
                    (self.failed, len(self.pairs)),
                    (self.kind, len(self.kinds)),
                    (self.label_counts, n + len(self.labels) + 1),
                    (self.failed_counts, n + len(self.failed) + 1),
                )
            )
        )


_ARRAYS = tuple(field.name for field in fields(Columns) if field.name not in ("pairs", "kinds"))


def _type(name: str) -> str:
    return _TYPES.get(name, "<i8")


def _encoded(name: str) -> bytes:
    """Lone surrogates, which JSON can carry, as they are."""
    return name.encode("utf-8", "surrogatepass")


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def _flat(counts: Codes, rows: Places) -> Places:
    """Places in a flat column of what belongs to these rows."""
    begin = np.cumsum(counts) - counts
    return ranges(begin[rows], counts[rows])


def ranges(begin: npt.NDArray[np.integer], count: npt.NDArray[np.integer]) -> Places:
    """begin[0], begin[0] + 1, … (count[0] of them), begin[1], …"""
    before = np.cumsum(count) - count
    found: Places = np.repeat(begin - before, count) + np.arange(int(count.sum()))
    return found


def places(task: Digests, then: Codes) -> tuple[Places, Places, Places]:
    """The order that puts the outcomes of a task together, by `then` within it; where each task begins in it, and the
    number of the task of each place. A digest of 0 is a task by itself."""
    order = np.lexsort((then, task))
    together = task[order]
    first = np.r_[True, (together[1:] != together[:-1]) | (together[1:] == 0)][: len(task)]
    return order, np.flatnonzero(first), np.cumsum(first) - 1
