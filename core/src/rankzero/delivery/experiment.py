"""``run.experiment``: the SDK's own object, from the courier's thread or joined from the training process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from rankzero.errors import ExperimentUnavailableError
from rankzero.events.run_info import RunInfo
from rankzero.loggers.base import Logger

log = logging.getLogger("rankzero")

_ASK_TIMEOUT = 30.0  # seconds for a thread to open its logger


class LiveExperiment(Protocol):
    """Provides the ``experiment`` of a Run."""

    def get(self) -> Any:
        """Return the SDK's object, or a proxy for it."""

    def release(self, timeout: float) -> None:
        """Close the object because the run has ended; wait at most ``timeout`` seconds."""


class ExperimentOfThread:
    """The SDK's object of a courier in a thread, which the courier closes.

    Args:
        open_logger: waits at most so many seconds until the courier's logger is open, and returns it.
    """

    def __init__(self, open_logger: Callable[[float], Logger | None]) -> None:
        self._open_logger = open_logger

    def get(self) -> Any:
        """Return the SDK's object; wait until it is open."""
        logger = self._open_logger(_ASK_TIMEOUT)
        if logger is None:
            raise RuntimeError("the logger could not be opened yet; its tracker does not answer")
        return logger.experiment

    def release(self, timeout: float) -> None:
        """Do nothing."""


class ExperimentOfProcess:
    """An SDK's object of this process, which joins the run of the courier's process when it is first used.

    Args:
        logger_class: the logger's class.
        make_logger: makes the logger.
        run: the run to join.
    """

    def __init__(self, logger_class: type[Logger], make_logger: Callable[[], Logger], run: RunInfo) -> None:
        self._class, self._make, self._run = logger_class, make_logger, run
        self._logger: Logger | None = None
        self._handle = LazyExperiment(self._join, logger_class.__name__)

    def get(self) -> Any:
        """Return a proxy, which costs nothing until it is used."""
        return self._handle

    def _join(self) -> Any:
        if not self._class.supports_join:
            raise ExperimentUnavailableError(
                f"{self._class.__name__}.experiment lives in the courier's process, and its tracker cannot be "
                'joined from a second one; start the run with delivery="thread" to use it'
            )
        logger = self._make()
        logger.attach(self._run)
        experiment = logger.experiment
        self._logger = logger
        return experiment

    def release(self, timeout: float) -> None:
        """Close the object; otherwise the tracker would show the run as running until this process ends."""
        logger, self._logger = self._logger, None
        if logger is None:
            return
        closing = threading.Thread(target=_close, args=(logger,), name="rankzero-release", daemon=True)
        closing.start()
        closing.join(timeout)


def _close(logger: Logger) -> None:
    try:
        logger.close()
    except Exception as error:
        log.warning("%s.experiment could not be closed: %s", type(logger).__name__, error)


class LazyExperiment:
    """A proxy for the SDK's object, which it opens when an attribute or item is first accessed.

    Args:
        join: returns the SDK's object.
        name: the name of the logger's class.
    """

    __iter__ = None  # otherwise iteration would call __getitem__ without end

    def __init__(self, join: Callable[[], Any], name: str) -> None:
        self.__dict__.update(_join=join, _name=name, _real=None)

    def _object(self) -> Any:
        if self._real is None:
            self.__dict__["_real"] = self._join()
        return self._real

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return getattr(self._object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._object(), name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._object()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._object()[key] = value

    def __repr__(self) -> str:
        return f"<the experiment of {self._name}, in a courier process>"
