"""Convert media to TensorBoard's events: pictures, sounds, tables, histograms, models."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.audio import metadata as audio_metadata
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.mesh import metadata as mesh_metadata
from tensorboard.plugins.mesh.plugin_data_pb2 import MeshPluginData
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.util.tensor_util import make_tensor_proto

from rankzero.loggers.adapter import Unsupported
from rankzero.media.encoders import Histogram, encode_image, import_pillow
from rankzero.media.record import Media
from rankzero.messages import OnceWarner
from rankzero.values import as_utf8, to_jsonable

_SHOWN_FORMATS = ("PNG", "JPEG", "GIF", "BMP")
_CATEGORY_COLOURS = np.array(
    [(31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194)]
)
_SOLE_COLUMN = ["value"]
"""The columns of a text that is not a table."""


def event_of(media: Media, warner: OnceWarner) -> Event | None:
    """Return the event of a media record, without time and step; None if TensorBoard can show nothing of it."""
    summary = Summary()
    match media.kind:
        case "image" | "video" | "figure":
            _add_pictures(summary, media, warner)
        case "audio":
            _add_sounds(summary, media)
        case "pointcloud":
            _add_clouds(summary, media, warner)
        case "table" | "text":
            _add_table(summary, media.key, *media.table())
        case "histogram":
            _add_histogram(summary, media.key, media.histogram(), warner)
        case "graph":
            return Event(graph_def=_graph(media.files()[0]).SerializeToString())
        case _:
            raise Unsupported
    return Event(summary=summary) if summary.value else None


# Pictures and sounds


def _add_pictures(summary: Summary, media: Media, warner: OnceWarner) -> None:
    shown: list[tuple[Summary.Image, str | None]] = []
    for (item, _), file in zip(media.captioned(), media.files(), strict=True):
        picture = _read_picture(file)
        if picture is not None:
            shown.append((picture, file.caption))
        else:
            where = f"; it stays where it is: {item}" if isinstance(item, str | os.PathLike) else ""
            warner.warn(media.kind, f"TensorBoard cannot show the {media.kind} {media.key!r}{where}")
    for tag, (picture, _) in zip(_tags(media.key, shown), shown, strict=True):
        summary.value.add(tag=tag, image=picture)
    _add_captions(summary, media.key, [caption for _, caption in shown])


def _read_picture(path: os.PathLike[str]) -> Summary.Image | None:
    """Return a picture, converted to PNG unless it is PNG, JPEG, GIF or BMP; None if it is not a picture."""
    content = Path(path).read_bytes()
    try:
        with import_pillow().open(io.BytesIO(content)) as image:
            shown = content if image.format in _SHOWN_FORMATS else encode_image(image)[0]
            return Summary.Image(encoded_image_string=shown, width=image.width, height=image.height)
    except OSError:  # Pillow does not know the format
        return None


def _add_sounds(summary: Summary, media: Media) -> None:
    files = media.files()
    details = audio_metadata.create_summary_metadata(
        display_name=None, description=None, encoding=audio_metadata.Encoding.Value("WAV")
    )
    for tag, file in zip(_tags(media.key, files), files, strict=True):
        sound_and_label = np.array([[Path(file).read_bytes(), b""]], object)
        summary.value.add(tag=tag, metadata=details, tensor=make_tensor_proto(sound_and_label))
    _add_captions(summary, media.key, [file.caption for file in files])


# Point clouds


def _add_clouds(summary: Summary, media: Media, warner: OnceWarner) -> None:
    files = media.files()
    for tag, file in zip(_tags(media.key, files), files, strict=True):
        try:
            _add_cloud(summary, tag, np.load(file, allow_pickle=False))
        except (ValueError, EOFError) as error:
            warner.warn(media.kind, f"TensorBoard cannot show the {media.kind} {media.key!r}: {error}")
    _add_captions(summary, media.key, [file.caption for file in files])


def _add_cloud(summary: Summary, tag: str, points: Any) -> None:
    """Add points (N, 3) as vertices of a mesh; further columns are their colours."""
    parts = {MeshPluginData.VERTEX: points[:, :3]}
    if (colours := _colours_of(points)) is not None:
        parts[MeshPluginData.COLOR] = colours
    components = mesh_metadata.get_components_bitmask([*parts])
    for part, values in parts.items():
        batch = values[None].astype(np.float32)
        details = mesh_metadata.create_summary_metadata(tag, None, part, components, batch.shape, json_config="{}")
        name = mesh_metadata.get_instance_name(tag, part)
        summary.value.add(tag=name, metadata=details, tensor=make_tensor_proto(batch))


def _colours_of(points: Any) -> Any:
    """Return colours (N, 3) from 0 to 255: those of the points, or a colour for each category; None without any."""
    match points.shape[1]:
        case 3:
            return None
        case 4:
            return _CATEGORY_COLOURS[np.nan_to_num(points[:, 3]).astype(np.int64) % len(_CATEGORY_COLOURS)]
        case _:
            return points[:, 3:6]


def _tags(key: str, media: Sequence[Any]) -> list[str]:
    return [key] if len(media) == 1 else [f"{key}/{index}" for index in range(len(media))]


def _add_captions(summary: Summary, key: str, captions: Sequence[str | None]) -> None:
    # As separate texts: TensorBoard has one description per tag, and shows that of the first step for all steps.
    if any(captions):
        texts = [caption or "" for caption in captions]
        _add_text(summary, f"{key}/caption", texts if len(texts) > 1 else texts[0])


# Tables and histograms


def _add_table(summary: Summary, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Add cells as texts, which TensorBoard renders as Markdown in a table."""
    if list(columns) == _SOLE_COLUMN and len(rows) == 1:
        _add_text(summary, key, _text(rows[0][0]))
        return
    _add_text(summary, key, [[f"**{name}**" for name in columns], *([_text(cell) for cell in row] for row in rows)])


