"""``logger.experiment``: the ``MlflowClient``, which may be spoken to without naming the run."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

from mlflow import MlflowClient

_RUN_ID = re.compile("[0-9a-f]{32}")


class RunClient(MlflowClient):  # type: ignore[misc]
    """An ``MlflowClient`` whose methods about a run take this one if none is named.

    ``log_metric("loss", 0.5)`` and ``log_metric(run_id, "loss", 0.5)`` are the same here.

    Args:
        tracking_uri: where MLflow is.
        run_id: MLflow's id of the run.
    """

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        super().__init__(tracking_uri)
        for name, method in inspect.getmembers(self, inspect.ismethod):
            if not name.startswith("_") and next(iter(inspect.signature(method).parameters), None) == "run_id":
                setattr(self, name, _about(run_id, method))


def _about(run_id: str, method: Any) -> Any:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if "run_id" in kwargs or (args and isinstance(args[0], str) and _RUN_ID.fullmatch(args[0])):
            return method(*args, **kwargs)
        try:
            signature.bind(run_id, *args, **kwargs)
        except TypeError:  # one argument too many: the first is another store's kind of id, or the mistake is MLflow's
            return method(*args, **kwargs)
        return method(run_id, *args, **kwargs)

    return call
