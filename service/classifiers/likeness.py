"""Which of several agents of the same figures a text is for: how like their descriptions it is.

Specialists (an agent for databases, one for style sheets, one for documentation) often stand in a catalog with nothing
known of them, or with the same figures. Then nothing but their descriptions tells them apart. The words that a text
shares with each are weighted by how rare they are (inverse document frequency; Spärck Jones 1972), and the best match
gets a small advantage in the forecast, which outcomes overrule.
"""

from collections.abc import Mapping, Sequence
from math import log, sqrt

from service.classifiers.kind_text import shipped_words
from service.classifiers.kind_words import ASKS, SHOWS, stems_of, words_of
from service.contract.catalog import Candidate

SHIPPED_TEXTS = 300
"""About as many texts are behind the counts that ship: they say how rare a word is in tasks."""

_SIGNS = (ASKS, SHOWS)


class Likeness:
    """The candidates of a catalog that only their descriptions tell apart. Immutable."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._groups = _alike(candidates)
        """Places of candidates whose figures are equal, at least two agents in each."""
        described = {place: _words(candidates[place]) for group in self._groups for place in group}
        number = len(described) + SHIPPED_TEXTS
        seen = {word: sum(counts.values()) for word, counts in shipped_words().items()} if described else {}
        for words in described.values():
            for word in words:
                seen[word] = seen.get(word, 0.0) + 1.0
        self._shares: dict[str, list[tuple[int, float]]] = {}
        for place, words in described.items():
            rare = {word: log((number + 1) / (seen[word] + 0.5)) ** 2 for word in words}
            length = sqrt(sum(rare.values())) or 1.0
            for word, amount in rare.items():
                self._shares.setdefault(word, []).append((place, amount / length))

    def __bool__(self) -> bool:
        return bool(self._groups)

    def scores(self, words: Mapping[str, float]) -> dict[int, float]:
        """How like each candidate's description, by its place in the catalog, is to a text of these words; 0 is not."""
        found = {place: 0.0 for group in self._groups for place in group}
        for stem in {stem for word in words if word not in _SIGNS for stem in stems_of(word)}:
            for place, amount in self._shares.get(stem, ()):
                found[place] += amount
        return found

    def leanings(self, words: Mapping[str, float]) -> dict[int, float]:
        """The same as shares: 1 for a candidate of a group that has all the likeness, 0 for an average one, below 0 for
        less. Empty where the text is like nobody's description."""
        scores = self.scores(words) if self._groups else {}
        leaning: dict[int, float] = {}
        for group in self._groups:
            total = sum(scores[place] for place in group)
            if total > 0:
                even = 1 / len(group)
                leaning |= {place: (scores[place] / total - even) / (1 - even) for place in group}
        return leaning


def _alike(candidates: Sequence[Candidate]) -> list[tuple[int, ...]]:
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, candidate in enumerate(candidates):
        figures = (candidate.solve_rate, candidate.cost_usd, tuple(sorted(candidate.kinds.items(), key=str)))
        groups.setdefault(figures, []).append(place)
    return [tuple(group) for group in groups.values() if len({candidates[place].agent_type for place in group}) > 1]


def _words(candidate: Candidate) -> set[str]:
    text = f"{candidate.agent_type.replace('-', ' ')}. {candidate.agent_description} {candidate.description}"
    return {stem for word in words_of("", text) if word not in _SIGNS for stem in stems_of(word)}
