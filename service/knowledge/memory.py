"""What was learned, kept in the store: a start reads this and what is newer, and not a history."""

import zlib

import msgspec

from service.forecast.history import History
from service.forecast.learned import Learned
from service.knowledge.calibration import Calibration, Compared
from service.knowledge.pair_counts import PairCount, PairCounts
from service.store.snapshots import Snapshot, SnapshotTable

LEARNED, HISTORY = "learned", "history"


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """What was learned up to `cursor`."""

    cursor: int
    learned: Learned


class _Learned(msgspec.Struct, frozen=True, kw_only=True):
    catalog: str
    half_life: float
    learned: bytes


class _History(msgspec.Struct, frozen=True, kw_only=True):
    history: bytes
    calibration: list[Compared]
    pairs: list[PairCount] = []
    other_pairs: int = 0


_LEARNED = msgspec.msgpack.Decoder(_Learned)
_HISTORY = msgspec.msgpack.Decoder(_History)
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, ValueError, zlib.error)


class Memory:
    """Two rows: a small one for whoever only decides, and the outcomes that still count for whoever learns.

    What cannot be read, or was learned for another catalog or another half-life, is as if it were not there. Every
    method raises StoreUnavailableError when the database fails.
    """

    def __init__(self, table: SnapshotTable, *, half_life: float) -> None:
        self._table = table
        self._half_life = half_life

    async def learned(self, catalog_version: str) -> Recalled | None:
        """What was learned for this catalog."""
        found = await self._table.load(LEARNED)
        if found is None:
            return None
        try:
            kept = _LEARNED.decode(found.body)
            if (kept.catalog, kept.half_life) != (catalog_version, self._half_life):
                return None
            return Recalled(cursor=found.cursor, learned=Learned.from_bytes(kept.learned))
        except _UNREADABLE:
            return None

    async def history(self) -> tuple[int, History, Calibration, PairCounts] | None:
        """The outcomes that counted up to a cursor, what was said and seen of them, and of which pairs they are."""
        found = await self._table.load(HISTORY)
        if found is None:
            return None
        try:
            kept = _HISTORY.decode(found.body)
            history = History.from_bytes(kept.history, half_life=self._half_life)
        except _UNREADABLE:
            return None
        counts = PairCounts(kept.pairs, others=kept.other_pairs)
        return found.cursor, history, Calibration(kept.calibration), counts

    async def keep_learned(self, cursor: int, catalog_version: str, learned: Learned) -> None:
        """In place of what was learned from less."""
        kept = _Learned(catalog=catalog_version, half_life=self._half_life, learned=learned.to_bytes())
        await self._table.save(LEARNED, Snapshot(cursor=cursor, body=msgspec.msgpack.encode(kept)))

    async def keep_history(self, cursor: int, history: bytes, calibration: Calibration, counts: PairCounts) -> None:
        """In place of an older one."""
        rows, pairs = calibration.rows(), counts.rows()
        kept = _History(history=history, calibration=rows, pairs=pairs, other_pairs=counts.others)
        await self._table.save(HISTORY, Snapshot(cursor=cursor, body=msgspec.msgpack.encode(kept)))
