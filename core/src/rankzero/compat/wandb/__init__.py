"""A module with the API of the package ``wandb``, whose runs are delivered to any tracker.

Import it in place of ``wandb``, or call `install` once, before the first ``import wandb``: then scripts and frameworks
that import ``wandb`` get this module. The environment variable ``RANKZERO_INTEGRATIONS=wandb`` does the same.
"""

from __future__ import annotations

import functools
import sys
import uuid
from collections.abc import Callable, Iterator
from enum import Enum
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from rankzero.compat.wandb import charts, runs
from rankzero.compat.wandb.artifact import Artifact
from rankzero.compat.wandb.charts import plot_table
from rankzero.compat.wandb.mappings import CommError, Config, ConfigError, Error, Summary, UsageError, refuse
from rankzero.compat.wandb.media import Audio, Classes, Histogram, Html, Image, Object3D, Plotly, Table, Video
from rankzero.compat.wandb.runs import Run, Settings, init
from rankzero.errors import PluginError
from rankzero.messages import did_you_mean, warn_user

__version__ = "0.31.0"  # of the package with this API
__all__ = [
    "AlertLevel", "Artifact", "Audio", "Classes", "CommError", "Config", "Error", "Histogram", "Html", "Image",
    "JoinedTable", "Object3D", "Plotly", "Run", "Settings", "Summary", "Table", "UsageError", "Video", "alert",
    "config", "define_metric", "finish", "init", "install", "log", "log_artifact", "log_model", "login",
    "mark_preempting", "plot_table", "run", "save", "setup", "summary", "teardown", "unwatch", "use_artifact", "watch",
]  # fmt: skip


class AlertLevel(Enum):
    """How urgent an alert is."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


# Functions of the current run


def _of_run(name: str) -> Callable[..., Any]:
    """Return a function that calls a method of the current run."""

    @functools.wraps(getattr(Run, name))
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(runs.started(f"{name}()"), name)(*args, **kwargs)

    return call


log = _of_run("log")
define_metric = _of_run("define_metric")
watch = _of_run("watch")
unwatch = _of_run("unwatch")
save = _of_run("save")
alert = _of_run("alert")
log_artifact = _of_run("log_artifact")
log_model = _of_run("log_model")
use_artifact = _of_run("use_artifact")
mark_preempting = _of_run("mark_preempting")


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """End the current run, if there is one."""
    if runs.current is not None:
        runs.current.finish(exit_code)


teardown = join = finish


# Functions without a server


def login(*_: Any, **__: Any) -> bool:
    """Return True: each logger checks its own login when a run begins."""
    return True


def setup(*_: Any, **__: Any) -> None:
    """Do nothing."""


require = termlog = setup


def termwarn(string: str, *_: Any, **__: Any) -> None:
    """Warn the user."""
    warn_user(string)


termerror = termwarn


def generate_id(length: int = 8) -> str:
    """Return a new id for a run."""
    return uuid.uuid4().hex[:length]


def JoinedTable(*_: Any, **__: Any) -> None:
    """Do nothing, with a warning: only W&B joins tables."""
    warn_user("rankzero.compat.wandb logs no JoinedTable; log the two tables")


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refused(*_: Any, **__: Any) -> NoReturn:
        raise runs.refusal(f"{name}()")

    return refused


Api, sweep, agent, restore, controller = map(_refusal, ("Api", "sweep", "agent", "restore", "controller"))


def __getattr__(name: str) -> Any:
    if name == "run":
        return runs.current
    if name in ("config", "summary"):
        if runs.current is None:
            raise AttributeError(f"call wandb.init() before wandb.{name}")
        return getattr(runs.current, name)
    raise AttributeError(
        f"rankzero.compat.wandb has no {name!r}.{did_you_mean(name, __all__)} It covers init, log, config, summary, "
        "media, tables, artifacts, files, watch and alert; ask for more in rankzero's issue tracker"
    )


# Replacing the package


def _module(name: str, **members: Any) -> ModuleType:
    made = ModuleType(f"wandb.{name}")
    vars(made).update(members, __getattr__=functools.partial(refuse, name, members))
    return made


util = _module("util", generate_id=generate_id)
errors = _module("errors", Error=Error, UsageError=UsageError, CommError=CommError)
data_types = _module(
    "data_types", Audio=Audio, Classes=Classes, Histogram=Histogram, Html=Html, Image=Image, JoinedTable=JoinedTable,
    Object3D=Object3D, Plotly=Plotly, Table=Table, Video=Video,
)  # fmt: skip
_CHARTS = (
    "bar", "confusion_matrix", "histogram", "line", "line_series", "plot_table", "pr_curve", "roc_curve", "scatter",
)  # fmt: skip
plot = _module("plot", **{name: getattr(charts, name) for name in _CHARTS})
wandb_run = _module("wandb_run", Run=Run)
_config_util = _module("sdk.lib.config_util", ConfigError=ConfigError)
_lib = _module("sdk.lib", config_util=_config_util)
_sdk_run = _module("sdk.wandb_run", Run=Run)
sdk = wandb_sdk = _module("sdk", lib=_lib, wandb_run=_sdk_run)
_SUBMODULES = (util, errors, data_types, plot, wandb_run, sdk, _lib, _config_util, _sdk_run)


def install(**settings: Any) -> None:
    """Make ``import wandb`` import this module, in this process.

    Args:
        **settings: arguments of `rankzero.start` for all runs, such as ``loggers``; they have precedence.

    Raises:
        PluginError: the package ``wandb`` is imported already.
    """
    if sys.modules.get("wandb", sys.modules[__name__]) is not sys.modules[__name__]:
        raise PluginError("the package wandb is imported already; call rankzero.compat.wandb.install() before")
    replace()
    runs.start_settings.update(settings)


def replace(*_: Any) -> None:
    """Replace the package, whose import may have begun."""
    sys.modules["wandb"] = sys.modules[__name__]
    sys.modules.update({each.__name__: each for each in _SUBMODULES})
    if not any(isinstance(each, _Package) for each in sys.meta_path):
        sys.meta_path.insert(0, _Package())


class _Package(DistributionFinder):
    """Finds the replaced package: its version, and none of its modules."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.startswith("wandb."):
            raise ModuleNotFoundError(f"rankzero.compat.wandb has no module {name!r}", name=name)

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterator[Distribution]:
        """Yield the package if it is searched for by name."""
        if context is not None and context.name == "wandb":
            yield _Distribution()


class _Distribution(Distribution):
    def read_text(self, filename: str) -> str | None:
        return f"Name: wandb\nVersion: {__version__}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        return Path(__file__).with_name(str(path))
