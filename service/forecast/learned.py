"""What outcomes taught, as the forecast needs it, and as a snapshot keeps it."""

import zlib

import msgspec

from service.forecast.cells import KIND_SD, OWN_SD
from service.forecast.columns import Key
from service.forecast.difficulty import Shape

FORMAT = 1
"""Of `to_bytes`; another number is read by another release."""


class LearnedKind(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate in one kind of work: ability in logits, mean cost of an attempt in US dollars and its minutes (None
    where nothing is known), and the outcomes that told of ability and cost. `sd` is how far its ability less the mean
    of all tasks may be off, in logits; None where an older release learned it."""

    theta: float
    sd: float | None = None
    cost_usd: float
    minutes: float | None = None
    n: int = 0
    n_cost: int = 0


class LearnedAbility(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate: the same over all tasks, and by kind where the catalog has kinds."""

    theta: float
    sd: float | None = None
    cost_usd: float
    minutes: float | None = None
    n: int
    n_cost: int
    kinds: dict[str, LearnedKind] = {}

    def of(self, kind: str | None) -> "LearnedAbility | LearnedKind":
        """In that kind; over all where it is None or unknown."""
        return self.kinds.get(kind or "", self)


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that outcomes taught, for the candidates of one catalog. Immutable.

    `used` outcomes count in it; `ignored` are of pairs that the catalog does not have. `tasks` is by how much this
    service's tasks are harder than the catalog's population, in logits, `labels` the same for a label (by digest), and
    `label_widths` how far labels of one key are from each other (by the number of the key);
    `minutes_weight` is how many logits harder a task is when the classifier's minutes are e times as long.
    `kind_widths` is how far kinds are from what is published, for everyone and for one candidate. `shapes` is
    how difficulty is spread, by kind, and under "" where the kind is none of these. `covariance` is that of the
    abilities, in their order, and last of `tasks`.
    """

    abilities: dict[Key, LearnedAbility]
    tasks: float
    labels: dict[int, float]
    label_widths: dict[int, float]
    minutes_weight: float
    kind_widths: tuple[float, float] = (KIND_SD, OWN_SD)
    shapes: dict[str, Shape]
    covariance: tuple[tuple[float, ...], ...]
    used: int
    ignored: int
    version: str

    def shape(self, kind: str | None) -> Shape:
        """How the difficulty of tasks of this kind is spread."""
        return self.shapes.get(kind or "") or self.shapes[""]

    def to_bytes(self) -> bytes:
        """Compressed, with a version: some kilobytes."""
        abilities = [(*key, known) for key, known in self.abilities.items()]
        kept = _Kept(version=FORMAT, abilities=abilities, learned=msgspec.structs.replace(self, abilities={}))
        return zlib.compress(msgspec.msgpack.encode(kept))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Learned":
        """What `to_bytes` wrote. Raises ValueError where it is damaged or of another release."""
        try:
            kept = _DECODER.decode(zlib.decompress(data))
        except (msgspec.MsgspecError, UnicodeError, zlib.error) as error:
            raise ValueError(f"not a snapshot of what was learned: {error}") from error
        if kept.version != FORMAT:
            raise ValueError(f"a snapshot of format {kept.version}, which this release cannot read")
        abilities = {(agent_type, model): known for agent_type, model, known in kept.abilities}
        return msgspec.structs.replace(kept.learned, abilities=abilities)


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    abilities: list[tuple[str, str, LearnedAbility]]
    learned: Learned


_DECODER = msgspec.msgpack.Decoder(_Kept)
