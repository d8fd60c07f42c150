"""The verbs for what is no number: pictures, sounds, tables, distributions, models."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rankzero.loggers.base import Logger
from rankzero.media.encoders import Encoded, as_table, encode_figure, encode_image, encode_video, histogram
from rankzero.media.store import MediaFile, captioned

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary


class MediaVerbs(Logger):
    """A logger of media; a subclass says where events go."""

    @abstractmethod
    def _add_summary(self, summary: Summary, step: int | None) -> None:
        """Write a summary, with the time of the event that is being logged."""

    @abstractmethod
    def _add_event(self, event: Event) -> None:
        """Write an event."""

    def log_image(
        self,
        key: str,
        images: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self._log_pictures("image", key, images, step, caption, encode_image)

    def log_video(
        self,
        key: str,
        videos: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        fps: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._log_pictures("video", key, videos, step, caption, lambda frames: encode_video(frames, fps))

    def log_figure(self, key: str, figure: Any, step: int | None = None, **kwargs: Any) -> None:
        self._log_pictures("figure", key, [figure], step, None, encode_figure)

    def _log_pictures(
        self,
        kind: str,
        key: str,
        items: Sequence[Any],
        step: int | None,
        captions: Sequence[str] | None,
        encode: Callable[[Any], Encoded],
    ) -> None:
        from rankzero_tensorboard import media, summaries

        pairs = list(captioned(items, captions))
        pictures = [media.picture(item, text, encode) for item, text in pairs]
        if None in pictures:
            item, _ = pairs[pictures.index(None)]
            where = f"; it stays where it is: {item}" if isinstance(item, str | os.PathLike) else ""
            self._say_once(kind, f"TensorBoard cannot show the {kind} {key!r}{where}")
        shown = [picture for picture in pictures if picture is not None]
        if shown:
            self._add_summary(summaries.images(key, shown), step)

    def log_audio(
        self,
        key: str,
        audios: Sequence[Any],
        step: int | None = None,
        caption: Sequence[str] | None = None,
        sample_rate: int | None = None,
        **kwargs: Any,
    ) -> None:
        from rankzero_tensorboard import media, summaries

        pairs = list(captioned(audios, caption))
        sounds = [media.sound(item, sample_rate) for item, _ in pairs]
        self._add_summary(summaries.audios(key, sounds, [text for _, text in pairs]), step)

    def log_table(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        from rankzero_tensorboard import summaries

        self._add_summary(summaries.table(key, *as_table(columns, data, dataframe)), step)

    def log_histogram(self, key: str, values: Any, step: int | None = None, bins: int = 64) -> None:
        from rankzero_tensorboard import summaries

        counted = histogram(values, bins)
        if counted.non_finite:
            self._say_once("histogram", f"{counted.non_finite} values of {key!r} are NaN or infinite, and not shown")
        self._add_summary(summaries.histogram(key, counted), step)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        if isinstance(model, MediaFile):
            from rankzero_tensorboard.graphs import graph_event

            self._add_event(graph_event(model, self.context.time))
