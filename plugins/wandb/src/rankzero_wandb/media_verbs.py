"""The verbs of `WandbLogger` for pictures, tables, files and all else that is no number."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rankzero import Logger
from rankzero.media.encoders import as_table, histogram
from rankzero.media.store import MediaFile
from rankzero.values import to_jsonable
from rankzero_wandb import media
from rankzero_wandb.artifacts import artifact_name, checkpoint_artifact, file_artifact, without_latest
from rankzero_wandb.session import Session

_NOT_LIGHTNINGS = ("dirpath", "every_n_epochs")  # of a ModelCheckpoint, but not what Lightning's logger keeps
_SETTINGS_OF_CALLBACK = "save_top_k"  # what the metadata of a ModelCheckpoint have


class MediaVerbs(Logger):
    """Turns what anyone may log into W&B's own types."""

    _session: Session
    _checkpoint_name: str | None = None
    add_file_policy: Literal["mutable", "immutable"] = "mutable"

    # Media

    def log_image(
        self,
        key: str,
        images: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log pictures.

        Args:
            key: the name they share.
            images: tensors, arrays, PIL images or paths.
            step: the step.
            caption: a text for each.
            **kwargs: a list each, with an entry for each picture: ``masks``, ``boxes``, ``classes``, ``file_type``, …

        Raises:
            TypeError: ``images`` is no list.
            ValueError: another argument has not one entry for each picture.
        """
        self._log_media(key, media.image, images, step, {"caption": caption, **kwargs})

    def log_audio(
        self,
        key: str,
        audios: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        sample_rate: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log sounds: paths, or samples with their ``sample_rate`` in Hz, one for all or a list."""
        if not all(isinstance(each, str | os.PathLike | MediaFile) or media.is_native(each) for each in audios):
            audios = self.as_files("audio", audios, sample_rate=media.one_of(sample_rate))
        self._log_media(key, media.audio, audios, step, {"caption": caption, "sample_rate": sample_rate, **kwargs})

    def log_video(
        self,
        key: str,
        videos: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        fps: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log videos: paths, or frames (T, H, W, C) with their frames per second, one for all or a list."""
        if not all(isinstance(each, str | os.PathLike | MediaFile) or media.is_native(each) for each in videos):
            videos = self.as_files("video", videos, fps=media.one_of(fps))  # moviepy is not needed
        self._log_media(key, media.video, videos, step, {"caption": caption, "fps": fps, **kwargs})

    def log_pointcloud(
        self, /, key: str, points: Any, step: int | None = None, caption: Sequence[str] | None = None, **extra: Any
    ) -> None:
        """Log clouds of points as ``wandb.Object3D``; categories are numbers from 1 to 14."""
        files = self.as_files("pointcloud", points, caption)
        self._log_media(key, _pointcloud, files, step, {"caption": [file.caption for file in files]})

    def log_figure(self, key: str, figure: Any, step: int | None = None, **kwargs: Any) -> None:
        """Log a matplotlib figure as a picture, a plotly figure or a path of HTML as a page."""
        (file,) = self.as_files("figure", [figure])
        self._log_media(key, media.figure, file, step, {})

    def _log_media(self, key: str, make: media.Make, items: Any, step: int | None, options: Mapping[str, Any]) -> None:
        if isinstance(items, MediaFile):
            made: Any = self._made(key, make, items, {}, step)
        else:
            pairs = zip(items, media.options_of(items, options), strict=True)
            made = [each for each in (self._made(key, make, *pair, step) for pair in pairs) if each is not None]
        if made:
            self._log_rich(key, made, step)

    def _made(self, key: str, make: media.Make, item: Any, options: Any, step: Any) -> Any:
        """Return W&B's object; None for a file that is none of that kind, which becomes an artifact."""
        try:
            return make(item, **(options or {}))
        except (OSError, ValueError) as error:
            if not isinstance(item, MediaFile) or not Path(item.path).exists():
                raise
            self.warner.warn(f"odd file {key}", f"W&B cannot show {key!r}, which is kept as an artifact: {error}")
            self.keep_file(key, item, "file", step)
            return None

    def _log_rich(self, key: str, value: Any, step: int | None) -> None:
        raise NotImplementedError

    # Tables, histograms, models

    def log_table(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log a table, given by columns and rows or as a dataframe; a cell may hold W&B's own media or a file."""
        table = media.table(*as_table(columns, data, dataframe))
        self._log_rich(key, table, step)
        self._session.expect_table(table)

    def log_text(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log texts as a table; a metric that was a text as such, for it may come at every step."""
        names, rows = as_table(columns, data, dataframe)
        if list(names) == ["value"] and len(rows) == 1 and isinstance(rows[0][0], str):
            self._log_word(key, rows[0][0], step)
        else:
            self.log_table(key, names, rows, step=step)

    def _log_word(self, key: str, text: str, step: int | None) -> None:
        raise NotImplementedError

    def log_histogram(self, key: str, values: Any, step: int | None = None, bins: int = 64) -> None:
        self._log_rich(key, media.histogram(histogram(values, bins)), step)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        if isinstance(model, MediaFile):  # frameworks call it of their own accord
            self._session.log_graph(Path(model.path).name, media.graph(model))

    # Files

    def log_artifact(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        details = to_jsonable(metadata or {})
        called = name or Path(path).name
        if artifact_name(called) != called:
            details = {"name": called, **details}
        is_ours = self._session.has_courier
        artifact = file_artifact(os.fspath(path), called, type or "file", details, is_ours=is_ours)
        self._session.log_artifact(artifact, without_latest(aliases))

    def log_checkpoint(
        self,
        path: str | os.PathLike[str],
        score: float | None = None,
        step: int | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Log a checkpoint as a version of the artifact ``model-RUN_ID``, in which it is called ``model.ckpt``."""
        details = {"score": score, "original_filename": Path(path).name, **_nested(metadata or {})}
        details |= {} if step is None else {"step": step}
        name = self._checkpoint_name or f"model-{self._session.run.id}"
        policy = "immutable" if self._session.has_courier else self.add_file_policy
        artifact = checkpoint_artifact(os.fspath(path), name, to_jsonable(details), policy)
        self._session.log_artifact(artifact, without_latest(aliases))


def _pointcloud(file: MediaFile, caption: str | None) -> Any:
    import numpy as np
    import wandb

    return wandb.Object3D(np.load(file.path), caption=caption)


def _nested(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata with those of a ModelCheckpoint under its name, as Lightning's logger has them."""
    if _SETTINGS_OF_CALLBACK not in metadata:
        return dict(metadata)
    return {"ModelCheckpoint": dict(_as_lightning_has_it(metadata))}


def _as_lightning_has_it(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in metadata.items():
        if name in _NOT_LIGHTNINGS:
            continue
        yield ("_every_n_train_steps" if name == "every_n_train_steps" else name), value
