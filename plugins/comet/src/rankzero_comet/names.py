"""Names and values that Comet takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from rankzero import rank_zero_warn

_LONGEST_NAME = 100
_LONGEST_VALUE = 1000
_SEPARATOR = "|"
"""Between the keys of nested params, as Comet's client has it."""


class Names:
    """Shortens what is longer than Comet's client lets it be, and says so once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._said: set[str] = set()

    def known_as(self, name: str) -> str:
        """Return what a metric or param is called in Comet; different names stay different."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _shortened(name) or "(no name)"
            if known != name:
                rank_zero_warn(f"Comet takes names of 1 to {_LONGEST_NAME} characters: {name!r} is {known!r} there")
        return known

    def short(self, name: str, value: Any) -> tuple[Any, bool]:
        """Return a param's value, or the beginning of it that Comet takes, and whether it is whole."""
        if not isinstance(value, str | list) or len(str(value)) <= _LONGEST_VALUE:
            return value, True
        message = f"Comet takes params of {_LONGEST_VALUE} characters: {name!r} is whole in the asset params/{name}.txt"
        if message not in self._said:
            self._said.add(message)
            rank_zero_warn(message)
        return str(value)[:_LONGEST_VALUE], False


def flat_params(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each param with the keys that lead to it, as Comet's client names those of nested dictionaries."""
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flat_params(value, name + _SEPARATOR)
        else:
            yield name, str(value) if isinstance(value, Mapping) else value


def _shortened(name: str) -> str:
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}~{digest}"
