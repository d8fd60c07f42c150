"""Event files, read with TensorBoard's own reader."""

import io
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.util.tensor_util import make_ndarray

from rankzero.testing import Tracked


def events(log_dir: str | Path) -> list[Event]:
    """The records of all event files, by file name."""
    paths = sorted(path for path in Path(log_dir).iterdir() if "tfevents" in path.name)
    return [event for path in paths for event in LegacyEventFileLoader(str(path)).Load()]


def accumulated(log_dir: str | Path) -> EventAccumulator:
    return EventAccumulator(str(log_dir), size_guidance=STORE_EVERYTHING_SIZE_GUIDANCE).Reload()


def scalars(log_dir: str | Path) -> dict[str, list[tuple[int, float]]]:
    read = accumulated(log_dir)
    return {tag: [(each.step, each.value) for each in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def hparams(log_dir: str | Path) -> dict[str, object]:
    """The hyperparameters in the table; whole numbers as int, because it stores only float64."""
    content = accumulated(log_dir).summary_metadata.get(hparams_metadata.SESSION_START_INFO_TAG)
    if content is None:
        return {}
    start = hparams_metadata.parse_session_start_info_plugin_data(content.plugin_data.content)
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in values.items()
    }


def hparams_metrics(log_dir: str | Path) -> list[str]:
    """The metrics that were chosen for the table; empty if it shows every scalar."""
    content = accumulated(log_dir).summary_metadata.get(hparams_metadata.EXPERIMENT_TAG)
    if content is None:
        return []
    experiment = hparams_metadata.parse_experiment_plugin_data(content.plugin_data.content)
    return [info.name.tag for info in experiment.metric_infos]


def tracked(log_dir: str | Path) -> Tracked:
    """Everything, for `LoggerContract.read_back`."""
    found = Tracked(params=hparams(log_dir))
    read = accumulated(log_dir)
    tags = read.Tags()
    for tag in tags["scalars"]:
        for each in read.Scalars(tag):
            found.add_metric(tag, each.step, each.value, each.wall_time)
    for tag in tags["images"]:
        for each in read.Images(tag):
            for kind in ("image", "video", "figure"):  # all are pictures in TensorBoard
                found.add_item(kind, tag, each.step, each.encoded_image_string)
    for tag in tags["tensors"]:
        plugin = read.SummaryMetadata(tag).plugin_data.plugin_name
        for each in read.Tensors(tag):
            array = make_ndarray(each.tensor_proto)
            if plugin == "text":
                for kind in ("table", "text"):
                    found.add_item(kind, tag, each.step, table(array))
            elif plugin == "audio":
                found.add_item("audio", tag, each.step, array[0][0])
            elif plugin == "mesh" and tag.endswith("_VERTEX"):
                found.add_item("pointcloud", tag.removesuffix("_VERTEX"), each.step, as_npy(array[0]))
            elif plugin == "histograms":
                found.add_item("histogram", tag, each.step, array)
    if tags["graph"]:
        found.add_item("graph", "graph", None, read.Graph())
    return found


def as_npy(array) -> bytes:
    """An array as numpy saves it."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def table(array) -> tuple[list[str], list[list[str]]]:
    """The columns and rows of a text."""
    if array.ndim == 0:
        return ["value"], [[array.item().decode()]]
    head, *rows = [[cell.decode() for cell in row] for row in array.reshape(len(array), -1)]
    return [name.removeprefix("**").removesuffix("**") for name in head], rows
