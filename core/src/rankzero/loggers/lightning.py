"""Register rankzero's loggers as subclasses of Lightning's, without importing Lightning.

LightningCLI accepts only subclasses of Lightning's Logger, and ``Trainer.log_dir`` uses a logger's ``log_dir`` only for
some of Lightning's classes. These are abstract, so other classes can be registered with them: every logger and Run with
``Logger``, and a logger with the class of the same name (``CSVLogger``). Lightning may be imported before rankzero,
after it, or never; so an import hook watches imports from the first subclass of `Logger` or the import of `Run` on.
"""

from __future__ import annotations

import functools
import sys
from abc import ABC
from contextlib import suppress
from typing import Any

_PACKAGES = frozenset(("lightning", "lightning_fabric", "pytorch_lightning"))
_BASES = (
    "lightning.fabric.loggers.logger",
    "lightning.pytorch.loggers.logger",
    "lightning_fabric.loggers.logger",
    "pytorch_lightning.loggers.logger",
)
# By name: their modules import this one.
_LOGGER = "rankzero.loggers.base.Logger"
_RUN = "rankzero.run.run.Run"


@functools.cache
def watch() -> None:
    """Register with Lightning's classes now, and whenever some are imported."""
    watch = _Watch()
    watch.look()
    sys.meta_path.insert(0, watch)


def is_lightning_handler(handler: Any) -> bool:
    """Return whether a signal handler is Lightning's, which calls the previous handler."""
    return _is_lightning_module(type(handler).__module__)


def _is_lightning_module(name: str) -> bool:
    return name.partition(".")[0] in _PACKAGES


class _Watch:
    """An import hook that finds no modules; each later import shows whether Lightning's classes exist now."""

    def __init__(self) -> None:
        self._counterparts: dict[type, type] = {}  # strong references: an abstract class has only weak ones

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if _is_lightning_module(name):
            with suppress(Exception):  # an import must not fail because of this hook
                self.look()

    def look(self) -> None:
        """Register with the classes that were imported since the last call."""
        for module in _BASES:
            base = getattr(sys.modules.get(module), "Logger", None)
            for each in (base, *base.__subclasses__()) if base is not None else ():
                if each not in self._counterparts and _is_lightning_module(each.__module__):
                    self._counterparts[each] = _counterpart(each.__name__)
                    each.register(self._counterparts[each])


def _counterpart(name: str) -> type:
    """Return an abstract class whose subclasses are rankzero's counterparts of Lightning's class ``name``."""

    class Counterpart(ABC):  # noqa: B024
        @classmethod
        def __subclasshook__(cls, subclass: type) -> bool:
            known = {f"{each.__module__}.{each.__qualname__}" for each in subclass.__mro__}
            if name == "Logger":
                return _LOGGER in known or _RUN in known
            return _LOGGER in known and name in (each.__name__ for each in subclass.__mro__)

    return Counterpart
