"""`Artifact`: files with one name, collected until the artifact is logged."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rankzero.compat.wandb.mappings import Named, UsageError
from rankzero.compat.wandb.media import Classes, Media, Table
from rankzero.files.writing import inside
from rankzero.media.store import MediaStore
from rankzero.messages import describe, warn_user


class Artifact(Named):
    """Files with one name: a directory of links, or of copies if links are impossible."""

    def __init__(
        self, name: str, type: str, description: str | None = None, metadata: dict[str, Any] | None = None, **_: Any
    ) -> None:
        self.name, self.type, self.description = name, type, description
        self.metadata = dict(metadata or {})
        self.aliases: list[str] = []
        self.version = "latest"  # couriers deliver it later, and each tracker has its own numbers
        self.directory = Path(tempfile.mkdtemp(prefix="rankzero-artifact-"))
        weakref.finalize(self, shutil.rmtree, self.directory, ignore_errors=True)

    def add_file(self, local_path: str | os.PathLike[str], name: str | None = None, *_: Any, **__: Any) -> None:
        """Add a file, which may be deleted afterwards."""
        if not os.path.isfile(local_path):
            raise ValueError(f"{os.fspath(local_path)} is not a file")
        target = self._new(name or Path(local_path).name)
        try:
            os.link(os.path.realpath(local_path), target)
        except OSError:
            try:
                shutil.copy2(local_path, target)
            except OSError as error:  # a full disk must not end the training
                warn_user(f"{os.fspath(local_path)} is not in the artifact {self.name}: {describe(error)}")

    def add_dir(self, local_path: str | os.PathLike[str], name: str | None = None, *_: Any, **__: Any) -> None:
        """Add the files in a directory."""
        for path in Path(local_path).rglob("*"):
            if path.is_file():
                self.add_file(path, Path(name or "", path.relative_to(local_path)).as_posix())

    @contextmanager
    def new_file(self, name: str, mode: str = "x", encoding: str | None = None) -> Iterator[IO[Any]]:
        """Open a new file of the artifact for writing."""
        with open(self._new(name), mode, encoding=encoding) as file:
            yield file

    def add(self, obj: Any, name: str, *_: Any, **__: Any) -> None:
        """Add a table or media as a file."""
        if obj is None:  # a JoinedTable
            return
        store = MediaStore(self.directory)
        if isinstance(obj, Table):
            path, suffix = self.directory / store.table(*obj.written(store)).path, ".table.json"
        elif isinstance(obj, Classes):
            self._new(f"{name}.classes.json").write_text(json.dumps({"_type": "classes", "class_set": obj}))
            return
        elif isinstance(obj, Media):
            path = Path(obj.stored(store).path)
            suffix = "" if Path(name).suffix else path.suffix
        else:
            raise UsageError(f"an artifact accepts files, tables and media, not {type(obj).__name__}")
        os.replace(path, self._new(name + suffix))

    def add_reference(self, uri: str | os.PathLike[str], name: str | None = None, *_: Any, **__: Any) -> None:
        """Add the URI of external data to the metadata."""
        self.metadata.setdefault("references", {})[name or str(uri)] = str(uri)

    def wait(self, timeout: float | None = None) -> Artifact:
        """Return at once: couriers deliver the artifact."""
        return self

    def _new(self, name: str) -> Path:
        path = inside(self.directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return path
