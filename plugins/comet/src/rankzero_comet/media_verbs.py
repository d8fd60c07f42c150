"""The verbs of `CometLogger` for pictures, tables, files and all else that is no number."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rankzero import Logger
from rankzero.media.encoders import as_table, histogram
from rankzero.media.store import MediaFile, MediaStore
from rankzero.values import to_jsonable
from rankzero_comet.files import (
    ASSET,
    HISTOGRAM,
    TEXT,
    Artifact,
    Upload,
    as_csv,
    as_histogram,
    exact,
    file_name,
    files_of,
    media_type,
)
from rankzero_comet.session import Session

_LARGEST_PAGE = 1_000_000  # bytes: plotly's figures bring all of plotly with them, and Comet shows all pages at once
_ANNOTATIONS = "annotations"  # Comet's layers of boxes and polygons, a list for each picture


class MediaVerbs(Logger):
    """Turns what anyone may log into files, and has a `Session` send them."""

    _session: Session
    _scratch: tempfile.TemporaryDirectory[str] | None = None  # files on their way that stand nowhere else

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_scratch": None}

    @property
    def media_store(self) -> MediaStore:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="rankzero-comet-")
        return MediaStore(Path(self._scratch.name))

    def _clear_scratch(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _write(self, content: bytes, suffix: str) -> Path:
        return self.media_store.directory / self.media_store.put_bytes((content, suffix)).path

    def _upload(self, path: Path, type: str, name: str, step: int | None, metadata: Mapping[str, Any]) -> None:
        details = {name: value for name, value in metadata.items() if value is not None}
        if self.run_info is not None:  # Comet shows when a file was uploaded
            details["logged_at"] = self.context.time
        context = self.context
        self._session.upload(Upload(path, type, name, step, context.epoch, details, context.line))

    # Media

    def log_image(
        self,
        key: str,
        images: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log pictures: tensors, arrays, PIL images or paths.

        Args:
            key: the name they share.
            images: the pictures.
            step: the step.
            caption: a text for each.
            **kwargs: ``annotations``: for each picture a list of Comet's layers of boxes and polygons.

        Raises:
            ValueError: there are annotations, but not for each picture.
        """
        annotations = kwargs.pop(_ANNOTATIONS, None)
        self._say_ignored("pictures", kwargs)
        files = self.as_files("image", images, caption)
        if annotations is not None and len(annotations) != len(files):
            raise ValueError(f"{len(files)} pictures of {key!r} were logged with {len(annotations)} annotations")
        layers = annotations or [None] * len(files)
        self._log_files("image", key, files, step, [{_ANNOTATIONS: to_jsonable(each)} for each in layers])

    def log_audio(
        self,
        key: str,
        audios: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        sample_rate: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._say_ignored("sounds", kwargs)
        self._log_files("audio", key, self.as_files("audio", audios, caption, sample_rate=sample_rate), step)

    def log_video(
        self,
        key: str,
        videos: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        fps: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._say_ignored("videos", kwargs)
        self._log_files("video", key, self.as_files("video", videos, caption, fps=fps), step)

    def log_figure(self, key: str, figure: Any, step: int | None = None, **kwargs: Any) -> None:
        """Log a matplotlib figure as a picture, a plotly figure or HTML as a file, which is shown if it is small."""
        self._say_ignored("figures", kwargs)
        (file,) = self.as_files("figure", [figure])
        self._log_files("figure", key, [file], step)
        path = Path(file.path)
        if path.suffix == ".html" and path.stat().st_size <= _LARGEST_PAGE:
            self._session.log_html(path.read_text(encoding="utf-8", errors="replace"), self.context)

    def _log_files(
        self,
        kind: str,
        key: str,
        files: Sequence[MediaFile],
        step: int | None,
        metadata: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        for index, file in enumerate(files):
            name = file_name(key, file, index if len(files) > 1 else None)
            details = {"caption": file.caption, **(metadata[index] if metadata else {})}
            self._upload(Path(file.path), media_type(kind, file), name, step, details)

    def _say_ignored(self, what: str, options: Mapping[str, Any]) -> None:
        for option in options:
            self.warner.warn(f"{what} {option}", f"Comet shows {what} without {option!r}, which is not logged")

    # Tables, texts, histograms, models

    def log_table(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log a table, given by columns and rows or as a dataframe; a picture in a cell becomes one of its own."""
        names, rows = as_table(columns, data, dataframe)
        plain = [
            [self._cell(f"{key}_{row}_{column}", cell, step) for column, cell in enumerate(cells)]
            for row, cells in enumerate(rows)
        ]
        self._upload(self._write(as_csv(names, plain), ".csv"), ASSET, f"{key}.csv", step, {})

    def _cell(self, key: str, cell: Any, step: int | None) -> Any:
        if not isinstance(cell, MediaFile) and not hasattr(cell, "savefig") and not hasattr(cell, "save"):
            plain = to_jsonable(cell)
            return json.dumps(plain, ensure_ascii=False) if isinstance(plain, list | dict) else plain
        (file,) = self.as_files("image", [cell])
        self._log_files("image", key, [file], step)
        return file_name(key, file, None)

    def log_text(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log a text as one of Comet's samples of text, several as a table."""
        names, rows = as_table(columns, data, dataframe)
        if len(names) == len(rows) == 1:
            path = self._write(str(rows[0][0]).encode(errors="replace"), ".txt")
            self._upload(path, TEXT, "text.txt", step, {"key": key})
        else:
            self.log_table(key, names, rows, step=step)

    def log_histogram(self, key: str, values: Any, step: int | None = None, bins: int = 64) -> None:
        """Log a distribution: in Comet's bins, which it draws, and as it was counted, in the file's metadata."""
        counted = histogram(values, bins)
        self._upload(self._write(as_histogram(counted), ".json"), HISTOGRAM, f"{key}.json", step, exact(counted))

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Log a model's structure, as it prints."""
        if isinstance(model, MediaFile):
            graph = json.loads(Path(model.path).read_bytes())
            self._session.set_graph(str(graph.get("text", "")))
            self._upload(Path(model.path), ASSET, "graph.json", None, {})
        else:
            self._session.set_graph(str(model))

    # Files

    def log_artifact(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Log a file or directory: with aliases as a version of an artifact, otherwise as assets of the experiment."""
        source = Path(path)
        called = name or source.name
        details = to_jsonable(metadata or {})
        if aliases:
            files = files_of(source) if source.is_dir() else {_with_suffix(called, source): source}
            self._session.log_artifact(
                Artifact(called, type or "file", tuple(aliases), {**details, **self._when()}, files, self.context.line)
            )
            return
        for relative, file in files_of(source).items():
            asset = f"{called}/{relative}" if source.is_dir() else _with_suffix(called, source)
            self._upload(file, ASSET, asset, None, {"type": type, **details})

    def log_checkpoint(
        self,
        path: str | os.PathLike[str],
        score: float | None = None,
        step: int | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Log a checkpoint as a version of the artifact ``model-EXPERIMENT_KEY``."""
        source = Path(path)
        details = {"score": score, "step": step, "original_filename": source.name, **(metadata or {}), **self._when()}
        files = files_of(source)
        if source.is_dir():
            files = {f"{source.name}/{relative}": file for relative, file in files.items()}
        name = self._checkpoint_artifact()
        made = Artifact(name, "model", tuple(aliases), to_jsonable(details), files, self.context.line)
        self._session.log_artifact(made)

    def download_checkpoint(self, alias: str = "best", directory: str | os.PathLike[str] | None = None) -> str:
        """Return the path of a local copy of the checkpoint that has an alias.

        Args:
            alias: ``best``, ``latest``, or one that `log_checkpoint` was given.
            directory: where to put it; a new temporary directory if not given.

        Raises:
            LookupError: no checkpoint of the run has this alias.
        """
        target = Path(tempfile.mkdtemp(prefix="rankzero-comet-") if directory is None else directory).resolve()
        target.mkdir(parents=True, exist_ok=True)
        first, *_ = self._session.download(self._checkpoint_artifact(), alias, target)
        return str(target / first.relative_to(target).parts[0])

    def _checkpoint_artifact(self) -> str:
        if self._session.key is None:
            _ = self._session.experiment  # which makes one up
        return f"model-{self._session.key}"

    def _when(self) -> dict[str, float]:
        return {} if self.run_info is None else {"logged_at": self.context.time}


def _with_suffix(name: str, source: Path) -> str:
    return name if name.endswith(source.suffix) else name + source.suffix
