"""Frameworks log to a run: one module for each framework, imported only when asked for.

To ask without changing a script, name frameworks in ``RANKZERO_INTEGRATIONS``, comma-separated. The file
``rankzero.pth`` is installed with rankzero; it calls `watch` at the start of each Python process that has the variable.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from rankzero.config import INTEGRATIONS
from rankzero.messages import describe, warn_user
from rankzero.values import as_names

REGISTRIES = {"accelerate": "accelerate.tracking", "transformers": "transformers.integrations.integration_utils"}
"""Framework → its module that knows the names of trackers."""


def watch() -> None:
    """Import the module for each framework in ``RANKZERO_INTEGRATIONS`` as soon as the framework is imported."""
    asked = as_names(os.environ.get(INTEGRATIONS, ""))
    if unknown := [name for name in asked if name not in REGISTRIES]:
        warn_user(f"{INTEGRATIONS}: there is no integration {', '.join(unknown)}; there are {', '.join(REGISTRIES)}")
    sys.meta_path.insert(0, _Watch({REGISTRIES[name]: name for name in asked if name in REGISTRIES}))


class _Watch:
    """An import hook: after the registry of a framework, it imports the module that adds rankzero to it."""

    def __init__(self, frameworks: dict[str, str]) -> None:
        self._frameworks = frameworks

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self._frameworks:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register(self._frameworks[name])

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register(framework: str) -> None:
    try:
        importlib.import_module(f"{__name__}.{framework}")
    except Exception as error:  # the framework must be usable without rankzero
        warn_user(f"rankzero cannot be used with {framework}: {describe(error)}")
