"""`Verbs`: the log methods of Run and of every logger, each defined once. A verb passes its arguments as one record."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rankzero.events.structs import Alert, Artifact, Checkpoint, DefineMetric, Tags
from rankzero.loggers.aggregate import Reduce, StepAggregator, mean
from rankzero.media.record import Media
from rankzero.media.store import MediaStore
from rankzero.values import Number, as_list, to_jsonable, to_number, to_text

Record = Media | Artifact | Checkpoint | DefineMetric | Tags | Alert
"""The arguments of a verb. The path of an artifact or a checkpoint is the original one."""


class Verbs(ABC):
    """The verbs that a Run and a logger share. Each hands one record to `log_record`."""

    _aggregator: StepAggregator

    @abstractmethod
    def log_metrics(self, metrics: dict[str, Number], step: int | None = None) -> None:
        """Log numbers at a step."""

    @abstractmethod
    def log_record(self, record: Record) -> None:
        """Log the record of one of the other verbs."""

    @property
    @abstractmethod
    def media_store(self) -> MediaStore:
        """The store for files of media."""

    # Media

    def log_image(
        self,
        /,
        key: str,
        images: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        **extra: Any,
    ) -> None:
        """Log images: paths, PIL images, figures, arrays or tensors (see `rankzero.media.encoders.encode_image`).

        Args:
            key: the name of the images.
            images: one image, a list, or a batch (N, H, W, C) or (N, C, H, W); a logger under a Run gets a
                `rankzero.media.store.MediaFile` for each.
            step: the step; under a Run, by default that of a recorder's loop, else the last step of a metric.
            caption: a text for each image.
            **extra: keyword arguments for some trackers (masks, boxes): lists with one entry for each image.
        """
        _log_media(self, "image", key, images, caption, step, extra)

    def log_audio(
        self,
        /,
        key: str,
        audios: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        sample_rate: int | None = None,
        **extra: Any,
    ) -> None:
        """Log audio: paths, or samples (T,) or (T, channels) with their ``sample_rate`` in Hz (44,100 by default)."""
        _log_media(self, "audio", key, audios, caption, step, extra, sample_rate=sample_rate)

    def log_video(
        self,
        /,
        key: str,
        videos: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        fps: int | None = None,
        **extra: Any,
    ) -> None:
        """Log videos: paths, or frames (T, H, W, C) with their frames per second."""
        _log_media(self, "video", key, videos, caption, step, extra, fps=fps)

    def log_pointcloud(
        self,
        /,
        key: str,
        points: Any,
        step: int | None = None,
        caption: Sequence[str] | None = None,
        **extra: Any,
    ) -> None:
        """Log point clouds, each an array, a tensor or the path of an ``.npy`` file.

        Args:
            key: the name of the point clouds.
            points: one point cloud or a list: (N, 3) with x, y and z, (N, 4) with a category as well, or (N, 6) with
                red, green and blue from 0 to 255.
            step: the step; under a Run, the last step of a metric by default.
            caption: a text for each point cloud.
            **extra: keyword arguments for some trackers.
        """
        _log_media(self, "pointcloud", key, points, caption, step, extra)

    def log_figure(self, /, key: str, figure: Any, step: int | None = None, **extra: Any) -> None:
        """Log a matplotlib or plotly figure."""
        _log_media(self, "figure", key, [figure], None, step, extra)

    def log_table(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log a table, given by columns and rows or as a dataframe; a cell may contain an image."""
        _log_media(self, "table", key, (columns, data, dataframe), None, step)

    def log_text(
        self,
        key: str,
        columns: Sequence[str] | str | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log texts, given as a table or as one string."""
        if isinstance(columns, str) or (columns is not None and not hasattr(columns, "__iter__")):
            columns, data = ["text"], [[to_text(columns)]]
        _log_media(self, "text", key, (columns, data, dataframe), None, step)

    def log_histogram(self, key: str, values: Any, step: int | None = None, bins: int = 64) -> None:
        """Log a histogram of ``values``, which is computed at once.

        Args:
            key: the name of the histogram.
            values: numbers of any shape, or a `rankzero.media.encoders.Histogram`.
            step: the step; under a Run, the last step of a metric by default.
            bins: the number of bins.
        """
        _log_media(self, "histogram", key, values, None, step, bins=bins)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Log a model's structure: its printed form, modules and parameter counts.

        A logger under a Run gets them as a `rankzero.media.store.MediaFile` of JSON. Frameworks call this automatically
        at the start of training; so in direct use it does nothing unless the tracker supports it.
        """
        _log_media(self, "graph", "graph", model, None, None)

    # Files

    def log_artifact(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Log a file or directory as it is now; the script may append to it, replace or delete it afterwards.

        A Run copies the file: up to 16 MiB before this returns, a larger one in a thread, for which `Run.flush` and
        `Run.finish` wait. A larger file must not be overwritten in place before it is copied. If eight copies are
        waiting already, this call waits for its own copy.

        In a directory, links are followed. The directory of runs, broken links, links to a parent directory, pipes, and
        unreadable files are left out with a warning.
        """
        source, kind = _path(path), None if type is None else to_text(type)
        named = to_text(name) if name else Path(source).name
        self.log_record(Artifact(time.time(), source, named, kind, _texts(aliases), _details(metadata)))

    def log_checkpoint(
        self,
        path: str | os.PathLike[str],
        score: float | None = None,
        step: int | None = None,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        *,
        automatic: bool = False,
    ) -> None:
        """Log a checkpoint, a file or directory.

        A Run copies it in the same way as `log_artifact`. The copy is deleted when every logger has it, the script has
        deleted or overwritten the original, and a later checkpoint has its aliases. A path that does not exist is
        logged as an error each time.

        Args:
            path: where the script saved it.
            score: the value of the monitored metric.
            step: the step; under a Run, the last step of a metric by default.
            aliases: names such as ``latest`` and ``best``.
            metadata: any further data.
            automatic: whether a framework saved it, under a new name each time. A Run hard-links its files, however
                large, and `Logger.log_model` says whether a logger uploads it.
        """
        score, labels, details = to_number(score), _texts(aliases), _details(metadata)
        self.log_record(Checkpoint(time.time(), _path(path), "", score, step, labels, details, automatic))

    # Tags, alerts and definitions of metrics

    def define_metric(
        self, name: str, step_metric: str | None = None, summary: str | None = None, goal: str | None = None
    ) -> None:
        """Set the x-axis of the metric ``name``, and its summary (min, max, mean, last, first, best)."""
        others = (None if each is None else to_text(each) for each in (step_metric, summary, goal))
        self.log_record(DefineMetric(time.time(), to_text(name), *others))

    def log_tags(self, tags: Sequence[str]) -> None:
        """Add tags to the run."""
        self.log_record(Tags(time.time(), _texts(tags)))

    def alert(self, title: str, text: str = "", level: str = "INFO") -> None:
        """Send an alert through each tracker that supports alerts.

        Args:
            title: the subject.
            text: the body.
            level: ``INFO``, ``WARN`` or ``ERROR``.
        """
        self.log_record(Alert(time.time(), to_text(title), to_text(text), to_text(level)))

    # Aggregation

    def agg_and_log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Buffer metrics; a call with a new step logs the merged metrics of the previous step."""
        finished = self._aggregator.add(metrics, step)
        if finished is not None:
            self.log_metrics(metrics=finished[1], step=finished[0])

    def update_agg_funcs(self, agg_key_funcs: Mapping[str, Any] | None = None, agg_default_func: Reduce = mean) -> None:
        """Add reduce functions by key for `agg_and_log_metrics`, and set the default for all other keys."""
        self._aggregator.update_funcs(agg_key_funcs, agg_default_func)

    def _log_aggregated(self) -> None:
        finished = self._aggregator.take()
        if finished is not None:
            self.log_metrics(metrics=finished[1], step=finished[0])


SHARED_VERBS = frozenset(name for name in vars(Verbs) if name[0] != "_") - {"log_metrics", "media_store"}
"""The names of all verbs."""


def _log_media(
    verbs: Verbs,
    kind: str,
    key: str,
    items: Any,
    captions: Sequence[str] | None,
    step: int | None,
    extra: Mapping[str, Any] | None = None,
    **encoding: Any,
) -> None:
    media = Media(kind, key, items, captions, step, extra or {}, encoding, open_store=lambda: verbs.media_store)
    verbs.log_record(media)


def _path(path: Any) -> Any:
    return os.fspath(path) if isinstance(path, os.PathLike) else path  # an invalid path is reported when it is recorded


def _texts(names: Any) -> list[str]:
    return [to_text(name) for name in as_list(names)]


def _details(metadata: Any) -> dict[str, Any]:
    """Return metadata as a JSON object."""
    plain = to_jsonable({} if metadata is None else metadata)
    return plain if isinstance(plain, dict) else {"metadata": plain}
