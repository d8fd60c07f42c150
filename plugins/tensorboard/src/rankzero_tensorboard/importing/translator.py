"""`Translator`: translate records of an event file to rankzero's events, one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.mesh import metadata as mesh_metadata
from tensorboard.plugins.mesh.plugin_data_pb2 import MeshPluginData
from tensorboard.util.tensor_util import make_ndarray

from rankzero.events import structs
from rankzero.events.trust import LATEST
from rankzero.importers.base import Report
from rankzero.media.encoders import Histogram, encode_audio, encode_image, encode_raw
from rankzero.media.store import MediaFile, MediaStore
from rankzero_tensorboard.event_file import is_marked

_LARGEST_TENSOR = 1 << 28
_PR_COLUMNS = ["true positives", "false positives", "true negatives", "false negatives", "precision", "recall"]
_TEXT_SUFFIX = "/text_summary"  # added by SummaryWriter.add_text


class Translator:
    """Translates records.

    Args:
        files: stores media.
        report: records what cannot be imported.
        name_of: returns the metric's name for a tag.
        plugins: tag → the name of its plugin of TensorBoard; new tags are added, since some writers write the name
            only once.
        known_params: the names of hyperparameters that are known from a file, where nested ones are not flattened.
    """

    def __init__(
        self,
        files: MediaStore,
        report: Report,
        name_of: Callable[[str], str],
        plugins: dict[str, str],
        known_params: Collection[str] = (),
    ) -> None:
        self._files = files
        self._report = report
        self._name_of = name_of
        self._plugins = plugins
        self._known_params = known_params

    def translate(self, record: bytes, source: str) -> Iterator[structs.Event]:
        """Yield the events of a record; ``source`` names its file in the report."""
        try:
            event = Event.FromString(record)
            if not abs(event.wall_time) < LATEST:
                raise ValueError("its time is out of range")
            yield from self._translate(event, is_marked(record))
        except (DecodeError, ValueError, TypeError, LookupError, MemoryError) as error:
            self._report.leave_out(source, f"a record is invalid: {' '.join(str(error).split())}")

    def _translate(self, event: Event, is_own: bool) -> Iterator[structs.Event]:
        time = event.wall_time
        match event.WhichOneof("what"):
            case "summary":
                yield from self._summary(event, is_own)
            case "graph_def":
                yield self._artifact(time, "graph", event.graph_def, ".pb", "graph")
            case "meta_graph_def":
                yield self._artifact(time, "meta_graph", event.meta_graph_def, ".pb", "graph")
            case "session_log" if event.session_log.status == SessionLog.START:
                yield structs.Rewind(time, event.step - 1)
            case "log_message":
                yield structs.Console(time, event.log_message.message)
            case "tagged_run_metadata":
                profile = event.tagged_run_metadata
                yield self._artifact(time, profile.tag, profile.run_metadata, ".pb", "profile")

    def _summary(self, event: Event, is_own: bool) -> Iterator[structs.Event]:
        time, step = event.wall_time, event.step
        numbers: dict[str, Any] = {}
        media: list[structs.Event] = []
        clouds: dict[str, dict[int, Any]] = {}
        for value in event.summary.value:
            name = self._name_of(value.tag)
            plugin = self._plugin_of(value)
            kind = value.WhichOneof("value")
            if plugin == hparams_metadata.PLUGIN_NAME:
                media += self._hparams(value, time)
            elif (number := _number(value, plugin)) is not None:
                if name in numbers:
                    yield structs.Metrics(time, step, numbers)
                    numbers = {}
                numbers[name] = number
            elif plugin == mesh_metadata.PLUGIN_NAME:
                data = mesh_metadata.parse_plugin_metadata(value.metadata.plugin_data.content)
                clouds.setdefault(data.name, {})[data.content_type] = make_ndarray(_checked(value.tensor))
            else:
                media += self._media(value, name, kind, plugin, time, step)
        if numbers:
            yield structs.Metrics(time, step, numbers)
        media += [self._pointcloud(time, self._name_of(tag), parts, step) for tag, parts in clouds.items()]
        yield from _joined(media) if is_own else media

    def _plugin_of(self, value: Summary.Value) -> str:
        if value.HasField("metadata") and value.metadata.plugin_data.plugin_name:
            return self._plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
        return self._plugins.get(value.tag, "")

    def _media(
        self, value: Summary.Value, name: str, kind: str | None, plugin: str, time: float, step: int
    ) -> Iterator[structs.Event]:
        match kind, plugin:
            case "image", _:
                yield self._images(time, name, [value.image.encoded_image_string], step)
            case "audio", _:
                yield self._audio(time, name, [(value.audio.encoded_audio_string, "")], step)
            case "histo", _:
                yield from self._histogram(time, name, *_edges_of(value.histo), step)
            case "tensor", "images":
                yield self._images(time, name, value.tensor.string_val[2:], step)
            case "tensor", "audio":
                texts = value.tensor.string_val
                labels = [text.decode() for text in texts[1::2]] if len(value.tensor.tensor_shape.dim) > 1 else []
                sounds = texts[::2] if labels else texts
                yield self._audio(time, name, list(zip(sounds, labels or [""] * len(sounds), strict=True)), step)
            case "tensor", "histograms":
                rows = make_ndarray(_checked(value.tensor)).reshape(-1, 3).astype(np.float64)
                yield from self._histogram(time, name, rows[:, 2], [*rows[:, 0], *rows[-1:, 1]], step)
            case "tensor", "pr_curves":
                rows = make_ndarray(_checked(value.tensor)).reshape(len(_PR_COLUMNS), -1).T.tolist()
                yield structs.Table(time, name, self._files.table(_PR_COLUMNS, rows), step)
            case "tensor", "text":
                yield _text(time, name.removesuffix(_TEXT_SUFFIX), value.tensor, step)
            case "tensor", _ if len(value.tensor.string_val) == 1:  # such as Keras' graph, or a layout of charts
                (data,) = value.tensor.string_val
                yield self._artifact(time, name, data, ".json" if data.startswith(b"{") else ".pb", plugin, step)
            case "tensor", _ if not value.tensor.string_val:
                yield self._artifact(time, name, *encode_raw(make_ndarray(_checked(value.tensor))), "tensor", step)
            case _:
                self._report.leave_out(name, f"the data of TensorBoard's plugin {plugin or kind!r} is not imported")

    def _artifact(self, time: float, name: str, data: bytes, suffix: str, kind: str, step: int = 0) -> structs.Event:
        stored = self._files.put_bytes((data, suffix))
        return structs.Artifact(time, stored.path, name, kind, metadata={"step": step} if step else {})

    def _images(self, time: float, name: str, images: Sequence[bytes], step: int) -> structs.Event:
        files = [self._files.put_bytes(encode_image(image)) for image in images]
        # Writers have no other form for videos than an animated picture.
        is_video = any(image.startswith(b"GIF8") and b"NETSCAPE2.0" in image[:1024] for image in images)
        return structs.Video(time, name, files, step) if is_video else structs.Image(time, name, files, step)

    def _audio(self, time: float, name: str, sounds: Sequence[tuple[bytes, str]], step: int) -> structs.Event:
        files = [self._files.put_bytes(encode_audio(sound), caption=label or None) for sound, label in sounds]
        return structs.Audio(time, name, files, step)

    def _pointcloud(self, time: float, name: str, parts: dict[int, Any], step: int) -> structs.Event:
        points = parts[MeshPluginData.VERTEX].reshape(-1, 3)
        colours = parts.get(MeshPluginData.COLOR)
        if colours is not None and colours.size == points.size:
            points = np.concatenate([points, colours.reshape(-1, 3)], axis=1)
        if MeshPluginData.FACE in parts:
            self._report.leave_out(name, "the faces of meshes are not imported, only their points")
        return structs.Pointcloud(time, name, [self._files.put_bytes(encode_raw(points))], step)

    def _histogram(self, time: float, name: str, counts: Any, edges: Any, step: int) -> Iterator[structs.Event]:
        if len(counts) and np.isfinite(counts).all() and np.isfinite(edges).all():
            yield structs.Histogram(time, name, Histogram(_plain(counts), _plain(edges)), step)
        else:
            self._report.leave_out(name, "the histogram is empty or has edges that are not finite")

    def _hparams(self, value: Summary.Value, time: float) -> Iterator[structs.Event]:
        if value.tag == hparams_metadata.SESSION_START_INFO_TAG:
            start = hparams_metadata.parse_session_start_info_plugin_data(value.metadata.plugin_data.content)
            params = {
                name: _whole(getattr(each, each.WhichOneof("kind") or "", None))
                for name, each in sorted(start.hparams.items())
                if name not in self._known_params
            }
            if params:
                yield structs.Params(time, params)


def _joined(media: Sequence[structs.Event]) -> Iterator[structs.Event]:
    """Yield the media of a record that rankzero wrote: the files of one key as one event, with their captions."""
    files = [each for each in media if isinstance(each, structs.Files)]
    if not files:
        yield from media
        return
    key = files[0].key if len(files) == 1 else files[0].key.removesuffix("/0")
    captions = [row[0] for each in media if isinstance(each, structs.Text) for row in each.data]
    stored = [
        MediaFile(file.path, file.name, caption or file.caption)
        for file, caption in zip(
            (file for each in files for file in each.files), captions or [""] * len(files), strict=True
        )
    ]
    first = files[0]
    yield type(first)(first.time, key, stored, first.step)


def _number(value: Summary.Value, plugin: str) -> float | None:
    """Return the number of a scalar, None for other values."""
    match value.WhichOneof("value"):
        case "simple_value":
            return float(value.simple_value)
        case "tensor" if plugin in ("scalars", "") and not value.tensor.string_val:
            array = make_ndarray(_checked(value.tensor))
            return float(array.item()) if array.size == 1 else None
    return None


def _checked(tensor: TensorProto) -> TensorProto:
    """Return the tensor if its array fits into memory: one number may stand for many equal ones.

    Raises:
        ValueError: it is too large.
    """
    if math.prod(each.size for each in tensor.tensor_shape.dim) > _LARGEST_TENSOR:
        raise ValueError("a tensor is too large")
    return tensor


def _edges_of(histogram: HistogramProto) -> tuple[Any, Any]:
    """Return the counts and edges of a histogram that has the right edge of each bin."""
    counts = np.array(histogram.bucket)
    edges = np.clip([histogram.min, *histogram.bucket_limit], histogram.min, histogram.max)
    # Writers add empty bins below and above the values.
    used = np.flatnonzero((counts > 0) | (np.diff(edges) > 0))
    if not len(used):
        return (), ()
    first, last = used[0], used[-1] + 1
    edges[last] = histogram.max
    return counts[first:last], edges[first : last + 1]


def _plain(numbers: Any) -> list[int | float]:
    return [_whole(number) for number in np.asarray(numbers, np.float64).tolist()]


def _whole(value: Any) -> Any:
    """Return a whole number as an int: in event files all numbers are floats."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53 else value


def _text(time: float, name: str, tensor: TensorProto, step: int) -> structs.Event:
    """Return a text or a table of texts. A first row in bold, as rankzero writes it, has the names of the columns."""
    cells = [text.decode(errors="replace") for text in tensor.string_val]
    width = tensor.tensor_shape.dim[-1].size if len(tensor.tensor_shape.dim) > 1 else 1
    rows = [cells[start : start + width] for start in range(0, len(cells), max(width, 1))]
    if width > 1 and all(cell.startswith("**") and cell.endswith("**") for cell in rows[0]):
        return structs.Text(time, name, [cell[2:-2] for cell in rows[0]], rows[1:], step)
    columns = ["value"] if width == 1 else [f"column {number}" for number in range(width)]
    return structs.Text(time, name, columns, rows, step)
