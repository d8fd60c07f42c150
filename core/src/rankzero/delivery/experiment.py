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
    """What a Run asks for its ``experiment``."""

    def get(self) -> Any:
        """Return the SDK's object, or what stands for it."""

    def release(self, timeout: float) -> None:
        """Release what was opened for it, for the run has ended; wait for that, in seconds."""


class ExperimentOfThread:
    """The object that a courier in a thread uses, which ends with the courier.

    Args:
        open_logger: returns the courier's logger, waiting so many seconds until it is open.
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
    """The object of this process, which joins the run beside the courier's process when it is first used.

    Args:
        logger_class: the logger's class.
        make_logger: builds it.
        run: what it is attached to.
    """

    def __init__(self, logger_class: type[Logger], make_logger: Callable[[], Logger], run: RunInfo) -> None:
        self._class, self._make, self._run = logger_class, make_logger, run
        self._logger: Logger | None = None
        self._handle = LazyExperiment(self._join, logger_class.__name__)

    def get(self) -> Any:
        """Return a handle; that costs nothing."""
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
        """Close what joined the run: an SDK would take it for running as long as this process does."""
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
    """Stands for the SDK's object; costs and imports nothing until an attribute or item of it is asked for.

    Args:
        join: returns the SDK's object.
        name: of the logger's class.
    """

    __iter__ = None  # an object with __getitem__ alone would be iterable, without end

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