def _add_text(summary: Summary, tag: str, texts: Any) -> None:
    """Add a text, a list of texts, or a list of rows."""
    details = text_metadata.create_summary_metadata(display_name=None, description=None)
    encodable = np.frompyfunc(as_utf8, 1, 1)(np.array(texts, object))
    summary.value.add(tag=tag, metadata=details, tensor=make_tensor_proto(encodable))


def _text(cell: Any) -> str:
    if isinstance(cell, os.PathLike):
        return str(os.fspath(cell))
    plain = to_jsonable(cell)
    if isinstance(plain, list | dict):
        return json.dumps(plain, ensure_ascii=False)
    return "" if plain is None else str(plain)


def _add_histogram(summary: Summary, key: str, values: Histogram, warner: OnceWarner) -> None:
    if values.non_finite:
        warner.warn("histogram", f"{values.non_finite} values of {key!r} are NaN or infinite, and not shown")
    bins = np.array([values.edges[:-1], values.edges[1:], values.counts], np.float64).T
    details = histogram_metadata.create_summary_metadata(display_name=None, description=None)
    summary.value.add(tag=key, metadata=details, tensor=make_tensor_proto(bins))


# Models


def _graph(path: os.PathLike[str]) -> GraphDef:
    """Return a graph of a model's modules, without edges, because the connections are unknown."""
    with open(path, "rb") as file:
        model = json.load(file)
    modules = model["modules"] or [{"name": "", "type": model["text"], "parameters": 0}]
    return GraphDef(node=list(_nodes(modules)))


def _nodes(modules: Sequence[Mapping[str, Any]]) -> Iterator[NodeDef]:
    for module in modules:
        parts = [modules[0]["type"], *filter(None, module["name"].split("."))]
        name = "/".join(part.replace("/", "_") for part in parts)
        yield NodeDef(name=name, op=module["type"], attr={"parameters": AttrValue(i=module["parameters"])})
