"""What is logged → TensorBoard's `Summary` messages."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_STRING
from tensorboard.plugins.audio import metadata as audio_metadata
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.text import metadata as text_metadata

from rankzero.media.encoders import Histogram
from rankzero.values import as_utf8, to_jsonable
from rankzero_tensorboard.media import Picture

SOLE_COLUMN = ["value"]
"""The columns of a text that is not a table."""


def file_header(began: float) -> bytes:
    """Return the first record of an event file, which says what it is."""
    header: bytes = Event(wall_time=began, file_version="brain.Event:2").SerializeToString()
    return header


def restart(began: float, step: int) -> bytes:
    """Return the record by which readers forget what they read so far of this step and later ones."""
    event: bytes = Event(
        wall_time=began, step=step, session_log=SessionLog(status=SessionLog.START)
    ).SerializeToString()
    return event


def images(key: str, pictures: Sequence[Picture]) -> Summary:
    """Show pictures; if there are several, under ``key/0``, ``key/1`` and so on."""
    summary = Summary()
    for tag, (content, width, height, _) in zip(_tags(key, pictures), pictures, strict=True):
        summary.value.add(tag=tag, image=Summary.Image(encoded_image_string=content, width=width, height=height))
    _add_captions(summary, key, [picture.caption for picture in pictures])
    return summary


def audios(key: str, sounds: Sequence[bytes], captions: Sequence[str | None]) -> Summary:
    """Play sounds; if there are several, under ``key/0``, ``key/1`` and so on."""
    details = audio_metadata.create_summary_metadata(
        display_name=None, description=None, encoding=audio_metadata.Encoding.Value("WAV")
    )
    summary = Summary()
    for tag, content in zip(_tags(key, sounds), sounds, strict=True):
        sound_and_label = TensorProto(dtype=DT_STRING, tensor_shape=_shape([1, 2]), string_val=[content, b""])
        summary.value.add(tag=tag, metadata=details, tensor=sound_and_label)
    _add_captions(summary, key, captions)
    return summary


def table(key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Summary:
    """Show cells as texts, of which TensorBoard makes a table, and each of which it takes for Markdown."""
    summary = Summary()
    if list(columns) == SOLE_COLUMN and len(rows) == 1:
        _add_text(summary, key, [], [_text(rows[0][0])])
        return summary
    width = max(len(columns), *map(len, rows)) if rows else len(columns)
    head = [f"**{name}**" for name in columns]
    cells = [[*row, *[""] * (width - len(row))] for row in (head, *rows)]
    _add_text(summary, key, [len(cells), width], [_text(cell) for row in cells for cell in row])
    return summary


def histogram(key: str, values: Histogram) -> Summary:
    """Show counts, bin by bin."""
    bins = list(zip(values.edges, values.edges[1:], values.counts, strict=False))
    numbers = [float(number) for each in bins for number in each]
    details = histogram_metadata.create_summary_metadata(display_name=None, description=None)
    summary = Summary()
    summary.value.add(
        tag=key,
        metadata=details,
        tensor=TensorProto(dtype=DT_DOUBLE, tensor_shape=_shape([len(bins), 3]), double_val=numbers),
    )
    return summary


def _tags(key: str, media: Sequence[Any]) -> list[str]:
    return [key] if len(media) == 1 else [f"{key}/{index}" for index in range(len(media))]


def _add_captions(summary: Summary, key: str, captions: Sequence[str | None]) -> None:
    # As a text of their own: TensorBoard has a place for one per tag, and shows that of the first step for all steps.
    if any(captions):
        texts = [caption or "" for caption in captions]
        _add_text(summary, f"{key}/caption", [len(texts)] if len(texts) > 1 else [], texts)


def _add_text(summary: Summary, tag: str, shape: Sequence[int], texts: Sequence[str]) -> None:
    details = text_metadata.create_summary_metadata(display_name=None, description=None)
    tensor = TensorProto(
        dtype=DT_STRING, tensor_shape=_shape(shape), string_val=[as_utf8(text).encode() for text in texts]
    )
    summary.value.add(tag=tag, metadata=details, tensor=tensor)


def _shape(sizes: Sequence[int]) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])


def _text(cell: Any) -> str:
    if isinstance(cell, os.PathLike):
        return str(os.fspath(cell))
    plain = to_jsonable(cell)
    if isinstance(plain, list | dict):
        return json.dumps(plain, ensure_ascii=False)
    return "" if plain is None else str(plain)
