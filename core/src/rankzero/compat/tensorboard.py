"""torch's ``SummaryWriter`` that writes to a run: `SummaryWriter`, and `install` for unchanged scripts.

It needs neither the package ``tensorboard`` nor torch.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rankzero.compat.replaced import REPLACED
from rankzero.events.structs import Metrics
from rankzero.files.directories import is_url
from rankzero.integrations import Execute, watch_replaced
from rankzero.integrations.lazy_run import LazyRun, start_in_training
from rankzero.media.encoders import Histogram, encode_raw, histogram, import_pillow, to_array
from rankzero.messages import OnceWarner, describe, warn_user
from rankzero.run.run import Run
from rankzero.run.start import open_run
from rankzero.values import as_list, to_int, to_json_number, to_jsonable, to_number

Step = int | None
Time = float | None

_BINS = 64
_LARGEST_SAMPLE = 32767
_CURVE = ("threshold", "true positives", "false positives", "true negatives", "false negatives", "precision", "recall")
_FEWEST = 1e-7  # instead of dividing by zero
_NO_LIMIT = 1e300  # torch's examples of histograms end with the largest float

_open_runs: dict[str, Run] = {}
"""Directory of a writer → its run, while it is open."""
_ended_runs: dict[str, dict[str, str]] = {}
"""Directory of a writer → the arguments of `start` that resume its run."""


def install() -> None:
    """Make ``from torch.utils.tensorboard import SummaryWriter``, and the same of tensorboardX, import this class.

    Call it before that import. The class of torch stays in ``torch.utils.tensorboard.writer``.
    """
    for name in REPLACED["tensorboard"]:
        if name in sys.modules:
            sys.modules[name].SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    watch_replaced("tensorboard")


def replace(module: Any, execute: Execute) -> None:
    """Fill a module with this class. Its own code, which needs ``tensorboard``, runs when another name is used."""

    def other(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        del module.__getattr__
        execute(module)
        module.SummaryWriter = SummaryWriter
        return getattr(module, name)

    module.SummaryWriter = SummaryWriter
    module.__getattr__ = other


class SummaryWriter(LazyRun):
    """Logs to a run with the methods of ``torch.utils.tensorboard.SummaryWriter``.

    As in TensorBoard, a directory is a run: writers with different directories have a run each, and those with the same
    one share it, also one after the other. The run begins with the first log call, and ends with `close`; a
    later log call resumes it. All methods can be called on each rank, and only rank zero logs. They do not raise.

    Args:
        log_dir: names the run, by its last two parts, unless ``RANKZERO_NAME`` is set. The directory is created,
            because scripts save files there. By default it is the run's own directory.
        comment: the name of the run if there is no ``log_dir``.
        purge_step: rewind a resumed run, so that its data from this step on is not shown.
        max_queue: ignored, as are ``flush_secs``, ``filename_suffix`` and ``write_to_disk`` of tensorboardX.
        logdir: tensorboardX's name for ``log_dir``.
        run: a Run, which `close` does not end.
        **settings: the arguments of `rankzero.start`, including ``loggers``.

    Raises:
        ConfigError: an argument is invalid.
        PluginError: a logger is not installed, or is broken.
    """

    def __init__(
        self, log_dir: str | os.PathLike[str] | None = None, comment: str = "", purge_step: Step = None,
        max_queue: int = 10, flush_secs: float = 120, filename_suffix: str = "", write_to_disk: bool = True, *,
        logdir: str | os.PathLike[str] | None = None, run: Run | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        self._log_dir = os.fspath(log_dir or logdir or "")
        name = "/".join(os.path.normpath(self._log_dir).split(os.sep)[-2:]) if self._log_dir else comment
        if name and run is None and not os.environ.get("RANKZERO_NAME"):
            settings = {"name": name, **settings}
        super().__init__(run=run, **settings)
        self._key = os.path.realpath(self._log_dir) if self._log_dir else f"writer {id(self)}"
        if self._log_dir and not is_url(self._log_dir):
            try:
                os.makedirs(self._log_dir, exist_ok=True)
            except OSError as error:
                warn_user(f"the directory of a SummaryWriter cannot be made: {describe(error)}")
        self._purge_step = to_int(purge_step)
        self._steps = Counter[str]()
        self._hparams: dict[str, Any] = {}
        self._warner = OnceWarner()
        self.file_writer = _FileWriter(self)

    # The run

    @property
    def run(self) -> Run:
        """The run; reading this begins it."""
        return self._run or self._begin()

    def _begin(self) -> Run:
        """Return the open run; begin or resume one if there is none."""
        if self._given is not None:
            return self._given
        if (run := _open_runs.get(self._key)) is None:
            settings = {**self._settings, **_ended_runs.get(self._key, {})}
            run = open_run(settings.get("run_id") or os.environ.get("RANKZERO_RUN_ID"))
            if run is not None and run not in _open_runs.values():
                self._given = self._run = run  # the script has started it, and ends it
                return run
            if run is not None:
                others = ", ".join(sorted(key for key, each in _open_runs.items() if each is run))
                self._warner.warn(
                    "shared",
                    f"the SummaryWriter of {self._key} logs to the run {run.name}, as does that of {others}: the same "
                    "tags are one metric. Give them different tags, or leave out run_id and RANKZERO_RUN_ID",
                )
            run = run or start_in_training(**settings)
            if self._purge_step is not None:
                run.rewind(self._purge_step - 1)
            if not self._log_dir and run.is_active:
                self._key = os.path.realpath(run.dir)
            _open_runs[self._key] = run
        self._run = run
        return run

    def _end_own_run(self) -> None:
        if self._given is None and (run := _open_runs.get(self._key)) is not None:
            for key in [key for key, each in _open_runs.items() if each is run]:
                del _open_runs[key]
                if run.is_active:
                    _ended_runs[key] = {"run_id": run.id, "project": run.project}
            run.finish()

    @property
    def log_dir(self) -> str:
        """The directory of the writer, for files of the script."""
        return self._log_dir or self.run.log_dir

    def get_logdir(self) -> str:
        """Return `log_dir`."""
        return self.log_dir

    def _get_file_writer(self) -> _FileWriter:
        return self.file_writer

    def flush(self) -> None:
        """Do nothing: everything is in the journal already. This does not wait for trackers."""

    # Numbers

    def add_scalar(
        self, tag: str, scalar_value: Any, global_step: Step = None, walltime: Time = None, *_: Any, **__: Any
    ) -> None:
        """Log a metric."""
        self._log_metrics(tag, {tag: scalar_value}, global_step, walltime)

    def add_scalars(
        self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: Step = None, walltime: Time = None,
        **_: Any,
    ) -> None:  # fmt: skip
        """Log metrics ``main_tag/NAME``, by which trackers group charts; torch creates a run for each curve."""
        values = {f"{main_tag}/{name}": value for name, value in tag_scalar_dict.items()}
        self._log_metrics(main_tag, values, global_step, walltime)

    def _log_metrics(self, tag: str, values: Mapping[str, Any], step: Any, walltime: Time) -> None:
        if step is None:  # in torch all are at step 0, where most trackers keep only the last
            step = self._steps[tag]
            self._steps[tag] += 1
        if walltime is None:
            self._begin().log_metrics(values, to_int(step))
        else:
            self._add_metrics_at(walltime, values, step)

    def _add_metrics_at(self, walltime: float, values: Mapping[str, Any], step: Any) -> None:
        """Log metrics with a given time."""
        numbers = {name: to_number(each) for name, each in values.items()}
        known = {name: to_json_number(number) for name, number in numbers.items() if number is not None}
        self.run.record(Metrics(walltime, to_int(step), known))

    def add_hparams(
        self, hparam_dict: Mapping[str, Any], metric_dict: Mapping[str, Any], hparam_domain_discrete: Any = None,
        run_name: str | None = None, global_step: Step = None, **_: Any,
    ) -> None:  # fmt: skip
        """Log hyperparameters of the run, and metrics.

        torch creates a run for each call. Here a call that contradicts an earlier one belongs to the same run, and its
        hyperparameters and metrics have the prefix ``run_name/``, by default the number of the call.
        """
        self._steps["add_hparams()"] += 1
        params, prefix = to_jsonable(hparam_dict), ""
        if any(self._hparams.get(name, value) != value for name, value in params.items()):
            prefix = f"{run_name or self._steps['add_hparams()']}/"
        else:
            self._hparams.update(params)
        self.run.log_hyperparams({prefix[:-1]: params} if prefix else params)
        for name, value in metric_dict.items():
            self.add_scalar(prefix + name, value, global_step)

    def add_histogram(
        self, tag: str, values: Any, global_step: Step = None, bins: Any = "tensorflow", walltime: Time = None,
        max_bins: int | None = None,
    ) -> None:  # fmt: skip
        """Log a histogram, by default with 64 bins of the same width; other ``bins`` are those of numpy."""
        counted = histogram(values, _BINS if isinstance(bins, str) and bins == "tensorflow" else bins)
        if max_bins is not None and len(counted.counts) > max_bins:
            counted = histogram(values, max_bins)
        self.run.log_histogram(tag, counted, global_step)

    def add_histogram_raw(
        self, tag: str, min: float, max: float, num: float, sum: float, sum_squares: float,
        bucket_limits: Sequence[float], bucket_counts: Sequence[float], global_step: Step = None, walltime: Time = None,
    ) -> None:  # fmt: skip
        """Log a histogram that is counted already; ``bucket_limits`` are the right edges."""
        limits, counts = to_array(bucket_limits).tolist(), to_array(bucket_counts).tolist()
        if limits[-1] > _NO_LIMIT and len(limits) > 1:
            limits[-1] = max if max > limits[-2] else limits[-2]
        if counts[0] == 0:  # it only defines the left edge of the next one
            edges, counts = limits, counts[1:]
        else:
            edges = [min if min < limits[0] else limits[0], *limits]
        self.run.log_histogram(tag, Histogram(counts, edges), global_step)

    # Pictures, sounds and texts

    def add_image(
        self, tag: str, img_tensor: Any, global_step: Step = None, walltime: Time = None, dataformats: str = "CHW"
    ) -> None:
        """Log an image, or each image of a batch; ``dataformats`` names the dimensions, in any order.

        Values are from 0 to 255 if they are ``uint8``, else from 0 to 1.
        """
        self.run.log_image(tag, _images(img_tensor, dataformats), global_step)

    def add_images(
        self, tag: str, img_tensor: Any, global_step: Step = None, walltime: Time = None, dataformats: str = "NCHW"
    ) -> None:
        """Log a batch as a list of images; torch joins them to one."""
        self.add_image(tag, img_tensor, global_step, walltime, dataformats)

    def add_image_with_boxes(
        self, tag: str, img_tensor: Any, box_tensor: Any, global_step: Step = None, walltime: Time = None,
        rescale: float = 1, dataformats: str = "CHW", labels: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        """Log an image on which boxes (left, top, right, bottom) are drawn in red."""
        image = _picture(_images(img_tensor, dataformats)[0]).convert("RGB")
        _draw(image, to_array(box_tensor).tolist(), labels or ())
        size = [int(each * rescale) for each in image.size]
        self.run.log_image(tag, [image.resize(size, import_pillow().Resampling.LANCZOS)], global_step)

    def add_figure(
        self, tag: str, figure: Any, global_step: Step = None, close: bool = True, walltime: Time = None
    ) -> None:
        """Log a figure, or a list of figures as images."""
        log = self.run.log_image if isinstance(figure, list | tuple) else self.run.log_figure
        log(tag, figure, global_step)
        for each in as_list(figure) if close else ():
            _close(each)

    def add_video(
        self, tag: str, vid_tensor: Any, global_step: Step = None, fps: Any = 4, walltime: Time = None
    ) -> None:
        """Log each video of a batch (N, T, C, H, W)."""
        videos = to_array(vid_tensor)
        frames = _pixels(videos.reshape(-1, *videos.shape[-4:]).transpose(0, 1, 3, 4, 2))
        self.run.log_video(tag, list(frames), global_step, fps=fps)

    def add_audio(
        self, tag: str, snd_tensor: Any, global_step: Step = None, sample_rate: int = 44100, walltime: Time = None
    ) -> None:
        """Log a sound; floats are from -1 to 1, integers are 16-bit samples."""
        samples = to_array(snd_tensor).squeeze()
        if samples.dtype.kind == "f":
            samples = (samples.clip(-1, 1) * _LARGEST_SAMPLE).astype("int16")  # not rounded, as in torch
        self.run.log_audio(tag, [samples], global_step, sample_rate=sample_rate)

    def add_text(self, tag: str, text_string: str, global_step: Step = None, walltime: Time = None) -> None:
        """Log a text."""
        self.run.log_text(tag, text_string, step=global_step)

    # Models and other data

    def add_graph(self, model: Any, input_to_model: Any = None, *_: Any, **__: Any) -> None:
        """Log the modules of a model, without running it."""
        self.run.log_graph(model, input_to_model)

    def add_onnx_graph(self, prototxt: str | os.PathLike[str]) -> None:
        """Log the file of an ONNX model."""
        self.run.log_artifact(prototxt, type="model")

    def add_tensor(self, tag: str, tensor: Any, global_step: Step = None, walltime: Time = None) -> None:
        """Log an array of any shape as an artifact, an ``.npy`` file."""
        file = self.run.media_store.put_bytes(encode_raw(tensor))
        self.run.log_artifact(self.run.dir / file.path, tag, "array", metadata={"step": to_int(global_step)})

    def add_pr_curve(
        self, tag: str, labels: Any, predictions: Any, global_step: Step = None, num_thresholds: int = 127,
        weights: Any = None, walltime: Time = None,
    ) -> None:  # fmt: skip
        """Log a precision-recall curve as a table, with a row for each threshold from 0 to 1."""
        weights = 1.0 if weights is None else to_array(weights).ravel()
        true = to_array(labels).ravel().astype(float)
        places = (to_array(predictions).ravel() * (num_thresholds - 1)).astype(int).clip(0, num_thresholds - 1)
        tp, fp = (_counts_from(places, each * weights, num_thresholds) for each in (true, 1 - true))
        tn, fn = fp[0] - fp, tp[0] - tp
        precision, recall = tp / (tp + fp).clip(_FEWEST), tp / (tp + fn).clip(_FEWEST)
        self.add_pr_curve_raw(tag, tp, fp, tn, fn, precision, recall, global_step)

    def add_pr_curve_raw(
        self, tag: str, true_positive_counts: Any, false_positive_counts: Any, true_negative_counts: Any,
        false_negative_counts: Any, precision: Any, recall: Any, global_step: Step = None, num_thresholds: int = 127,
        weights: Any = None, walltime: Time = None,
    ) -> None:  # fmt: skip
        """Log a precision-recall curve that is computed already, as a table."""
        counts = (true_positive_counts, false_positive_counts, true_negative_counts, false_negative_counts)
        columns = [to_array(each).tolist() for each in (*counts, precision, recall)]
        size = len(columns[0])
        thresholds = [index / max(1, size - 1) for index in range(size)]
        self.run.log_table(tag, _CURVE, zip(thresholds, *columns, strict=True), step=global_step)

    def add_embedding(
        self, mat: Any, metadata: Sequence[Any] | None = None, label_img: Any = None, global_step: Step = None,
        tag: str = "default", metadata_header: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        """Log vectors as an array, and their labels and images as a table ``tag/metadata``."""
        self.add_tensor(tag, mat, global_step)
        columns = list(metadata_header or ["label"]) if metadata is not None else []
        labels = [] if metadata is None else metadata
        rows = [list(each) if metadata_header else [each] for each in labels] or [[] for _ in mat]
        if label_img is not None:
            columns.append("image")
            rows = [[*row, _picture(image)] for row, image in zip(rows, _images(label_img, "NCHW"), strict=True)]
        if columns:
            self.run.log_table(f"{tag}/metadata", columns, rows, step=global_step)

    def add_mesh(
        self, tag: str, vertices: Any, colors: Any = None, faces: Any = None,
        config_dict: Mapping[str, Any] | None = None, global_step: Step = None, walltime: Time = None,
    ) -> None:  # fmt: skip
        """Log vertices and their colours as point clouds, faces as an array ``tag/faces``, a config as a text."""
        points = to_array(vertices)
        if colors is not None:
            points = _with_colours(points, to_array(colors))
        self.run.log_pointcloud(tag, list(points.reshape(-1, *points.shape[-2:])), global_step)
        if faces is not None:
            self.add_tensor(f"{tag}/faces", faces, global_step)
        if config_dict:
            self.run.log_text(f"{tag}/config", json.dumps(to_jsonable(config_dict)), step=global_step)

    def add_custom_scalars(self, layout: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """Log a layout of charts as a table ``custom_scalars``."""
        charts = [(category, title, *chart) for category, each in layout.items() for title, chart in each.items()]
        rows = [[category, title, kind, list(tags)] for category, title, kind, tags in charts]
        self.run.log_table("custom_scalars", ["category", "chart", "kind", "tags"], rows)

    def add_custom_scalars_multilinechart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Log a chart of several metrics; see `add_custom_scalars`."""
        self.add_custom_scalars({category: {title: ["Multiline", tags]}})

    def add_custom_scalars_marginchart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Log a chart of a metric with its bounds; see `add_custom_scalars`."""
        self.add_custom_scalars({category: {title: ["Margin", tags]}})

    def _add_value(self, value: Any, step: Step, walltime: Time) -> None:
        """Log a value of a ``Summary``."""
        match value.WhichOneof("value"):
            case _ if value.metadata.plugin_data.plugin_name == "hparams":
                self.run.log_hyperparams(_session_hparams(value.metadata.plugin_data.content))
            case "simple_value":
                self.add_scalar(value.tag, value.simple_value, step, walltime)
            case kind:
                self._warner.warn(
                    f"{kind}", f"file_writer.add_summary() does not support {kind}: {value.tag} is not logged"
                )


def _on_rank_zero(method: Callable[..., None]) -> Callable[..., None]:
    """Decorate a method: it does nothing on other ranks, and warns instead of raising."""

    @functools.wraps(method)
    def guarded(self: SummaryWriter, /, *args: Any, **kwargs: Any) -> None:
        if not self._begin().is_active:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            name = method.__name__
            self._warner.warn(f"{name} {type(error).__name__}", f"{name}() could not be recorded: {describe(error)}")

    return guarded


for _name in [name for name in vars(SummaryWriter) if name.lstrip("_").startswith("add_")]:
    if _name != "add_scalar":  # it only calls the run, often
        setattr(SummaryWriter, _name, _on_rank_zero(getattr(SummaryWriter, _name)))


class _FileWriter:
    """``SummaryWriter.file_writer``, to which scripts write directly, mostly hyperparameters."""

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer
        self.get_logdir = writer.get_logdir
        self.flush = self.reopen = writer.flush
        self.close = writer.close

    def add_event(self, event: Any, step: Step = None, walltime: Time = None) -> None:
        self.add_summary(event.summary, step, walltime)

    def add_summary(self, summary: Any, global_step: Step = None, walltime: Time = None) -> None:
        for value in summary.value:
            self._writer._add_value(value, global_step, walltime)


# Conversions, with the same pixels and numbers as torch


def _images(value: Any, dataformats: str) -> list[Any]:
    """Return images (H, W) or (H, W, C) of bytes."""
    array, names = to_array(value), dataformats.upper()
    order = [names.index(each) for each in "NHWC" if each in names]
    pixels = _pixels(array.transpose(order))  # raises ValueError if the names do not fit
    return list(pixels) if "N" in names else [pixels]


def _pixels(array: Any) -> Any:
    return array if array.dtype == "uint8" else (array.astype("float32") * 255).clip(0, 255).astype("uint8")


def _picture(pixels: Any) -> Any:
    return import_pillow().fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _draw(image: Any, boxes: Sequence[Sequence[float]], labels: Sequence[str]) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(image)
    for left, top, right, bottom in boxes:
        corners = [(left, top), (left, bottom), (right, bottom), (right, top), (left, top)]
        draw.line(corners, fill="red", width=2)
    for (left, _, _, bottom), label in zip(boxes, labels, strict=False):
        draw.rectangle(draw.textbbox((left, bottom), label, anchor="lb"), fill="red")
        draw.text((left, bottom), label, fill="black", anchor="lb")


def _close(figure: Any) -> None:
    if hasattr(figure, "savefig") and (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close(figure)


def _counts_from(places: Any, weights: Any, size: int) -> Any:
    """Return the sum of the weights at each index and above."""
    import numpy as np

    return np.bincount(places, weights, size)[::-1].cumsum()[::-1]


def _with_colours(points: Any, colours: Any) -> Any:
    import numpy as np

    is_unit = colours.dtype.kind == "f" and colours.size and colours.max() <= 1
    return np.concatenate([points, colours * 255 if is_unit else colours], axis=-1)


def _session_hparams(content: bytes) -> dict[str, Any]:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}
