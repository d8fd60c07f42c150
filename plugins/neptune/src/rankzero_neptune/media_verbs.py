"""The verbs of `NeptuneLogger` for pictures, tables, files and all else that is no number."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rankzero.loggers.base import Logger
from rankzero.media.encoders import as_table, histogram
from rankzero.media.store import MediaFile, MediaStore
from rankzero.values import to_json_number, to_jsonable
from rankzero_neptune.checkpoints import Checkpoints, Details, upload
from rankzero_neptune.paths import joined, named
from rankzero_neptune.points import Point, milliseconds
from rankzero_neptune.session import Picture, Session
from rankzero_neptune.values import LONGEST_TEXT


class MediaVerbs(Logger):
    """Turns what anyone may log into what Neptune has types for, or into files."""

    _session: Session
    _checkpoints: Checkpoints
    _prefix: str
    _scratch: str | None = None
    _last_time = 0  # of a file without a step

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_scratch": None}

    def _path(self, key: str, *parts: str) -> str:
        return joined(named(self._prefix, key), *parts)

    def _at(self, step: int | None) -> str:
        """Return the last part of the path of a file; without a step, one for each event."""
        if step is not None:
            return f"step_{step}"
        line = self.context.line
        if line is None:
            self._last_time = max(self._last_time + 1, milliseconds(self.context.time))
        return f"no_step_{self._last_time if line is None else line}"

    # Files that are written here

    @property
    def media_store(self) -> MediaStore:
        return MediaStore(Path(self._scratch)) if self._scratch is not None else super().media_store

    @contextmanager
    def _scratched(self) -> Iterator[None]:
        """Have files that are made in direct use deleted at once: the session has copied them."""
        if self.run_info is not None:
            yield
            return
        with tempfile.TemporaryDirectory(prefix="rankzero-neptune-") as self._scratch:
            try:
                yield
            finally:
                self._scratch = None

    def _upload_bytes(self, path: str, data: bytes, suffix: str) -> None:
        store = self.media_store
        self._session.upload(path, str(store.directory.absolute() / store.put_bytes((data, suffix)).path))

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
        with self._scratched():
            self._log_pictures(key, self.as_files("image", images, caption), step)

    def log_figure(self, key: str, figure: Any, step: int | None = None, **kwargs: Any) -> None:
        self._say_ignored("figures", kwargs)
        with self._scratched():
            files = self.as_files("figure", [figure])
            if Path(files[0]).suffix == ".png":
                self._log_pictures(key, files, step)
            else:
                self._log_files(key, files, step)

    def _log_pictures(self, key: str, files: Sequence[MediaFile], step: int | None) -> None:
        time = milliseconds(self.context.time)
        for index, file in enumerate(files):
            picture = Picture(file.path, file.caption, None if step is None else float(step), time)
            self._session.log_picture(self._path(key) + (f"_{index + 1}" if index else ""), picture)

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
        with self._scratched():
            self._log_files(key, self.as_files("audio", audios, caption, sample_rate=sample_rate), step)

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
        with self._scratched():
            self._log_files(key, self.as_files("video", videos, caption, fps=fps), step)

    def _log_files(self, key: str, files: Sequence[MediaFile], step: int | None) -> None:
        at = self._at(step)
        for index, file in enumerate(files):
            path = self._path(key, at + (f"_{index + 1}" if index else ""))
            self._session.upload(path, file.path)
            if file.caption:
                self._session.assign(f"{path}_caption", file.caption)

    def _say_ignored(self, what: str, options: Mapping[str, Any]) -> None:
        for option in options:
            self.warner.warn(f"{what} {option}", f"Neptune shows {what} without {option!r}, which is not logged")

    # Tables, texts, histograms, graphs

    def log_table(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        names, rows = as_table(columns, data, dataframe)
        path = self._path(key, self._at(step))
        with self._scratched():
            plain = [
                [self._cell(cell, f"{path}_cells/{row}_{column}") for column, cell in enumerate(cells)]
                for row, cells in enumerate(rows)
            ]
            self._upload_bytes(path, _as_csv(names, plain).encode(), ".csv")

    def _cell(self, cell: Any, path: str) -> Any:
        if not isinstance(cell, MediaFile) and not hasattr(cell, "save"):
            return to_jsonable(cell)
        self._session.upload(path, self.as_files("image", [cell])[0].path)
        return path

    def log_text(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        names, rows = as_table(columns, data, dataframe)
        text = str(rows[0][0]) if len(names) == len(rows) == 1 else _as_csv(names, rows)
        self._log_word(key, text, step)

    def _log_word(self, key: str, text: str, step: int | None) -> None:
        point = Point(text[:LONGEST_TEXT], None if step is None else float(step), milliseconds(self.context.time))
        self._session.log_points(self._path(key), [point])
        if len(text) > LONGEST_TEXT:
            whole = f"{self._path(key)}_whole/{self._at(step)}"
            self.warner.warn(
                f"long {key}", f"Neptune takes 1,000 characters in a series; {key!r} is whole in {whole!r}"
            )
            with self._scratched():
                self._upload_bytes(whole, text.encode(), ".txt")

    def log_histogram(self, key: str, values: Any, step: int | None = None, bins: int = 64) -> None:
        found = histogram(values, bins)
        rows = zip(found.edges[:-1], found.edges[1:], found.counts, strict=True)
        with self._scratched():
            self._upload_bytes(self._path(key, self._at(step)), _as_csv(["from", "to", "count"], rows).encode(), ".csv")

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        if isinstance(model, MediaFile):  # frameworks call it of their own accord
            self._session.upload(self._path("model/graph"), self.as_files("figure", [model])[0].path)

    # Files

    def log_artifact(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        source = os.fspath(path)
        where = self._path("artifacts", name or Path(source).name)
        upload(self._session, source, f"{where}/{'files' if os.path.isdir(source) else 'file'}")
        if type:
            self._session.assign(f"{where}/type", type)
        self._session.add_strings(f"{where}/aliases", aliases)
        self._assign_all(f"{where}/metadata", metadata or {})

    def log_checkpoint(
        self,
        path: str | os.PathLike[str],
        score: float | None = None,
        step: int | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        known = to_json_number(score) if score is not None else None
        details = Details(
            Path(path).name,
            score=None if known is None or isinstance(known, str) else float(known),
            step=step,
            aliases=list(aliases),
            metadata=to_jsonable(metadata or {}),
            source=os.path.abspath(path) if self.run_info is None else "",
        )
        self._checkpoints.log(os.fspath(path), details)

    def download_checkpoint(self, alias: str = "best", directory: str | os.PathLike[str] | None = None) -> str:
        """Return the path of a local copy of the checkpoint that has an alias.

        Args:
            alias: ``best``, ``latest``, or one that `log_checkpoint` was given.
            directory: where to put it; a new temporary directory if not given.

        Raises:
            LookupError: no checkpoint of the run has this alias.
        """
        self.note_use()
        return self._checkpoints.download(alias, directory)

    def _assign_all(self, path: str, values: Mapping[str, Any]) -> None:
        raise NotImplementedError


def _as_csv(names: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([names, *rows])
    return text.getvalue()
