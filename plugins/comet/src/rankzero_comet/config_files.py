"""Comet's settings, read without its client, whose import takes seconds: the environment, and ``.comet.config``."""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_FILE = ".comet.config"
_NO = ("false", "0", "no", "off", "f", "n")


def setting(name: str) -> str | None:
    """Return a setting such as ``workspace`` or ``start.online``; None if it is not set.

    As for Comet's client a variable (``COMET_START_ONLINE``) counts more than the files, of which the one that
    ``COMET_CONFIG`` names comes first, then that of the working directory and that of the home directory.
    """
    value = os.environ.get(variable(name))
    if value:
        return value
    section, _, option = f"comet.{name}".rpartition(".")
    for path in _files():
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        with suppress(configparser.Error, OSError, ValueError):
            parser.read(path, encoding="utf-8")
        for where, what in ((section, option), ("comet", name.replace(".", "_"))):
            found = parser.get(where, what, fallback=None)
            if found:
                return found
    return None


def variable(name: str) -> str:
    """Return the variable that sets a setting."""
    return "COMET_" + name.upper().replace(".", "_")


def is_no(value: object) -> bool:
    """Return whether a setting is switched off."""
    return str(value).lower() in _NO


def _files() -> Iterator[Path]:
    named = os.environ.get("COMET_INI") or os.environ.get("COMET_CONFIG")
    if named:
        path = Path(named).expanduser()
        yield path / _FILE if path.is_dir() else path
    yield Path(_FILE)
    yield Path.home() / _FILE
