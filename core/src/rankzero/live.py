"""``run.experiment`` where a courier process delivers: a handle that joins the run when it is first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rankzero.errors import ExperimentUnavailableError
from rankzero.logger import Logger, RunInfo


class LazyExperiment:
    """Stands for the SDK's object; costs and imports nothing until an attribute or item of it is asked for.

    Args:
        logger_class: the logger's class.
        make_logger: builds it.
        run: what it is attached to.
    """

    __iter__ = None  # an object with __getitem__ alone would be iterable, without end

    def __init__(self, logger_class: type[Logger], make_logger: Callable[[], Logger], run: RunInfo) -> None:
        self.__dict__.update(_class=logger_class, _make=make_logger, _run=run, _real=None)

    def _join(self) -> Any:
        if self._real is None:
            if not self._class.joinable:
                raise ExperimentUnavailableError(
                    f"{self._class.__name__}.experiment lives in the courier's process, and its tracker cannot be "
                    'joined from a second one; start the run with delivery="thread" to use it'
                )
            logger = self._make()
            logger.attach(self._run)
            self.__dict__["_real"] = logger.experiment
        return self._real

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return getattr(self._join(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._join(), name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._join()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._join()[key] = value

    def __repr__(self) -> str:
        return f"<the experiment of {self._class.__name__}, in a courier process>"
