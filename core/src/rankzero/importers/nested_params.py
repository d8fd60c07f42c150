"""Nest parameters whose names are paths, such as ``optimizer/lr``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class NestedParams:
    """Nests values by their names; a name may be a value and a namespace at once, but in a dict it may not.

    Args:
        separator: separates the keys in a name.
    """

    def __init__(self, separator: str = "/") -> None:
        self._separator = separator
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
        keys = name.split(self._separator)
        spaces = [self._separator.join(keys[:depth]) for depth in range(1, len(keys))]
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
