"""Parameters: nest values by their paths, and track sets of strings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any


class NestedParams:
    """Nests values by their paths. In Neptune a name may be a value and a namespace at once, in a dict it may not."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._keys: dict[str, Sequence[str]] = {}
        self._namespaces: set[str] = set()
        self._separate_keys: set[str] = set()

    def has(self, name: str, value: Any) -> bool:
        """Return whether ``name`` has this value already."""
        known = self._values.get(name, self)
        return type(known) is type(value) and bool(known == value)

    def set(self, values: dict[str, Any], name: str, value: Any) -> None:
        """Set a value in the nested dictionary ``values``; if it cannot be nested, it gets a separate key."""
        self._values[name] = value
        keys = self._keys.get(name)
        if keys is None:
            self._keys[name] = keys = self._new_keys(name)
        for key in keys[:-1]:
            values = values.setdefault(key, {})
        values[keys[-1]] = value

    def _new_keys(self, name: str) -> Sequence[str]:
        keys = name.split("/")
        spaces = ["/".join(keys[:depth]) for depth in range(1, len(keys))]
        if name in self._namespaces or name in self._separate_keys:
            key = f"{name}.value"
            while key in self._values or key in self._namespaces or key in self._separate_keys:
                key += "_"
            self._separate_keys.add(key)
            return [key]
        if any(space in self._values for space in spaces):
            return [name]
        self._namespaces.update(spaces)
        return keys


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
