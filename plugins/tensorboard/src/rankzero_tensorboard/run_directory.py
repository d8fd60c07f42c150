"""Where a run's files are, and what they are called. TensorBoard shows a directory with event files as a run."""

from __future__ import annotations

import os
import re
import socket
import time
from itertools import count

from rankzero.logger import RunInfo
from rankzero.places import is_url, next_version

DEFAULT_NAME = "lightning_logs"

_GENERATED_ID_LENGTH = 32
_numbers = count()


class RunDirectory:
    """The directory ``save_dir/name/version/sub_dir`` of one logger.

    Args:
        save_dir: with ``~`` and ``$VAR``; else ``tensorboard`` beside the runs, or without a run the working directory.
        name: `DEFAULT_NAME` stands for the name of the run's project.
        version: else the run's name and id, or without a run the next free number.
        sub_dir: below the version's.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None,
        name: str | None,
        version: int | str | None,
        sub_dir: str | os.PathLike[str] | None,
    ) -> None:
        self._save_dir = None if save_dir is None else _expand(save_dir)
        self._name = name or ""
        self._version = version
        self._next_version: int | None = None
        self.sub_dir = None if sub_dir is None else os.fspath(sub_dir)
        self.run: RunInfo | None = None

    @property
    def name(self) -> str:
        """The directory of the versions, below ``save_dir``; perhaps empty."""
        return self.run.project if self.run is not None and self._name == DEFAULT_NAME else self._name

    @property
    def version(self) -> int | str:
        """A number N for ``version_N``, or the directory's name."""
        if self._version is not None:
            return self._version
        if self.run is not None:
            return _label(self.run)
        if self._next_version is None:
            self._next_version = next_version(self.root_dir)
        return self._next_version

    @property
    def save_dir(self) -> str:
        """The directory of everything."""
        if self._save_dir is not None:
            return self._save_dir
        return os.getcwd() if self.run is None else os.path.join(self.run.runs_dir, "tensorboard")

    @property
    def root_dir(self) -> str:
        """The directory of all versions."""
        return _expand(os.path.join(self.save_dir, self.name))

    @property
    def path(self) -> str:
        """The directory itself, or its URL."""
        version = self.version
        last = version if isinstance(version, str) else f"version_{version}"
        return _expand(os.path.join(self.root_dir, last, *filter(None, [self.sub_dir])))


def event_file_of(run: RunInfo) -> str:
    """Return the name of the event file that a courier writes; any courier of this run continues it."""
    return f"{_beginning(run.started)}.{_as_part(run.id)}.values"


def joined_event_file_of(run: RunInfo) -> str:
    """Return the name of the event file that this process writes beside a courier.

    It sorts before the courier's: without its data server TensorBoard follows no file but the last.
    """
    return f"{_beginning(run.started)}.{_as_part(run.id)}.experiment.{_new()}"


def new_event_file() -> str:
    """Return a name that no other event file has."""
    return f"{_beginning(time.time())}.{_new()}"


def _beginning(began: float) -> str:
    return f"events.out.tfevents.{int(began):010}"


def _new() -> str:
    return f"{socket.gethostname()}.{os.getpid()}.{next(_numbers):04}"  # they sort by age


def _label(run: RunInfo) -> str:
    # The end of a generated id, which is random; it begins with the date.
    return f"{_as_part(run.name)}-{run.id[-8:] if len(run.id) == _GENERATED_ID_LENGTH else run.id}"


def _as_part(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "run"


def _expand(path: str | os.PathLike[str]) -> str:
    text = os.path.expandvars(os.fspath(path))
    return text if is_url(text) else os.path.expanduser(text)
