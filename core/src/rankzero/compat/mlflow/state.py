"""MLflow's data of an experiment, run or model that a journal cannot hold, such as tags that change.

They are in the file ``mlflow.jsonl`` of the directory. Several processes may append to it: MLflow's user interface can
rename a run during training.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes

from rankzero.config.resolving import find_runs_directory
from rankzero.journal.append import Journal
from rankzero.values import to_jsonable

STATE = "mlflow.jsonl"
ARTIFACTS = "artifacts"
MODELS = "mlflow-models"

_SCHEME = "rankzero:"
_FULL_DISK_TIMEOUT = 5.0  # seconds


def path_of(uri: str) -> Path:
    """Return the absolute path of a URI ``rankzero:PATH``; the configured directory for runs if there is no path.

    Raises:
        MlflowException: the URI names a host.
    """
    parts = urlsplit(uri)
    if parts.netloc:
        relative = f"{_SCHEME}{parts.netloc}{parts.path}"
        raise MlflowException(
            f"{uri} names the host {parts.netloc!r}, but runs are in a directory of this machine: write {relative} or "
            f"{_SCHEME}///PATH",
            codes.INVALID_PARAMETER_VALUE,
        )
    path = unquote(parts.path)
    return Path(os.path.abspath(os.path.expanduser(path))) if path else find_runs_directory()


def uri_of(path: Path) -> str:
    """Return the URI of an absolute path."""
    return _SCHEME + path.as_uri().removeprefix("file:")


class State:
    """Sections of keys and values in the file ``mlflow.jsonl`` of a directory.

    Each line is ``[section, key, value]``. The last line of a key counts; a value of null deletes the key.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / STATE
        self._size = 0
        self._sections: dict[str, dict[str, Any]] = {}

    def size(self) -> int:
        """Return the size of the file in bytes; 0 if there is none."""
        try:
            return os.stat(self._path).st_size
        except FileNotFoundError:
            return 0

    def __getitem__(self, section: str) -> Mapping[str, Any]:
        if (size := self.size()) != self._size:
            self._sections, self._size = self._read(), size
        return self._sections.get(section, {})

    def _read(self) -> dict[str, dict[str, Any]]:
        sections: dict[str, dict[str, Any]] = {}
        for line in self._path.read_bytes().split(b"\n"):
            try:
                section, key, value = msgspec.json.decode(line, type=tuple[str, str, Any])
            except msgspec.MsgspecError:  # an incomplete line
                continue
            values = sections.setdefault(section, {})
            values[key] = value
            if value is None:
                del values[key]
        return sections

    def set(self, section: str, values: Mapping[str, Any]) -> None:
        """Set keys of a section; None deletes a key.

        Raises:
            MlflowException: the file cannot be opened.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            journal = Journal(self._path)
        except OSError as error:
            raise MlflowException(f"{self._path} cannot be written: {error.strerror}") from error
        lines = (msgspec.json.encode([section, *each], enc_hook=to_jsonable) + b"\n" for each in values.items())
        journal.append(b"".join(lines))
        if not journal.flush(_FULL_DISK_TIMEOUT):
            journal.give_up()

    @property
    def is_deleted(self) -> bool:
        """Whether this was deleted; it can be restored."""
        return self["info"].get("stage") == "deleted"

    def delete_tag(self, key: str) -> None:
        """Delete a tag.

        Raises:
            MlflowException: there is no such tag.
        """
        if key not in self["tags"]:
            raise MlflowException(f"There is no tag {key!r}", codes.RESOURCE_DOES_NOT_EXIST)
        self.set("tags", {key: None})


def texts(pairs: Any) -> dict[str, str]:
    """Return MLflow's tags or parameters as key → text."""
    return {each.key: "" if each.value is None else str(each.value) for each in pairs or ()}
