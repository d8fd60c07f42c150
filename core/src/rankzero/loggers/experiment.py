"""`DummyExperiment`: the value of ``logger.experiment`` on ranks other than zero."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from rankzero.rank import is_rank_zero

T = TypeVar("T")


class DummyExperiment:
    """Replaces the SDK's object on other ranks: every method does nothing and returns None.

    Attributes can be called and have attributes, at any depth (``experiment.config.update({})``); an item is this
    object.
    """

    __iter__ = None  # otherwise iteration would call __getitem__ without end

    def __getattr__(self, name: str) -> _Nothing:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return _Nothing()

    def __getitem__(self, key: object) -> DummyExperiment:
        return self

    def __setitem__(self, key: object, value: object) -> None:
        pass


class _Nothing(DummyExperiment):
    def __call__(self, *args: object, **kwargs: object) -> None:
        pass


def do_nothing(*args: object, **kwargs: object) -> None:
    """Accept anything, do nothing."""


def rank_zero_experiment(function: Callable[..., T]) -> Callable[..., T | DummyExperiment]:
    """Make the getter of ``experiment`` return a `DummyExperiment` on other ranks, or where there is no experiment."""

    @functools.wraps(function)
    def experiment(self: Any) -> T | DummyExperiment:
        real = function(self) if is_rank_zero() else None
        return DummyExperiment() if real is None else real

    return experiment
