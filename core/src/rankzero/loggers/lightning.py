"""Register rankzero's loggers as subclasses of Lightning's, without importing Lightning.

LightningCLI takes only what is a subclass of Lightning's own Logger, and ``Trainer.log_dir`` is a logger's
``log_dir`` only for some of Lightning's own classes. These are abstract, so others can be registered with them: every
logger and a Run with ``Logger``, and a logger with the class that has its name (``CSVLogger``). They may be
imported before rankzero, long after it, or never; so this watches what is imported, from the first subclass of
`Logger` or the import of `Run` on.
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


def is_its_handler(handler: Any) -> bool:
    """Return whether a signal's handler is Lightning's, which calls the one that was there before it."""
    return _is_its_module(type(handler).__module__)


def _is_its_module(name: str) -> bool:
    return name.partition(".")[0] in _PACKAGES


class _Watch:
    """Is asked for every module before it is imported, and finds none: a later one tells that the classes are there."""

    def __init__(self) -> None:
        self._counterparts: dict[type, type] = {}  # a class does not keep those that are registered with it alive

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if _is_its_module(name):
            with suppress(Exception):  # nobody's import is to fail for this
                self.look()

    def look(self) -> None:
        """Register with the classes that are new since the last time."""
        for module in _BASES:
            base = getattr(sys.modules.get(module), "Logger", None)
            for each in (base, *base.__subclasses__()) if base is not None else ():
                if each not in self._counterparts and _is_its_module(each.__module__):
                    self._counterparts[each] = _counterpart(each.__name__)
                    each.register(self._counterparts[each])


def _counterpart(name: str) -> type:
    """Return an abstract class of which those of rankzero's classes are subclasses that Lightning calls ``name``."""

    class Counterpart(ABC):  # noqa: B024
        @classmethod
        def __subclasshook__(cls, subclass: type) -> bool:
            known = {f"{each.__module__}.{each.__qualname__}" for each in subclass.__mro__}
            if name == "Logger":
                return _LOGGER in known or _RUN in known
            return _LOGGER in known and name in (each.__name__ for each in subclass.__mro__)

    return Counterpart
