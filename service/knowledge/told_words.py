"""The words of tasks whose kind was told, as they are kept: added up over all replicas, in bounded space."""

import zlib
from collections.abc import Iterable, Mapping
from heapq import nlargest
from itertools import chain
from math import isfinite

import msgspec

from service.classifiers.kind_text import MAX_LEARNED_WORDS, WordCounts

FORMAT = 1
MAX_KINDS = 200
"""Kinds whose words are kept, those with the most texts: catalogs change, and what was told for one may come back."""

WRITERS = 100
"""The last writers whose numbers are kept: more than replicas that write at once."""

MAX_BYTES = 16 << 20
"""Of the words before compression: four times what MAX_LEARNED_WORDS of some five kinds each take."""

Words = Mapping[str, Mapping[str, float]]


class OtherFormatError(ValueError):
    """What another release wrote: neither read nor replaced."""


class ToldWords(msgspec.Struct, frozen=True, kw_only=True):
    """How many texts of each kind were told, and in how many of them each word stood; classifiers count half.

    `writers` are those that added to it, the newest last, each with the number of its last addition: so one that does
    not know whether it got through finds out.
    """

    texts: dict[str, float] = {}
    words: dict[str, dict[str, float]] = {}
    writers: list[tuple[str, int]] = []

    def counts(self) -> WordCounts:
        """For a model of the kinds."""
        made = WordCounts()
        made.texts, made.words = self.texts, self.words
        return made

    def has(self, writer: str, number: int) -> bool:
        """Whether that addition is in it."""
        return any(one == writer and last >= number for one, last in self.writers)

    def with_added(self, more: "ToldWords", writer: str, number: int) -> "ToldWords":
        """Together; of more words than may be kept those that stood in the most texts."""
        others = [one for one in self.writers if one[0] != writer]
        both = added(self, more)
        return msgspec.structs.replace(both, writers=[*others, (writer, number)][-WRITERS:])

    def to_bytes(self) -> bytes:
        """Compressed, with a format: some 10 bytes a word."""
        return zlib.compress(msgspec.msgpack.encode(_Kept(format=FORMAT, told=self)), 6)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ToldWords":
        """What `to_bytes` wrote. Raises ValueError where it is damaged, and OtherFormatError where another release
        wrote it."""
        try:
            inflating = zlib.decompressobj()
            plain = inflating.decompress(data, MAX_BYTES)
            if not inflating.eof:
                raise ValueError("cut off, or larger than it can be")
            if _FORMAT.decode(plain).format != FORMAT:
                raise OtherFormatError("another release wrote it")
            told = _KEPT.decode(plain).told
        except (msgspec.MsgspecError, UnicodeError, zlib.error) as error:
            raise ValueError(str(error)) from error
        for count in chain(told.texts.values(), chain.from_iterable(one.values() for one in told.words.values())):
            if not isfinite(count) or count < 0:
                raise ValueError("a count that is none")
        return told


class _Format(msgspec.Struct, frozen=True, kw_only=True):
    format: int


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    told: ToldWords


_FORMAT = msgspec.msgpack.Decoder(_Format)
_KEPT = msgspec.msgpack.Decoder(_Kept)


def told_words(counts: WordCounts) -> ToldWords:
    """What was counted, to be added to what is kept. The counts must not be counted on."""
    return ToldWords(texts=counts.texts, words=counts.words)


def added(one: ToldWords, more: ToldWords) -> ToldWords:
    """Together, within the bounds; neither is changed."""
    texts = dict(one.texts)
    for kind, number in more.texts.items():
        texts[kind] = texts.get(kind, 0.0) + number
    if len(texts) > MAX_KINDS:
        texts = {kind: texts[kind] for kind in nlargest(MAX_KINDS, texts, key=texts.__getitem__)}
    words = {word: counts for word, counts in one.words.items() if word not in more.words}
    for word, counts in more.words.items():
        both = dict(one.words.get(word, {}))
        for kind, number in counts.items():
            both[kind] = both.get(kind, 0.0) + number
        words[word] = both
    return ToldWords(texts=texts, words=_most_frequent(words, texts), writers=one.writers)


def parted(more: ToldWords, kept: ToldWords, least: float) -> tuple[ToldWords, ToldWords]:
    """Of what is to be added, that which may be kept, and the rest: words that did not yet stand in `least` texts."""
    known = kept.words
    often = {word: counts for word, counts in more.words.items() if word in known or sum(counts.values()) >= least}
    rest = {word: counts for word, counts in more.words.items() if word not in often}
    return ToldWords(texts=more.texts, words=often), ToldWords(words=rest)


def _most_frequent(words: dict[str, dict[str, float]], kinds: Iterable[str]) -> dict[str, dict[str, float]]:
    known = set(kinds)
    if any(not counts.keys() <= known for counts in words.values()):
        trimmed = {word: {k: n for k, n in counts.items() if k in known} for word, counts in words.items()}
        words = {word: counts for word, counts in trimmed.items() if counts}
    if len(words) <= MAX_LEARNED_WORDS:
        return words
    kept = nlargest(MAX_LEARNED_WORDS, words, key=lambda word: sum(words[word].values()))
    return {word: words[word] for word in kept}
