"""`MemoryLogger`: a logger without a tracker, for tests."""

from __future__ import annotations

import inspect
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rankzero.events.run_info import LogContext, RunInfo
from rankzero.loggers.base import VERBS, Logger
from rankzero.testing.tracked import Point, Tracked


class Call(NamedTuple):
    """One call of a verb."""

    verb: str
    arguments: dict[str, Any]
    """The arguments by the names of the parameters in `rankzero.Logger`, without defaults."""
    context: LogContext
    run_id: str | None
    """None for a logger that is used directly."""


def _recorder(verb: str) -> Callable[..., None]:
    parameters = inspect.signature(getattr(Logger, verb))

    def record(self: MemoryLogger, *args: Any, **kwargs: Any) -> None:
        arguments = parameters.bind(self, *args, **kwargs).arguments
        arguments.pop("self")
        self._record(verb, **{**arguments, **arguments.pop("extra", {})})

    record.__name__ = verb
    record.__doc__ = getattr(Logger, verb).__doc__
    return record


_WRITTEN = {"log_metrics", "log_metrics_batch", "log_hyperparams", "log_record", "agg_and_log_metrics", "attach"}


class MemoryLogger(Logger):
    """Keeps every call in memory.

    Use it with ``rankzero.start(…, delivery="thread")``, because a courier process has its own memory.

    Args:
        calls: the list to add the calls to; loggers with the same list act like loggers of one tracker.
        name: the logger's name.
        version: the logger's version.
    """

    captures = frozenset(["rewind"])

    def __init__(self, calls: list[Call] | None = None, name: str = "memory", version: int | str = 0) -> None:
        super().__init__()
        self.calls: list[Call] = [] if calls is None else calls
        """Every call, in order."""
        self._name = name
        self._version = version

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> int | str:
        return self._version

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self._record("log_metrics", metrics=dict(metrics), step=step)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, metrics: Mapping[str, Any] | None = None, *args: Any, **kwargs: Any
    ) -> None:
        values = dict(vars(params)) if isinstance(params, Namespace) else dict(params)
        initial = {} if metrics is None else {"metrics": metrics}
        self._record("log_hyperparams", params=values, **initial, **kwargs)

    def attach(self, run: RunInfo) -> None:
        super().attach(run)
        self._record("attach", run=run)

    vars().update({verb: _recorder(verb) for verb in VERBS - _WRITTEN})

    def _record(self, verb: str, **arguments: Any) -> None:
        run_id = self.run_info.id if self.run_info is not None else None
        self.calls.append(Call(verb, arguments, self.context, run_id))

    # Reading

    @property
    def metrics(self) -> dict[str, list[Point]]:
        """Name → values, for the run that the logger is attached to."""
        return self.tracked().metrics

    @property
    def params(self) -> dict[str, Any]:
        """The hyperparameters of all calls, merged."""
        return self.tracked().params

    def tracked(self) -> Tracked:
        """Return the logged data, in the form for `LoggerContract.read_back`."""
        tracked = Tracked()
        run_id = self.run_info.id if self.run_info is not None else None
        for call in self.calls:
            if call.run_id == run_id:
                _read(call, tracked)
        return tracked


def _read(call: Call, tracked: Tracked) -> None:
    arguments = dict(call.arguments)
    step = arguments.get("step")
    if call.verb == "log_metrics":
        for name, value in arguments["metrics"].items():
            tracked.add_metric(name, step, value, call.context.time)
    elif call.verb == "log_hyperparams":
        tracked.params.update(arguments["params"])
        for name, value in arguments.get("metrics", {}).items():
            tracked.add_metric(name, 0, value, call.context.time)
    elif call.verb == "rewind":
        tracked.rewind(arguments["step"])
    elif call.verb == "log_tags":
        tracked.tags += arguments["tags"]
    elif call.verb == "finalize":
        tracked.status = arguments["status"]
    elif call.verb == "define_metric":
        tracked.add_item("define_metric", arguments["name"])
    elif call.verb in ("log_artifact", "log_checkpoint"):
        tracked.add_item(
            call.verb.removeprefix("log_"),
            str(arguments.get("name") or arguments["path"]).rpartition("/")[2],
            step,
            aliases=arguments.get("aliases", ()),
            score=arguments.get("score"),
        )
    elif call.verb.startswith("log_") and call.verb != "log_console":
        content = (arguments["columns"], arguments["data"]) if "columns" in arguments else None
        captions = arguments.get("caption") or [None]
        kind = call.verb.removeprefix("log_")
        for caption in captions:
            tracked.add_item(kind, arguments.get("key", kind), step, content, caption=caption)
