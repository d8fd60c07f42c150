"""Import what a package offers on first access: every run imports the packages of all plugins, for their importers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def lazy_names(package: str, **homes: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package.

    Args:
        package: the name of the package, for error messages.
        **homes: name → the module to import it from.
    """

    def import_name(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    return import_name
