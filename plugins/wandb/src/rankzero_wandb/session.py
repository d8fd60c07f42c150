"""One logger's connection to its run in W&B, which is opened when it is first used."""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from rankzero.events.run_info import LogContext
from rankzero.values import Number
from rankzero_wandb.failures import translated
from rankzero_wandb.opening import STEP
from rankzero_wandb.settings import Settings
from rankzero_wandb.summaries import Definition, Summaries

EXIT_CODES = {"success": 0, "finished": 0, "aborted": 255, "killed": 255}
"""What W&B is told of how a run ended; 1 for anything else."""

known_runs: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""The runs that loggers of this process write to, by their ids: W&B's client has a run open only once."""
our_runs: weakref.WeakSet[Any] = weakref.WeakSet()
"""Those of them that loggers have opened."""


class Session(ABC):
    """Opens and ends a run, and writes to it.

    Args:
        settings: what the user said of the run.
    """

    has_courier: ClassVar[bool]
    """Whether what is logged comes from a journal and must be acknowledged."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url: str | None = None
        """Where W&B shows the run, once it was opened."""
        self._begin()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._opening = threading.RLock()  # a courier that is a thread, and who uses the run meanwhile
        self._forget()

    def _forget(self) -> None:
        """Be as before the run was opened."""
        self._run: Any = None
        self._summaries = Summaries((), {})
        self._graphs: list[str] = []  # the models whose structure was logged, in order

    # Open

    @property
    @abstractmethod
    def id(self) -> str | None:
        """W&B's id of the run, None before it makes one up."""

    @property
    def is_open(self) -> bool:
        """Whether W&B's run has been opened."""
        return self._run is not None

    @property
    def run(self) -> Any:
        """W&B's run."""
        with self._opening:
            self._open_if_need_be()
            return self._run

    def _open_if_need_be(self, line: int = -1) -> None:
        with self._opening:
            if not self.is_open:
                self._open(line)
                known_runs[self._run.id] = self._run
                self.url = self._run.url or None

    @abstractmethod
    def _open(self, line: int) -> None:
        """Open the run; what comes first is from after this line of the journal."""

    # Rows

    def log(self, values: Mapping[str, Any], step: int | None, context: LogContext, *, has_files: bool = False) -> None:
        """Log a row."""
        has_step = step is not None and not self.settings.init.get("sync_tensorboard")
        self._log_row({**values, STEP: step} if has_step else dict(values), context, has_files)

    @abstractmethod
    def _log_row(self, row: dict[str, Any], context: LogContext, has_files: bool) -> None: ...

    @abstractmethod
    def summarise(self, values: Mapping[str, Number], context: LogContext) -> None:
        """Take the numbers of a row into the summaries."""

    def define(self, definition: Definition, line: int | None) -> None:
        """Say what is to be known of a metric."""
        self._open_if_need_be()
        self._summaries.define(definition)
        self._tell(definition)
        self.settle(line)

    def _tell(self, definition: Definition) -> None:
        self._run.define_metric(
            definition.name,
            step_metric=definition.step_metric,
            step_sync=True,
            summary=None if definition.kinds is None else "none",  # it is computed here
        )

    def _push_summaries(self) -> None:
        for name, summary in self._summaries.take_changed().items():
            self._run.summary[name] = summary

    # Settings and files

    def configure(self, params: dict[str, Any], line: int | None) -> None:
        """Add to the run's config."""
        self.run.config.update(params, allow_val_change=True)
        self.settle(line)

    def settle(self, line: int | None) -> None:
        """Note that a setting is on its way which stands in a line of the journal."""

    def log_artifact(self, artifact: Any, aliases: list[str]) -> None:
        """Log an artifact."""
        with translated("W&B has not taken an artifact"):
            self.expect_artifact(self.run.log_artifact(artifact, aliases=aliases))

    def expect_table(self, table: Any) -> None:
        """Note that the artifact which W&B's client makes of a table, with the pictures in its cells, is on its way."""
        if (target := table._artifact_target) is not None:
            self.expect_artifact(target.artifact)

    def expect_artifact(self, artifact: Any) -> None:
        """Note that an artifact is on its way."""

    def log_graph(self, name: str, graph: Any) -> None:
        """Log a model's structure, once for each ``name``."""
        run = self.run
        if name not in self._graphs:
            self._graphs.append(name)
        run.summary[f"graph_{self._graphs.index(name)}"] = graph
        self.expect_files()

    def expect_files(self) -> None:
        """Note that media are on their way."""

    def is_new(self, line: int | None) -> bool:
        """Return whether what a line of the journal says was not handed over to this opening of the run before."""
        return True

    # Ended

    def wait(self) -> None:
        """Wait until W&B has everything, where that must be known."""

    @abstractmethod
    def end(self, status: str, line: int | None) -> None:
        """Have W&B know how the run ended, which a line of the journal says."""

    @abstractmethod
    def close(self) -> None:
        """Release everything; a run that is used directly has ended then."""
