"""The entry points of the group ``rankzero`` that installed distributions declare, found in about 1 ms.

``importlib.metadata`` finds the same, but importing it costs 25 ms and asking it 4 ms in an environment of
120 distributions, and ``rankzero.start()`` may take 20 ms in all. So directories on ``sys.path`` are read
here; ``importlib.metadata`` is asked only about what is no directory (a zip file, an import hook).
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

GROUP = "rankzero"
_METADATA_SUFFIXES = (".dist-info", ".egg-info")


class EntryPoint(msgspec.Struct, frozen=True):
    """One line of a distribution's entry points."""

    name: str
    target: str
    """``module:attribute``, or ``module`` alone."""
    distribution: str
    version: str

    @property
    def module(self) -> str:
        """The module to import."""
        return self.target.partition(":")[0].strip()

    @property
    def attribute(self) -> str:
        """The object in that module; empty if the entry point is the module itself."""
        return self.target.partition(":")[2].strip()


def find_entry_points() -> list[EntryPoint]:
    """Return the entry points of the group `GROUP`; no distribution is imported.

    A distribution that is on ``sys.path`` twice counts once, the first one, as for an import.
    """
    found: list[EntryPoint] = []
    seen: set[str] = set()
    for offered in _per_distribution():
        owners = {normalized(each.distribution) for each in offered}
        if not owners & seen:
            seen |= owners
            found += offered
    return found


def normalized(distribution: str) -> str:
    """Return a distribution's name in the form in which two spellings of it are equal."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _per_distribution() -> Iterator[list[EntryPoint]]:
    for place in dict.fromkeys(sys.path):
        try:
            names = sorted(os.listdir(place or "."))
        except NotADirectoryError:
            yield from _ask_importlib(path=[place])
        except OSError:
            pass  # sys.path may name what does not exist
        else:
            yield from _in_directory(place or ".", names)
    if any(map(_finds_distributions, sys.meta_path)):
        yield from _ask_importlib()


def _finds_distributions(finder: Any) -> bool:
    # Python's own finder looks at sys.path, as we did; so does that of the importlib_metadata backport.
    module = getattr(finder, "__module__", type(finder).__module__)
    return hasattr(finder, "find_distributions") and not module.startswith(("_frozen_", "importlib"))


def _in_directory(place: str, names: Iterable[str]) -> Iterator[list[EntryPoint]]:
    folders = [name for name in names if name.endswith(_METADATA_SUFFIXES)]
    if place.endswith(".egg"):
        folders.append("EGG-INFO")
    for folder in folders:
        path = os.path.join(place, folder)
        text = _read(os.path.join(path, "entry_points.txt"))
        if f"[{GROUP}]" in text:
            header = _read(os.path.join(path, "METADATA")) or _read(os.path.join(path, "PKG-INFO"))
            name = _field(header, "Name") or folder.partition("-")[0]
            yield _parse(text, name, _field(header, "Version"))


def _ask_importlib(**context: Any) -> Iterator[list[EntryPoint]]:
    from importlib.metadata import Distribution

    for distribution in Distribution.discover(**context):
        text = distribution.read_text("entry_points.txt") or ""
        if f"[{GROUP}]" in text:
            yield _parse(text, distribution.metadata["Name"], distribution.version)


def _parse(text: str, distribution: str, version: str) -> list[EntryPoint]:
    offered, section = [], ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[] ")
        elif section == GROUP and "=" in line and not line.startswith("#"):
            name, _, target = line.partition("=")
            # An extra after the target, as in "module:Class [extra]", is an old way to say what to install.
            target = target.partition("[")[0].strip()
            offered.append(EntryPoint(name.strip(), target, distribution, version))
    return offered


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _field(header: str, name: str) -> str:
    found = re.search(rf"^{name}:\s*(\S+)", header, re.MULTILINE)
    return found[1] if found else ""


def is_installed(module: str) -> bool:
    """Return whether a module can be imported; nothing is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a test has put a stand-in without a spec into sys.modules
        return True
