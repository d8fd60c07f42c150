"""`DummyLogger`, which logs nothing, and `LoggerCollection`, which logs to several loggers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rankzero.loggers.base import VERBS, Logger
from rankzero.loggers.experiment import do_nothing
from rankzero.loggers.verbs import SHARED_VERBS


class DummyLogger(Logger):
    """Accepts everything and does nothing."""

    __iter__ = None

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return do_nothing

    def __getitem__(self, index: object) -> DummyLogger:
        return self


for _verb in SHARED_VERBS | {"log_console", "rewind", "watch", "unwatch"}:
    setattr(DummyLogger, _verb, do_nothing)


class LoggerCollection(Logger):
    """Several loggers as one: each call goes to each of them, in order.

    If a logger raises, the others are still called, and the exception is raised at the end; several exceptions are
    raised as an `ExceptionGroup`.
    """

    def __init__(self, loggers: Iterable[Logger]) -> None:
        self._loggers = list(loggers)
        self.captures = frozenset[str]().union(*(logger.captures for logger in self._loggers))

    def __iter__(self) -> Iterator[Logger]:
        return iter(self._loggers)

    def __getitem__(self, index: int) -> Logger:
        return self._loggers[index]

    def __len__(self) -> int:
        return len(self._loggers)

    @property
    def experiment(self) -> list[Any]:
        """The experiments of all loggers."""
        return [logger.experiment for logger in self._loggers]

    @property
    def name(self) -> str:
        """The different names, joined with ``_``."""
        return "_".join(dict.fromkeys(str(logger.name) for logger in self._loggers))

    @property
    def version(self) -> int | str | None:
        """The version of the only logger, or the different versions joined with ``_``."""
        if len(self._loggers) == 1:
            return self._loggers[0].version
        return "_".join(dict.fromkeys(str(logger.version) for logger in self._loggers))

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        self._each("log_metrics", *args, **kwargs)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        self._each("log_hyperparams", *args, **kwargs)

    def log_console(self, text: str, stream: str) -> None:
        self._all([each for each in self._loggers if "console" in each.captures], "log_console", text, stream)

    def _each(self, verb: str, *args: Any, **kwargs: Any) -> None:
        self._all(self._loggers, verb, *args, **kwargs)

    def _all(self, loggers: Iterable[Logger], verb: str, *args: Any, **kwargs: Any) -> None:
        errors: list[Exception] = []
        for logger in loggers:
            try:
                getattr(logger, verb)(*args, **kwargs)
            except Exception as error:
                errors.append(error)
        if len(errors) > 1:
            raise ExceptionGroup(f"{verb} failed for {len(errors)} of {len(self._loggers)} loggers", errors)
        if errors:
            raise errors[0]


def _forward(verb: str) -> Callable[..., None]:
    def forward(self: LoggerCollection, *args: Any, **kwargs: Any) -> None:
        self._each(verb, *args, **kwargs)

    forward.__name__ = verb
    forward.__doc__ = getattr(Logger, verb).__doc__
    return forward


for _verb in (VERBS | {"update_agg_funcs"}) - {"log_metrics", "log_hyperparams", "log_console"}:
    setattr(LoggerCollection, _verb, _forward(_verb))
