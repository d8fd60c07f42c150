"""``hparams.yaml``: the hyperparameters in a directory, including those of earlier processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rankzero.errors import NotAFileError
from rankzero.files.directories import Place, replace_file, set_aside
from rankzero.files.writing import read_own
from rankzero.values import to_jsonable

NAME = "hparams.yaml"


class HparamsFile:
    """The file in a directory; an unreadable file is renamed."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.values: dict[str, Any] = self._read()
        """The hyperparameters as nested JSON values."""

    def add(self, values: Mapping[str, Any]) -> None:
        """Add hyperparameters, and write all to the file."""
        import yaml

        self.values.update(to_jsonable(values))
        text: str = yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True)
        replace_file(self._place, NAME, text.encode())

    def _read(self) -> dict[str, Any]:
        self._place.pull(NAME)
        path = self._place.path / NAME
        if not os.path.lexists(path):
            return {}
        import yaml

        try:
            read = yaml.safe_load(read_own(path).decode())
        except (yaml.YAMLError, UnicodeDecodeError, NotAFileError):
            read = None
        if isinstance(read, dict):
            return read
        self._place.push(set_aside(path).name)
        return {}
