"""`Verbs`: what a Run and every logger can log, each verb once. A verb makes one record of what it was given."""

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
"""What a verb was given. The path of an artifact or a checkpoint is the one that was given."""


class Verbs(ABC):
    """The verbs that a Run and a logger share. Each hands one record to `log_record`."""

    _aggregator: StepAggregator

    @abstractmethod
    def log_metrics(self, metrics: dict[str, Number], step: int | None = None) -> None:
        """Log numbers at a step."""

    @abstractmethod
    def log_record(self, record: Record) -> None:
        """Log what one of the other verbs was given."""

    @property
    @abstractmethod
    def media_store(self) -> MediaStore:
        """Where the files of media are made."""

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
        """Log pictures: paths, PIL images, figures, arrays or tensors (see `rankzero.media.encoders.encode_image`).

        Args:
            key: the name they share.
            images: a list of pictures, or one; a logger under a Run gets a `rankzero.media.store.MediaFile` for each.
            step: the step; under a Run the last one of a metric if not given.
            caption: a text for each.
            **extra: for trackers that take more, a list each, with one entry for each picture (masks, boxes).
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
        """Log sounds: paths, or samples (T,) or (T, channels) with their ``sample_rate`` in Hz (44,100 by default)."""
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
        """Log clouds of points in space, each an array, a tensor or the path of an ``.npy`` file.

        Args:
            key: the name they share.
            points: one cloud or a list of them: (N, 3) with x, y and z, (N, 4) with a category as well, or (N, 6) with
                red, green and blue from 0 to 255.
            step: the step; under a Run the last one of a metric if not given.
            caption: a text for each cloud.
            **extra: further arguments, for trackers that take more.
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
        """Log a table, given by columns and rows or as a dataframe; a cell may hold a picture."""
        _log_media(self, "table", key, (columns, data, dataframe), None, step)

    def log_text(
        self,
        key: str,
        columns: Sequence[str] | str | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log texts, given as a table, or as one string."""
        if isinstance(columns, str) or (columns is not None and not hasattr(columns, "__iter__")):
            columns, data = ["text"], [[to_text(columns)]]
        _log_media(self, "text", key, (columns, data, dataframe), None, step)

    def log_histogram(self, key: str, values: Any, step: int | None = None, bins: int = 64) -> None:
        """Log the distribution of ``values``, counted in ``bins`` now.

        Args:
            key: its name.
            values: numbers of any shape, or a `rankzero.media.encoders.Histogram`.
            step: the step; under a Run the last one of a metric if not given.
            bins: how many.
        """
        _log_media(self, "histogram", key, values, None, step, bins=bins)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Log a model's structure: its printed form, modules and parameter counts.

        A logger under a Run gets them as a `rankzero.media.store.MediaFile` of JSON. Frameworks call this of their own
        accord at the start of training; so for a logger that is used directly it does nothing unless the tracker has
        a place for it.
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

        A Run copies it, and does not link it, for a script may write on in what it logs: up to 16 MiB before this
        returns, more in a thread, which `Run.flush` and `Run.finish` wait for. What is larger must not be overwritten
        in place before that. If eight copies wait already, this waits for its own.

        Of a directory are left out, which is logged as a warning: the directory where runs are kept, broken links,
        links to a directory around them, pipes, and files that cannot be read. Other links are followed.
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
    ) -> None:
        """Log a checkpoint, a file or directory.

        A Run copies it as it is now, in the way of `log_artifact`. The copy is deleted when every logger has it, the
        script has deleted or overwritten the original, and a later one has its aliases. What is left out of a
        directory is said under `log_artifact`. A path that is not there is logged as an error each time.

        Args:
            path: where the script saved it.
            score: the value that it is judged by.
            step: the step; under a Run the last one of a metric if not given.
            aliases: such as ``latest`` and ``best``.
            metadata: anything else.
        """
        score, labels, details = to_number(score), _texts(aliases), _details(metadata)
        self.log_record(Checkpoint(time.time(), _path(path), "", score, step, labels, details))

    # What else is said of a run

    def define_metric(
        self, name: str, step_metric: str | None = None, summary: str | None = None, goal: str | None = None
    ) -> None:
        """Say which metric is the x-axis of ``name`` and how to summarise it (min, max, mean, last, first, best)."""
        others = (None if each is None else to_text(each) for each in (step_metric, summary, goal))
        self.log_record(DefineMetric(time.time(), to_text(name), *others))

    def log_tags(self, tags: Sequence[str]) -> None:
        """Add tags to the run."""
        self.log_record(Tags(time.time(), _texts(tags)))

    def alert(self, title: str, text: str = "", level: str = "INFO") -> None:
        """Tell people something, in the way of each tracker that has one.

        Args:
            title: what it is about.
            text: the rest.
            level: ``INFO``, ``WARN`` or ``ERROR``.
        """
        self.log_record(Alert(time.time(), to_text(title), to_text(text), to_text(level)))

    # Aggregation

    def agg_and_log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Buffer metrics; when a call comes with a new step, log those of the previous step, merged."""
        finished = self._aggregator.add(metrics, step)
        if finished is not None:
            self.log_metrics(metrics=finished[1], step=finished[0])

    def update_agg_funcs(self, agg_key_funcs: Mapping[str, Any] | None = None, agg_default_func: Reduce = mean) -> None:
        """Add reduce functions by key to those that `agg_and_log_metrics` uses, and set that for all other keys."""
        self._aggregator.update_funcs(agg_key_funcs, agg_default_func)

    def _log_aggregated(self) -> None:
        finished = self._aggregator.take()
        if finished is not None:
            self.log_metrics(metrics=finished[1], step=finished[0])


SHARED_VERBS = frozenset(name for name in vars(Verbs) if name[0] != "_") - {"log_metrics", "media_store"}
"""The verbs that stand above."""


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
    return os.fspath(path) if isinstance(path, os.PathLike) else path  # what is no path, who records it tells of


def _texts(names: Any) -> list[str]:
    return [to_text(name) for name in as_list(names)]


def _details(metadata: Any) -> dict[str, Any]:
    """Return metadata as a JSON object."""
    plain = to_jsonable({} if metadata is None else metadata)
    return plain if isinstance(plain, dict) else {"metadata": plain}
