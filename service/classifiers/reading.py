"""What a task's text tells without any request: its size, its kind, and which of several like agents it is for."""

from dataclasses import dataclass
from functools import cached_property

from service.classifiers.kind_text import KindText, WordCounts
from service.classifiers.kind_words import words_of
from service.classifiers.likeness import Likeness
from service.classifiers.size_text import estimate_size
from service.contract.catalog import Catalog
from service.contract.task import Task
from service.forecast.effort import Effort


class Reading:
    """One task's text, read as far as it is asked for and each part once."""

    def __init__(self, task: Task, kind_text: KindText, likeness: Likeness) -> None:
        self._task = task
        self._kind_text = kind_text
        self._likeness = likeness

    @cached_property
    def words(self) -> dict[str, float]:
        """The words of title and text, with their weights."""
        return words_of(self._task.name, self._task.instructions)

    @cached_property
    def size(self) -> Effort:
        """A person's minutes."""
        return estimate_size(self._task.name, self._task.instructions, self.words)

    @cached_property
    def kinds(self) -> dict[str, float]:
        """How likely each kind of the catalog is; empty where it has none."""
        return dict(zip(self._kind_text.kinds, self._kind_text.of_words(self.words), strict=True))

    @cached_property
    def leaning(self) -> dict[int, float]:
        """To which candidates the text leans, by their place in the catalog; mostly empty."""
        return self._likeness.leanings(self.words) if self._likeness else {}

    def weights(self) -> dict[str, dict[str, float]]:
        """The words that say most about the kind, for an explanation."""
        return self._kind_text.weights(self.words) if len(self._kind_text.kinds) > 1 else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads texts for one catalog."""

    kind_text: KindText
    likeness: Likeness

    @classmethod
    def of(cls, catalog: Catalog, told: WordCounts | None = None) -> "Reader":
        """`told` are the words of tasks whose kind was told."""
        return cls(kind_text=KindText(catalog.kinds, told), likeness=Likeness(catalog.candidates))

    def read(self, task: Task) -> Reading:
        """Nothing is read before it is asked for."""
        return Reading(task, self.kind_text, self.likeness)
