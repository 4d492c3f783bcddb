"""Stretches of time that reports are added up by: all ids that begin with the same digits.

The first twelve digits of an id are its time in milliseconds. A stretch is named by the first six of them (2 to the
power of 24 milliseconds, 4.7 hours), and so are those of sixteen such stretches by five (3.1 days), and of sixteen of
these by four (50 days).
"""

from collections.abc import Iterator, Sequence

import msgspec

DIGITS = (6, 5, 4)
"""Of a stretch's name; each but the first is summed from its sixteen parts."""

FINEST = DIGITS[0]
PARTS = 16


class Gap(msgspec.Struct, frozen=True):
    """Ids from `since` up to but not including `until`; either may be a stretch's name or the whole of an id."""

    since: str
    until: str


def gaps(since: str, until: str, kept: Sequence[str]) -> list[Gap]:
    """What is left of the ids from `since` up to `until` without those of `kept`: stretches that lie within and do not
    overlap, in their order."""
    found: list[Gap] = []
    at = since
    for name in kept:
        begin = _begin(name)
        if at < begin:
            found.append(Gap(at, begin))
        at = _begin(f"{int(name, 16) + 1:0{len(name)}x}")
    return [*found, *([Gap(at, until)] if at < until else [])]


def last_of(gap: Gap) -> str:
    """The last of the finest stretches that has an id in it."""
    if len(gap.until) > FINEST:
        return gap.until[:FINEST]
    return next(before(gap.until.ljust(FINEST, "0")))


def _begin(name: str) -> str:
    """The same for all stretches that begin at one moment, however long: no id lies between 0195 and 019500."""
    return name.rstrip("0")


def before(name: str) -> Iterator[str]:
    """The stretches of the same length that go before, the latest first."""
    for number in range(int(name, 16) - 1, -1, -1):
        yield f"{number:0{len(name)}x}"


def parts_of(name: str) -> list[str]:
    """The names of the sixteen stretches that it consists of."""
    return [f"{name}{digit:x}" for digit in range(PARTS)]
