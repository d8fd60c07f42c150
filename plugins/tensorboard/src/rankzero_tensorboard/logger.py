"""`TensorBoardLogger`: a run as TensorBoard's event files."""

from __future__ import annotations

import math
import os
import shlex
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from rankzero.errors import PluginNotInstalledError, TrackerUnavailableError
from rankzero.events.run_info import LogContext, MetricsRow, RunInfo
from rankzero.files.directories import is_url, next_version
from rankzero.loggers.csv import hparams
from rankzero.media.store import MediaFile
from rankzero.plugins.entry_points import is_installed
from rankzero.values import Number, as_utf8, flatten, split_metrics, to_number
from rankzero_tensorboard.media_verbs import MediaVerbs
from rankzero_tensorboard.run_directory import expand, label
from rankzero_tensorboard.writers import Writers

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    from rankzero_tensorboard.run_writer import RunWriter

_DEFAULT_NAME = "lightning_logs"
_LARGEST_FLOAT32 = 3.4028234663852886e38


class TensorBoardLogger(MediaVerbs):
    """Writes a run as event files, without TensorFlow or torch.

    Used directly, it writes to ``save_dir/name/version_N``, each value at once. Under a Run it writes to
    ``<runs>/tensorboard/<project>/<the run's name and id>``, or to ``save_dir/<project>/<the same>``, and each value
    is there exactly once, whatever crashed in between.

    Args:
        save_dir: a directory, in which ``~`` and ``$VAR`` are replaced, or an fsspec URL such as ``s3://bucket/logs``
            (needs ``rankzero-tensorboard[remote]``). In direct use the working directory if not given.
        name: the directory below ``save_dir``; none if empty or None. Under a Run ``lightning_logs`` stands for the
            project's name.
        version: a number N for ``version_N``, or a directory's name. In direct use the next free number if not given.
        log_graph: in direct use, trace the model that a framework hands over; needs torch. Under a Run the modules of
            a model that was logged are shown anyway.
        default_hp_metric: in direct use, log ``hp_metric`` as -1 with hyperparameters that come without metrics.
        prefix: put before the names of metrics, with a ``-``.
        sub_dir: a directory below the version's.
        comment: without effect, as for a ``SummaryWriter`` that is told its directory.
        purge_step: in direct use, hide what a former process logged at this step and later.
        max_queue: without effect: in direct use nothing waits in memory, and under a Run a courier says when to write.
        flush_secs: in direct use behind a URL, for how many seconds values may wait for an upload.
        filename_suffix: put behind the names of event files.
        root_dir: the same as ``save_dir``: what the logger of Lightning's Fabric calls it.
    """

    supports_join = True
    counts_lines = True
    LOGGER_JOIN_CHAR = "-"
    NAME_HPARAMS_FILE = hparams.NAME

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = _DEFAULT_NAME,
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool = True,
        prefix: str = "",
        sub_dir: str | os.PathLike[str] | None = None,
        *,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: float = 120,
        filename_suffix: str = "",
        root_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if not is_installed("tensorboard"):
            raise PluginNotInstalledError("TensorBoardLogger needs tensorboard: pip install tensorboard")
        super().__init__()
        save_dir = root_dir if save_dir is None else save_dir
        self._save_dir = None if save_dir is None else expand(save_dir)
        self._name = name or ""
        self._version = version
        self._next_version: int | None = None
        self._sub_dir = None if sub_dir is None else os.fspath(sub_dir)
        self._writers = Writers(filename_suffix, flush_secs, purge_step)
        self._experiment: Any = None
        self._log_graph = log_graph
        self._default_hp_metric = default_hp_metric
        self._prefix = f"{prefix}{self.LOGGER_JOIN_CHAR}" if prefix else ""
        self._suffix = filename_suffix
        self._stepless = 0
        self.hparams: dict[str, Any] = {}
        """The hyperparameters that this logger was given."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_experiment": None}

    # Identity

    @property
    def name(self) -> str:
        return self.run_info.project if self._is_named_by_run and self.run_info is not None else self._name

    @property
    def _is_named_by_run(self) -> bool:
        return self.run_info is not None and self._name == _DEFAULT_NAME

    @property
    def version(self) -> int | str:
        if self._version is not None:
            return self._version
        if self.run_info is not None:
            return label(self.run_info)
        if self._next_version is None:
            self._next_version = next_version(self.root_dir)
        return self._next_version

    @property
    def save_dir(self) -> str:
        if self._save_dir is not None:
            return self._save_dir
        return os.getcwd() if self.run_info is None else os.path.join(self.run_info.runs_dir, "tensorboard")

    @property
    def root_dir(self) -> str:
        # What a journal says is not expanded: somebody else may have written it.
        return os.path.join(self.save_dir, self.name if self._is_named_by_run else expand(self.name))

    @property
    def sub_dir(self) -> str | None:
        """As given."""
        return self._sub_dir

    @property
    def log_dir(self) -> str:
        version = self.version
        last = version if isinstance(version, str) else f"version_{version}"
        last = last if self._version is None else expand(last)
        return os.path.join(self.root_dir, last, *map(expand, filter(None, [self.sub_dir])))

    @property
    def experiment(self) -> Any:
        """A ``torch.utils.tensorboard.SummaryWriter`` that writes into ``log_dir``.

        In direct use it shares the logger's event file. Under a Run it has one of its own beside the courier's, and
        what it writes is in no journal.
        """
        if self._experiment is None:
            from rankzero_tensorboard.experiment import Experiment

            directory, run = self.log_dir, self.run_info
            # No method of this logger: a cycle would keep it, and what it has still to upload, alive.
            writers = self._writers
            open_writer = partial(writers.joined, directory, run) if run else partial(writers.main, directory, run)
            self._experiment = Experiment(directory, open_writer, filename_suffix=self._suffix)
        return self._experiment

    def how_to_view(self) -> str:
        root = self.root_dir
        return f"tensorboard --logdir {shlex.quote(root if is_url(root) else os.path.abspath(root))}"

    # Delivery

    def attach(self, run: RunInfo) -> None:
        self._writers.forget()  # what was not flushed is handed over again
        self._experiment = None
        super().attach(run)

    def watermark(self) -> int:
        with self._writing():
            return self._writer().lines

    def flush(self) -> None:
        with self._writing():
            self._writers.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self.run_info is not None:
                self._writers.forget()  # what was not written is handed over again
            raise TrackerUnavailableError(f"{self.log_dir} cannot be written: {error}") from error

    # Verbs

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        context = self.context
        step = self._step(step, context)
        self._log_scalars(metrics if self.run_info else self._numbers(metrics, step), step, context)

    def log_metrics_batch(self, rows: Sequence[MetricsRow]) -> None:
        for row in rows:
            self._log_scalars(row.values, self._step(row.step, row.context), row.context)

    def _log_scalars(self, values: Mapping[str, Number], step: int, context: LogContext) -> None:
        too_large = [name for name, value in values.items() if _LARGEST_FLOAT32 < abs(value) < math.inf]
        if too_large:
            self._say_once("float32", f"TensorBoard's numbers are float32, in which {too_large[0]!r} is infinite")
            values = {**values, **{name: math.inf if values[name] > 0 else -math.inf for name in too_large}}
        if self._prefix:
            values = {f"{self._prefix}{name}": value for name, value in values.items()}
        if values:
            self._writer().add_scalars(values, step, context)

    def _numbers(self, metrics: Mapping[str, Any], step: int) -> dict[str, Number]:
        """Return what is a number among what anyone may log; log the rest as text."""
        split = split_metrics(metrics)
        for name, value in split.rest.items():
            if value is None:
                self._say_once(f"None {name}", f"the metric {name!r} was None; there is nothing to write")
            else:
                self.log_text(name, columns=["value"], data=[[value]], step=step)
        awaited = {name: to_number(value) for name, value in split.on_device.items()}
        numbers = {**split.numbers, **{name: value for name, value in awaited.items() if value is not None}}
        return {as_utf8(name): value for name, value in numbers.items()}

    def log_hyperparams(
        self,
        params: dict[str, Any] | Namespace | None = None,
        metrics: Any = None,
        step: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        values = vars(params) if isinstance(params, Namespace) else dict(params or {})
        self.hparams.update(values)
        initial = {"hp_metric": metrics} if metrics is not None and not isinstance(metrics, Mapping) else metrics or {}
        with self._writing():
            known = self._writer().hparams
            is_first = not known.values
            known.add(values, [f"{self._prefix}{as_utf8(name)}" for name, _ in flatten(initial)])
        if metrics is None and values and is_first and self._default_hp_metric and self.run_info is None:
            initial = {"hp_metric": -1}
        if initial:
            self.log_metrics(dict(initial), step or 0)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        if self._log_graph and not isinstance(model, MediaFile):
            from rankzero_tensorboard.experiment import trace

            trace(self.experiment, model, input_array)
        else:
            super().log_graph(model, input_array)

    def _writer(self) -> RunWriter:
        return self._writers.main(self.log_dir, self.run_info)

    def _add_summary(self, summary: Summary, step: int | None) -> None:
        context = self.context
        self._writer().add_summary(summary, self._step(step, context), context)

    def _add_event(self, event: Event) -> None:
        self._writer().add(event, self.context.line)

    def _step(self, step: int | None, context: LogContext) -> int:
        """Return the step; without one, the event's line in the journal, or a number that counts up."""
        if step is not None:
            return int(step)
        if context.line is not None:
            return context.line
        self._stepless += 1
        return self._stepless - 1

    # Endings

    def save(self) -> None:
        """Do nothing: in direct use every value is written already, and under a Run a courier calls `flush`."""

    def finalize(self, status: str) -> None:
        if self._writers.is_open or self.run_info is not None:
            with self._writing():
                self._writer().hparams.end(status, self.context.time)
        if self._experiment is not None:
            self._experiment.flush()
        self.flush()

    def close(self) -> None:
        if self._experiment is not None:
            self._experiment.close()
            self._experiment = None
        with self._writing():
            self._writers.close()
