"""Read runs of MLflow's file store, ``mlruns``, without its client; files may be damaged or missing."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rankzero.files.writing import open_own
from rankzero.importers.base import Report
from rankzero_mlflow.importing.artifacts import Folder, LocalFolder
from rankzero_mlflow.importing.points import Point
from rankzero_mlflow.importing.run import Content, Details, MlflowRun

_RUN = re.compile("[0-9a-f]{32}")
_STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_LARGEST_TEXT = 1 << 20
TRASH = ".trash"
"""The directory of deleted experiments."""


class FileStores:
    """Reads data that several runs share, once."""

    def __init__(self) -> None:
        self.experiment = functools.cache(_experiment)
        self.versions = functools.cache(_versions)


class FileRun(MlflowRun):
    """A run's directory, ``mlruns/EXPERIMENT/RUN``."""

    def __init__(self, directory: Path, stores: FileStores) -> None:
        meta = read_meta(directory)
        is_deleted = meta.get("lifecycle_stage") == "deleted" or TRASH in directory.parts[-3:]
        self._is_described = isinstance(meta.get("status"), int)
        if not self._is_described:
            meta = {}  # in a truncated file the last value may be truncated, too
        name, started = meta.get("run_name"), meta.get("start_time")
        details = Details(
            id=directory.name,
            name=name if isinstance(name, str) else "",
            project=stores.experiment(directory.parent),
            status=_STATUSES.get(meta.get("status", 0), ""),
            started=started if isinstance(started, int) else _first_time(directory),
            ended=meta.get("end_time"),
        )
        super().__init__(details, str(directory))
        self.is_deleted = is_deleted
        self._dir = directory
        self._stores = stores
        self.ended_at = {}

    @property
    def size(self) -> int:  # type: ignore[override]
        """The number of bytes of metrics and artifacts."""
        paths = [path for part in ("metrics", "artifacts") for path in _files_in(self._dir / part).values()]
        return sum(path.stat().st_size for path in paths if path.is_file())

    def read(self) -> Content:
        content = Content(
            datasets=[self._dataset(read_meta(each)) for each in _directories(self._dir / "inputs")],
            versions=self._stores.versions(self._dir.parent.parent).get(self._dir.name, []),
        )
        if not self._is_described:
            damage = "damaged" if (self._dir / "meta.yaml").exists() else "missing"
            content.leave_out("meta.yaml", f"it is {damage}, so it is not known how and when the run ended")
        content.params = _texts(self._dir / "params", content.leave_out)
        content.tags = _texts(self._dir / "tags", content.leave_out)
        content.artifacts = self._folder(self._dir, content)
        for output in _directories(self._dir / "outputs"):
            directory = self._dir.parent / "models" / output.name
            if (folder := self._folder(directory, content)) is not None:
                folder.name, folder.model_id = str(read_meta(directory).get("name") or output.name), output.name
                params = _texts(directory / "params", content.leave_out)
                folder.metadata = {"model_id": output.name, "params": params}
                content.models.append(folder)
        return content

    def _folder(self, parent: Path, content: Content) -> Folder | None:
        if (directory := parent / "artifacts").is_symlink():
            content.leave_out("artifacts", f"{directory} is a link")
        elif directory.is_dir():
            return LocalFolder(directory=directory)
        return None

    def _dataset(self, used: Mapping[str, Any]) -> dict[str, str]:
        source = str(used.get("source_id"))
        dataset = read_meta(self._dir.parent / "datasets" / source) if _RUN.fullmatch(source) else {}
        tags = used.get("tags")
        context = tags.get("mlflow.data.context") if isinstance(tags, dict) else None
        return {name: str(value) for name, value in {**dataset, "context": context}.items() if value is not None}

    def can_resume(self, known: Any) -> bool:
        paths = _files_in(self._dir / "metrics")
        return isinstance(known, dict) and all(
            name in paths and paths[name].stat().st_size >= offset for name, offset in known.items()
        )

    def points(self, known: Any, report: Report) -> Iterator[Point]:
        self.ended_at = dict(known or {})
        metrics = _files_in(self._dir / "metrics")
        for name, path in metrics.items():
            yield from self._metric(name, path, report)

    def _metric(self, name: str, path: Path, report: Report) -> Iterator[Point]:
        for line in self._lines(name, path, report):
            try:
                time, value, *rest = line.split()
                yield int(time), int(rest[0]) if len(rest) == 1 else 0, name, float(value)
            except ValueError:
                if line.strip():
                    report.leave_out(name, "a line of its file is damaged")

    def _lines(self, name: str, path: Path, report: Report) -> Iterator[bytes]:
        """Yield the complete lines after the last import."""
        offset = self.ended_at.get(name, 0)
        try:
            with open_own(path) as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        report.leave_out(name, "the last line of its file is incomplete")
                        break
                    offset += len(line)
                    yield line
        except OSError as error:
            report.leave_out(name, str(error.strerror or error))
        report.progress(offset - self.ended_at.get(name, 0))
        self.ended_at[name] = offset


def read_meta(directory: Path) -> dict[str, Any]:
    """Return the content of ``meta.yaml``; an empty dictionary if it is damaged or missing."""
    import yaml

    try:
        content = yaml.safe_load(_text(directory / "meta.yaml"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _experiment(directory: Path) -> str | None:
    name = read_meta(directory).get("name")
    return name if isinstance(name, str) else None


def _versions(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Return run → versions of registered models."""
    found: dict[str, list[dict[str, Any]]] = {}
    for model in _directories(root / "models"):
        aliases = _texts(model / "aliases", lambda what, why: None)
        for directory in _directories(model):
            meta = read_meta(directory)
            version = str(meta.get("version"))
            names = [alias for alias, of in aliases.items() if of == version]
            about = {"name": model.name, "version": version, "aliases": names, "source": str(meta.get("source"))}
            if "run_id" in meta:
                found.setdefault(str(meta["run_id"]), []).append(about)
    return found


def _first_time(run: Path) -> int | None:
    """Return the time of the first point in milliseconds, or else of the oldest file."""
    times = []
    for path in _files_in(run / "metrics").values():
        try:
            times.append(int(_text(path).split(maxsplit=1)[0]))
        except (OSError, ValueError, IndexError):
            continue
    if not times:
        times = [int(path.lstat().st_mtime * 1000) for path in _files_in(run).values()]
    return min(times, default=None)


def _directories(directory: Path) -> list[Path]:
    try:
        return sorted(each for each in directory.iterdir() if each.is_dir())
    except OSError:
        return []


def _files_in(directory: Path) -> dict[str, Path]:
    """Return name → path of the files below a directory, unless it is a link; a name may contain ``/``."""
    found: dict[str, Path] = {}
    if directory.is_symlink():
        return found
    for top, _, names in os.walk(directory):
        for name in names:
            path = Path(top, name)
            found[path.relative_to(directory).as_posix()] = path
    return dict(sorted(found.items()))


def _texts(directory: Path, leave_out: Callable[[str, str], None]) -> dict[str, str]:
    texts = {}
    for name, path in _files_in(directory).items():
        try:
            texts[name] = _text(path)
        except OSError as error:
            leave_out(f"{directory.name}/{name}", str(error.strerror or error))
    return texts


def _text(path: Path) -> str:
    with open_own(path) as file:  # a link may lead anywhere
        return file.read(_LARGEST_TEXT).decode(errors="replace")
