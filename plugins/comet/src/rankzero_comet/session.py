"""One logger's connection to its experiment in Comet, which is opened when it is first used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rankzero.errors import ConfigError
from rankzero.events.run_info import LogContext, MetricsRow
from rankzero_comet.files import Artifact, Upload
from rankzero_comet.settings import Settings

CREATED_FROM = "rankzero"
"""What Comet shows under "Created from"."""


class Session(ABC):
    """Opens and ends an experiment, and writes to it.

    Args:
        settings: what the user said.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    # Identity

    @property
    @abstractmethod
    def key(self) -> str | None:
        """The experiment's key; None before there is one."""

    @property
    @abstractmethod
    def project(self) -> str | None:
        """The experiment's project; None for Comet's default."""

    @property
    @abstractmethod
    def url(self) -> str | None:
        """Where Comet shows the experiment; None before it was opened."""

    @property
    @abstractmethod
    def experiment(self) -> Any:
        """Comet's ``Experiment``."""

    # What is logged

    @abstractmethod
    def log_metrics(self, rows: Iterable[MetricsRow]) -> None:
        """Log numbers."""

    @abstractmethod
    def log_params(self, params: Mapping[str, Any], context: LogContext) -> None:
        """Log hyperparameters, nested as they are."""

    @abstractmethod
    def log_other(self, name: str, value: Any, context: LogContext) -> None:
        """Set a value under "Other"."""

    @abstractmethod
    def add_tags(self, tags: Sequence[str]) -> None:
        """Add tags."""

    @abstractmethod
    def upload(self, file: Upload) -> None:
        """Log a file."""

    @abstractmethod
    def log_html(self, html: str, context: LogContext) -> None:
        """Add to the page of HTML."""

    @abstractmethod
    def set_graph(self, graph: str) -> None:
        """Show a model's structure."""

    @abstractmethod
    def log_artifact(self, artifact: Artifact) -> None:
        """Make a version of an artifact."""

    @abstractmethod
    def download(self, artifact: str, alias: str, directory: Path) -> list[Path]:
        """Return the files of the version of an artifact that has an alias, written into a directory.

        Raises:
            LookupError: no version has it.
        """

    def log_console(self, text: str, stream: str, context: LogContext) -> None:
        """Log lines that the training process printed."""

    @abstractmethod
    def notify(self, title: str, text: str, level: str) -> None:
        """Have Comet send the user a message."""

    # Ended

    def wait(self) -> None:
        """Return when Comet has everything; raise if it has not."""

    @abstractmethod
    def end(self, status: str, context: LogContext) -> None:
        """Have Comet know how the run ended."""

    @abstractmethod
    def close(self) -> None:
        """Release everything."""


class NoSession(Session):
    """Keeps nothing: for a Run that stays offline, whose journal has everything, and for one that is switched off.

    Args:
        settings: what the user said.
        key: the experiment's key.
        project: its project.
    """

    def __init__(self, settings: Settings, key: str, project: str | None) -> None:
        super().__init__(settings)
        self._key, self._project = key, project

    @property
    def key(self) -> str | None:
        return self._key

    @property
    def project(self) -> str | None:
        return self._project

    @property
    def url(self) -> str | None:
        return None

    @property
    def experiment(self) -> Any:
        raise ConfigError("the run is not sent to Comet: there is no experiment")

    def log_metrics(self, rows: Iterable[MetricsRow]) -> None: ...

    def log_params(self, params: Mapping[str, Any], context: LogContext) -> None: ...

    def log_other(self, name: str, value: Any, context: LogContext) -> None: ...

    def add_tags(self, tags: Sequence[str]) -> None: ...

    def upload(self, file: Upload) -> None: ...

    def log_html(self, html: str, context: LogContext) -> None: ...

    def set_graph(self, graph: str) -> None: ...

    def log_artifact(self, artifact: Artifact) -> None: ...

    def download(self, artifact: str, alias: str, directory: Path) -> list[Path]:
        raise LookupError("the run is not sent to Comet: there are no artifacts")

    def notify(self, title: str, text: str, level: str) -> None: ...

    def end(self, status: str, context: LogContext) -> None: ...

    def close(self) -> None: ...
