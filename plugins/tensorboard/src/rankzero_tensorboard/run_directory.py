"""What a run's directory and its event files are called. TensorBoard shows a directory with event files as a run."""

from __future__ import annotations

import os
import re
import socket
import time
from itertools import count

from rankzero.events.run_info import RunInfo
from rankzero.files.directories import is_url

_GENERATED_ID_LENGTH = 32
_numbers = count()


def label(run: RunInfo) -> str:
    """Return the name of a run's directory."""
    # The end of a generated id, which is random; it begins with the date.
    return f"{_as_part(run.name)}-{run.id[-8:] if len(run.id) == _GENERATED_ID_LENGTH else run.id}"


def expand(path: str | os.PathLike[str]) -> str:
    """Return a path or URL with the values of ``~`` and ``$VAR``."""
    text = os.path.expandvars(os.fspath(path))
    return text if is_url(text) else os.path.expanduser(text)


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


def _as_part(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "run"
