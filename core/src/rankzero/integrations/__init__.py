"""Frameworks log to a run: one module for each framework, imported only when asked for.

To use one without changing a script, name frameworks, or modules of `rankzero.compat`, in ``RANKZERO_INTEGRATIONS``,
comma-separated. The file ``rankzero.pth`` is installed with rankzero; it calls `watch` at the start of each Python
process that has the variable. Couriers do not have it, so they use the real modules.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from rankzero.compat.replaced import REPLACED, WITHOUT_PACKAGE
from rankzero.messages import describe, warn_user
from rankzero.processes import INTEGRATIONS
from rankzero.values import as_names

REGISTRIES = {"accelerate": "accelerate", "transformers": "transformers.integrations.integration_utils"}
"""Framework → the module that is imported when the names of its trackers can be extended."""

Execute = Callable[[ModuleType], None]
"""Executes the code of a module."""


def watch() -> None:
    """Add rankzero to the frameworks and modules in ``RANKZERO_INTEGRATIONS`` when they are imported."""
    asked = as_names(os.environ.get(INTEGRATIONS, ""))
    known = sorted(REGISTRIES | REPLACED)
    if unknown := [name for name in asked if name not in known]:
        warn_user(f"{INTEGRATIONS}: there is no integration {', '.join(unknown)}; there are {', '.join(known)}")
    watch_imports({REGISTRIES[name]: partial(_register, name) for name in asked if name in REGISTRIES})
    for name in asked:
        watch_replaced(name)


def watch_replaced(name: str) -> None:
    """Replace the modules of a tool when they are imported."""
    watch_imports({module: partial(_replace, name) for module in REPLACED.get(name, ())})


def watch_imports(loads: Mapping[str, Callable[[Execute, ModuleType], None]]) -> None:
    """When a module is imported, call its function with (execute, module) instead of executing its code."""
    sys.meta_path.insert(0, _Watch(loads))


def unwatch() -> None:
    """Undo `watch`, for programs that deliver runs: loggers need the real modules."""
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, _Watch)]


class _Watch:
    """An import hook: see `watch_imports`."""

    def __init__(self, loads: Mapping[str, Callable[[Execute, ModuleType], None]]) -> None:
        self._loads = loads

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self._loads:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None and name in WITHOUT_PACKAGE:
            importlib.import_module(f"rankzero.compat.{name}").install()
            return ModuleSpec(name, _Installed(), is_package=True)
        if spec is not None and spec.loader is not None:
            load = partial(self._loads[name], spec.loader.exec_module)
            spec.loader.exec_module = load  # type: ignore[method-assign]
        return spec


class _Installed(Loader):
    """Loads a module that is in ``sys.modules`` already."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing."""


def _register(framework: str, execute: Execute, module: ModuleType) -> None:
    """Execute the registry of a framework, and import the module that adds rankzero to it."""
    execute(module)
    try:
        importlib.import_module(f"{__name__}.{framework}")
    except Exception as error:  # the framework must be usable without rankzero
        warn_user(f"rankzero cannot be used with {framework}: {describe(error)}")


def _replace(name: str, execute: Execute, module: ModuleType) -> None:
    importlib.import_module(f"rankzero.compat.{name}").replace(module, execute)
