"""Where single values stand among the parameters, and which strings are in a set."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any


class ParamPlaces:
    """Nests values by their paths; Neptune lets a name be a value and a namespace at once, a dict does not."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._places: dict[str, Sequence[str]] = {}
        self._namespaces: set[str] = set()
        self._own_keys: set[str] = set()

    def is_known(self, name: str, value: Any) -> bool:
        """Return whether ``name`` has just this value."""
        return name in self._values and _is_same(self._values[name], value)

    def place(self, name: str, value: Any) -> Sequence[str]:
        """Note a value; return its keys, from outside to inside. One that cannot be nested has a key of its own."""
        self._values[name] = value
        keys = self._places.get(name)
        if keys is None:
            self._places[name] = keys = self._new_place(name)
        return keys

    def _new_place(self, name: str) -> Sequence[str]:
        keys = name.split("/")
        spaces = ["/".join(keys[:depth]) for depth in range(1, len(keys))]
        if name in self._namespaces or name in self._own_keys:
            key = f"{name}.value"
            while key in self._values or key in self._namespaces or key in self._own_keys:
                key += "_"
            self._own_keys.add(key)
            return [key]
        if any(space in self._values for space in spaces):
            return [name]
        self._namespaces.update(spaces)
        return keys


class StringSets:
    """The sets of strings of a run."""

    def __init__(self) -> None:
        self._sets: dict[str, list[str]] = {}

    def assign(self, name: str, values: Sequence[str]) -> list[str]:
        """Replace a set; return what is in it."""
        self._sets[name] = list(dict.fromkeys(values))
        return list(self._sets[name])

    def add(self, name: str, values: Sequence[str]) -> list[str]:
        """Add to a set; return what is in it."""
        return self.assign(name, [*self._sets.get(name, ()), *values])

    def remove(self, name: str, values: Collection[str]) -> list[str] | None:
        """Take out of a set; return what is left in it, None if there is no such set."""
        if name not in self._sets:
            return None
        return self.assign(name, [each for each in self._sets[name] if each not in values])


def put(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set a value in nested dicts."""
    for key in keys[:-1]:
        values = values.setdefault(key, {})
    values[keys[-1]] = value


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
