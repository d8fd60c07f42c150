"""The verbs of `MLFlowLogger` for pictures, tables, files and all else that is no number."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rankzero import Logger
from rankzero.media.encoders import as_table, histogram
from rankzero.media.store import MediaFile, MediaStore
from rankzero.values import to_jsonable
from rankzero_mlflow.artifacts import Artifacts
from rankzero_mlflow.names import path_name


class MediaVerbs(Logger):
    """Turns what anyone may log into files, and has `Artifacts` keep them."""

    _scratch: tempfile.TemporaryDirectory[str] | None = None  # in direct use, what the last verb wrote

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_scratch": None}

    def _open_artifacts(self) -> Artifacts:
        raise NotImplementedError

    @property
    def _files(self) -> Artifacts:
        artifacts = self._open_artifacts()
        self._clear_scratch()  # what the last verb wrote is uploaded
        return artifacts

    @property
    def media_store(self) -> MediaStore:
        if self.run_info is not None:
            return super().media_store
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="rankzero-mlflow-")
        return MediaStore(Path(self._scratch.name))

    def _clear_scratch(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    # Media

    def log_image(
        self,
        key: str,
        images: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self._say_ignored("pictures", kwargs)
        self._files.log_images(key, self.as_files("image", images, caption), step, self.context)

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
        store, files = self._files, self.as_files("audio", audios, caption, sample_rate=sample_rate)
        store.log_files("audio", key, files, step, self.context)

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
        self._files.log_files("videos", key, self.as_files("video", videos, caption, fps=fps), step, self.context)

    def log_figure(self, key: str, figure: Any, step: int | None = None, **kwargs: Any) -> None:
        self._say_ignored("figures", kwargs)
        self._files.log_files("figures", key, self.as_files("figure", [figure]), step, self.context)

    def log_table(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        self._log_table("tables", key, *as_table(columns, data, dataframe), step)

    def _log_table(self, folder: str, key: str, names: list[str], rows: list[list[Any]], step: int | None) -> None:
        store, plain = self._files, [[self._cell(cell) for cell in row] for row in rows]
        store.log_table(f"{folder}/{path_name(key)}", names, plain, step, self.context)

    def _cell(self, cell: Any) -> Any:
        if isinstance(cell, MediaFile) or not hasattr(cell, "save"):
            return cell if isinstance(cell, MediaFile) else to_jsonable(cell)
        return self.as_files("image", [cell])[0]

    def log_text(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        names, rows = as_table(columns, data, dataframe)
        if len(names) == len(rows) == 1:
            self._files.log_text(key, str(rows[0][0]), step, self.context)
        else:
            self._log_table("texts", key, names, rows, step)

    def log_histogram(self, key: str, values: Any, step: int | None = None, bins: int = 64) -> None:
        self._files.log_histogram(key, histogram(values, bins), step, self.context)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        if isinstance(model, MediaFile):  # frameworks call it of their own accord
            self._files.log_graph(model)

    def _say_ignored(self, what: str, options: Mapping[str, Any]) -> None:
        for option in options:
            self.warner.warn(f"{what} {option}", f"MLflow shows {what} without {option!r}, which is not logged")

    # Files

    def log_artifact(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        details = {"type": type, "aliases": list(aliases), "metadata": to_jsonable(metadata or {})}
        given = {key: value for key, value in details.items() if value}
        self._files.log_artifact(os.fspath(path), name or Path(path).name, given)

    def log_checkpoint(
        self,
        path: str | os.PathLike[str],
        score: float | None = None,
        step: int | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        details = {"score": score, "step": step, "aliases": list(aliases), **(metadata or {})}
        self._files.log_checkpoint(os.fspath(path), step, aliases, to_jsonable(details))
