"""How much more of the probability a place in the list gets than another, whatever stands there.

Models prefer places: of three options the small one of the tests takes the middle one always. The options of a question
are turned from task to task, so that over many tasks every candidate stands at every place; what a place then has more
than its equal part on average is its own, and is divided out.
"""

from collections.abc import Sequence

from service.classifiers.protocols.shares import normalised

PRIOR = 20.0
"""Equal parts count as so many tasks: a bias is believed as it shows."""

MEMORY = 400.0
"""Tasks after which the oldest have lost most of their weight: a server's model may be replaced by another one."""


class SlotBias:
    """Running means for each number of options; belongs to one event loop."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, int], list[float]] = {}
        self._seen: dict[tuple[str, int], float] = {}

    def corrected(self, question: str, shares: Sequence[float]) -> tuple[float, ...]:
        """The shares, given by place, without what each place has by itself; and learns from them."""
        count = len(shares)
        if count < 2:
            return tuple(shares)
        key = (question, count)
        means = self._means.setdefault(key, [1.0 / count] * count)
        result = normalised([share / mean for share, mean in zip(shares, means, strict=True)])
        seen = self._seen[key] = min(self._seen.get(key, PRIOR) + 1.0, MEMORY)
        for place, share in enumerate(shares):
            means[place] += (share - means[place]) / seen
        return result
