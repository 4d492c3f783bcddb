"""How much more of the probability a place in the list gets than another, whatever stands there.

Models prefer places: of three options the small one of the tests takes the middle one always. The options of a question
are turned from task to task, so that over many tasks every candidate stands at every place; what a place then has more
than its equal part on average is its own, and is divided out.
"""

from collections.abc import Sequence
from typing import NamedTuple

from service.classifiers.protocols.shares import normalised

PRIOR = 20.0
"""Equal parts count as so many tasks: a bias is believed as it shows."""

MEMORY = 400.0
"""Tasks after which the oldest have lost most of their weight: a server's model may be replaced by another one."""

LEAST_MEAN = 0.1
"""Of an equal part. A place that never has anything, because servers round, is not taken to be worth ever less: one
part in a thousand would win there."""

LEAST_ASKED = 0.75
"""Of a list, from which on its places are learned about: with half of it each stands at one or two of them."""


class Slots(NamedTuple):
    """Where options stand, counted from 0, in a list of `listed`."""

    places: Sequence[int]
    listed: int


class SlotBias:
    """Running means for each number of options; belongs to one event loop."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, int], list[float]] = {}
        self._seen: dict[tuple[str, int], float] = {}

    def corrected(self, question: str, shares: Sequence[float], slots: Slots | None = None) -> tuple[float, ...]:
        """The shares without what each place has by itself; and learns from them.

        They are given by place, unless `slots` says at which places of a longer list they stand. Of a few options of a
        list nothing is learned: they do not come to stand at every place, and what is theirs would be taken for the
        place's own.
        """
        count = len(shares)
        if count < 2:
            return tuple(shares)
        places, listed = slots or Slots(range(count), count)
        key = (question, listed)
        means = self._means.setdefault(key, [1.0 / listed] * listed)
        least = LEAST_MEAN / listed
        result = normalised([share / max(means[place], least) for share, place in zip(shares, places, strict=True)])
        if count >= LEAST_ASKED * listed:
            seen = self._seen[key] = min(self._seen.get(key, PRIOR) + 1.0, MEMORY)
            together = sum(means[place] for place in places)
            for share, place in zip(shares, places, strict=True):
                means[place] += (share * together - means[place]) / seen
        return result
