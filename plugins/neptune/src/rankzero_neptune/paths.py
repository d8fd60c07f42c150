"""Where in a Neptune run something is kept: a path holds one type, and nothing stands below it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

ATOMS = frozenset(["bool", "datetime", "float", "int", "string"])
"""Types of single values, of which one can take the place of another."""

_BELOW = "_parts"
_NO_NAME = "(no name)"


def joined(*parts: str) -> str:
    """Return parts of a path joined with ``/``, as Neptune does: without empty ones."""
    return "/".join(part for each in parts for part in each.split("/") if part)


def named(prefix: str, name: str) -> str:
    """Return the path of a name below a prefix, also for a name that is empty for Neptune."""
    return joined(prefix, name if name.strip("/") else _NO_NAME)


class Paths:
    """The attributes of a run, and paths for more.

    Args:
        types: the types of the attributes that there are, by path, in Neptune's words.
        on_move: told the wished path and the one taken instead.
    """

    def __init__(self, types: Mapping[str, str], on_move: Callable[[str, str], object]) -> None:
        self._types: dict[str, str] = {}
        self._namespaces: set[str] = set()
        self._on_move = on_move
        for path, kind in types.items():
            self._add(path, kind)

    def type_of(self, path: str) -> str | None:
        """Return what type is kept under a path, None if nothing is."""
        return self._types.get(path)

    def claim(self, wished: str, kind: str) -> str:
        """Return the path for what is to be kept under ``wished``: itself, or one beside it if that is taken."""
        path = wished
        while (better := self._moved(path, kind)) != path:
            path = better
        if path != wished:
            self._on_move(wished, path)
        self._add(path, kind)
        return path

    def free(self, path: str) -> None:
        """Forget what is kept under a path."""
        self._types.pop(path, None)

    def at(self, path: str) -> list[str]:
        """Return the paths of what is kept under a path and below it."""
        return [each for each in self._types if each == path or each.startswith(f"{path}/")]

    def _moved(self, path: str, kind: str) -> str:
        for above in _above(path):
            if above in self._types:
                return f"{above}{_BELOW}{path.removeprefix(above)}"
        taken = self._types.get(path, kind)
        return f"{path}_{kind}" if taken != kind or path in self._namespaces else path

    def _add(self, path: str, kind: str) -> None:
        self._types[path] = kind
        self._namespaces.update(_above(path))


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))
