"""rankzero: a training run logs once, to any tracker, and no tracker can slow it down, fail it or lose a value.

import rankzero

with rankzero.start("csv", project="digits", config={"lr": 1e-3}) as run:
    for step, batch in enumerate(loader):
        run.log_metrics({"train/loss": train_step(batch)}, step)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rankzero.loggers.aggregate import merge_dicts
from rankzero.loggers.base import Logger
from rankzero.loggers.experiment import DummyExperiment, rank_zero_experiment
from rankzero.processes import html_formatter as _html_formatter
from rankzero.rank import is_rank_zero, rank_zero_debug, rank_zero_info, rank_zero_only, rank_zero_warn

if TYPE_CHECKING:
    from rankzero.delivery.sync_job import deliver
    from rankzero.loggers.collection import DummyLogger, LoggerCollection
    from rankzero.loggers.csv.logger import CSVLogger
    from rankzero.plugins.hookspecs import hookimpl
    from rankzero.reader.run_data import RunData, read_run
    from rankzero.reader.runs import read_runs
    from rankzero.recorder.recorder import Recorder
    from rankzero.run.run import Run
    from rankzero.run.start import start

__version__ = "0.1.0"

__all__ = [
    "CSVLogger",
    "DummyExperiment",
    "DummyLogger",
    "Logger",
    "LoggerCollection",
    "Recorder",
    "Run",
    "RunData",
    "deliver",
    "hookimpl",
    "is_rank_zero",
    "merge_dicts",
    "rank_zero_debug",
    "rank_zero_experiment",
    "rank_zero_info",
    "rank_zero_only",
    "rank_zero_warn",
    "read_run",
    "read_runs",
    "start",
]

# Imported on first access, so that a plugin that imports only `Logger` does not pay for the rest.
_HOMES = {
    "CSVLogger": "loggers.csv.logger",
    "DummyLogger": "loggers.collection",
    "LoggerCollection": "loggers.collection",
    "Recorder": "recorder.recorder",
    "Run": "run.run",
    "RunData": "reader.run_data",
    "deliver": "delivery.sync_job",
    "hookimpl": "plugins.hookspecs",
    "read_run": "reader.run_data",
    "read_runs": "reader.runs",
    "start": "run.start",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from rankzero.messages import name_in_rankzero

        raise AttributeError(f"module 'rankzero' has no attribute {name!r}.{name_in_rankzero(name, __all__)}")
    value = getattr(importlib.import_module(f"rankzero.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def _as_html(shown: Any) -> str:
    """Return the HTML of a run for a notebook."""
    from rankzero.reader.page.notebook import as_html

    return as_html(shown)


def _show_runs_as_html() -> None:
    """Show runs in Jupyter as pages; their classes are named, so that they are not imported for it."""
    if formatter := _html_formatter():
        formatter.for_type_by_name("rankzero.run.run", "Run", _as_html)
        formatter.for_type_by_name("rankzero.reader.run_data", "RunData", _as_html)


_show_runs_as_html()
