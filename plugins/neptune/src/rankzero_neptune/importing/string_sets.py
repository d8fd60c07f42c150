"""Track the sets of strings of a run in Neptune."""

from __future__ import annotations

from collections.abc import Collection, Sequence


class StringSets:
    """The sets of strings of a run, such as its tags. Each method returns the content of the set."""

    def __init__(self) -> None:
        self._sets: dict[str, list[str]] = {}

    def get(self, name: str) -> list[str]:
        """Return the content of a set."""
        return list(self._sets.get(name, ()))

    def assign(self, name: str, values: Sequence[str]) -> list[str]:
        """Replace the content of a set."""
        self._sets[name] = list(dict.fromkeys(values))
        return self.get(name)

    def add(self, name: str, values: Sequence[str]) -> list[str]:
        """Add strings to a set."""
        return self.assign(name, [*self.get(name), *values])

    def remove(self, name: str, values: Collection[str]) -> list[str] | None:
        """Remove strings from a set; return None if there is no such set."""
        if name not in self._sets:
            return None
        return self.assign(name, [each for each in self._sets[name] if each not in values])

    def change(self, name: str, added: Sequence[str], removed: Collection[str]) -> None:
        """Add and remove strings."""
        self.add(name, added)
        self.remove(name, removed)
