"""A few results that an object remembers."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """The results of at most `most` calls, the oldest forgotten first.

    Unlike `lru_cache` around a bound method it does not refer to the object that has it. So that goes, with all that it
    holds, once nobody uses it, and not when garbage is collected. Two threads may make the same result at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: dict[K, V] = {}

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._found)

    def get(self, key: K, make: Callable[[K], V]) -> V:
        """What was made of `key` before, or is made of it now."""
        found = self._found.get(key)
        if found is None:
            found = make(key)
            while len(self._found) >= self._most:
                self._found.pop(next(iter(self._found)), None)
            self._found[key] = found
        return found
