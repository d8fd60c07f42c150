"""`TensorBoardLogger`: writes a run to TensorBoard's event files."""

from __future__ import annotations

import os
import re
import shlex
import socket
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

from rankzero.errors import TrackerUnavailableError
from rankzero.events.run_info import RunInfo, TrackedMetrics
from rankzero.events.structs import Rewind
from rankzero.files.directories import check_writable, is_url, next_version
from rankzero.loggers.adapter import TrackerLogger
from rankzero.loggers.csv import hparams
from rankzero.loggers.sdk_errors import Failure, Rule
from rankzero.media.store import MediaFile
from rankzero.values import Number, as_utf8, flatten

if TYPE_CHECKING:
    from rankzero_tensorboard.session import EventSession

_DEFAULT_NAME = "lightning_logs"
_GENERATED_ID_LENGTH = 32
_numbers = count()


class TensorBoardLogger(TrackerLogger):
    """Writes a run as event files, without TensorFlow or torch.

    Used directly, it writes each value at once to ``save_dir/name/version_N``. Under a Run it writes to
    ``<runs>/tensorboard/<project>/<the run's name and id>``, or to ``save_dir/<project>/<the same>``, and each value
    arrives exactly once, also after crashes.

    Args:
        save_dir: a directory, in which ``~`` and ``$VAR`` are expanded, or an fsspec URL such as ``s3://bucket/logs``
            (needs ``rankzero-tensorboard[remote]``). In direct use the working directory if not given.
        name: the directory below ``save_dir``; none if empty or None. Under a Run ``lightning_logs`` stands for the
            project's name.
        version: a number N for ``version_N``, or a directory's name. In direct use the next free number if not given.
        log_graph: in direct use, trace the model that a framework passes; needs torch. Under a Run the modules of a
            logged model are shown without it.
        default_hp_metric: in direct use, log ``hp_metric`` as -1 if hyperparameters are logged without metrics.
        prefix: put before the names of metrics, followed by ``-``.
        sub_dir: a directory below the version's.
        comment: ignored, as by a ``SummaryWriter`` with a directory.
        purge_step: in direct use, hide data that earlier processes logged at this step and later.
        max_queue: ignored; in direct use data is written at once, under a Run by the courier.
        flush_secs: in direct use with a URL, the longest time in seconds before data is uploaded.
        filename_suffix: appended to the names of event files.
        root_dir: the same as ``save_dir``; its name in Lightning's Fabric.
    """

    NAME_HPARAMS_FILE = hparams.NAME

    sub_dir: str | None = None
    """The directory below the version's, as given."""

    sdk = "tensorboard"
    tracker = "TensorBoard"
    errors = (Rule(TrackerUnavailableError, error=("OSError",)),)
    statuses: ClassVar[Mapping[str, Any]] = {"success": "STATUS_SUCCESS", "failed": "STATUS_FAILURE"}
    epoch_metric = None
    media_options = None
    reopens_after_failed_flush = True
    supports_join = True
    counts_lines = True
    captures = frozenset(["rewind"])
    writes_only_files = True
    keeps_files = False

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
        super().__init__(prefix=prefix)
        save_dir = root_dir if save_dir is None else save_dir
        self._save_dir = None if save_dir is None else _expand(save_dir)
        self._name = name or ""
        self._version = version
        self._next_version: int | None = None
        self.sub_dir = None if sub_dir is None else os.fspath(sub_dir)
        self._purge_step = purge_step
        self._flush_secs = flush_secs
        self._suffix = filename_suffix
        self._log_graph = log_graph
        self._default_hp_metric = default_hp_metric
        self._reset()
        self.hparams: dict[str, Any] = {}
        """The hyperparameters that were logged."""

    def _reset(self) -> None:
        self._events: EventSession | None = None  # after a close it continues its file
        self._experiment: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_events": None, "_experiment": None}

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
            return _directory_of(self.run_info)
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
        # A name from a journal is not expanded: another user may have written it.
        return os.path.join(self.save_dir, self.name if self._is_named_by_run else _expand(self.name))

    @property
    def log_dir(self) -> str:
        version = self.version
        last = version if isinstance(version, str) else f"version_{version}"
        last = last if self._version is None else _expand(last)
        return os.path.join(self.root_dir, last, *map(_expand, filter(None, [self.sub_dir])))

    def how_to_view(self) -> str:
        root = self.root_dir
        return f"tensorboard --logdir {shlex.quote(root if is_url(root) else os.path.abspath(root))}"

    # The session

    def check_login(self) -> None:
        check_writable(self._save_dir)

    def open(self, run: RunInfo | None) -> EventSession:
        if self._events is None:  # all couriers of a run continue the same file
            self._events = self._make_session(run, _unique_part()) if run is None else self._courier_session(run)
        return self._events

    def _courier_session(self, run: RunInfo) -> EventSession:
        return self._make_session(run, f"{_safe_part(run.id)}.values", buffers=True)

    def read_points(self, run: RunInfo, names: Sequence[str]) -> TrackedMetrics:
        found: dict[str, list[tuple[int, Number]]] = {name: [] for name in names}
        for event in self._courier_session(run).read_numbers():
            if isinstance(event, Rewind):
                for points in found.values():
                    points[:] = [point for point in points if point[0] <= event.step]
                continue
            for name, number in event.numbers().items():
                if name in found:
                    found[name].append((event.step or 0, number))
        return found

    def _make_session(self, run: RunInfo | None, name: str, *, buffers: bool = False) -> EventSession:
        from rankzero_tensorboard.session import EventSession

        began = time.time() if run is None else run.started
        return EventSession(
            self.log_dir,
            f"events.out.tfevents.{int(began):010}.{name}{self._suffix}",
            began,
            buffers=buffers,
            flush_secs=self._flush_secs,
            purge_step=self._purge_step if run is None else None,
        )

    def discard(self) -> None:
        super().discard()
        self._reset()

    def read_failure(self, error: BaseException) -> Failure:
        return Failure(f"{self.log_dir} cannot be written: {error}")

    def open_experiment(self) -> Any:
        """Return a ``torch.utils.tensorboard.SummaryWriter`` that writes into ``log_dir``.

        In direct use it shares the logger's event file. Under a Run it has its own file beside the courier's, and its
        data is not in the journal.
        """
        if self._experiment is None:
            from rankzero_tensorboard.experiment import Experiment

            run = self.run_info
            session = self.session if run is None else self._session_beside_courier(run)
            owns = run is not None
            self._experiment = Experiment(self.log_dir, session, owns_session=owns, filename_suffix=self._suffix)
        return self._experiment

    def _session_beside_courier(self, run: RunInfo) -> EventSession:
        # Sorted before the courier's file: without its data server TensorBoard follows only the last file.
        return self._make_session(run, f"{_safe_part(run.id)}.experiment.{_unique_part()}")

    # Delivery

    def watermark(self) -> int:
        with self.acknowledging():
            return int(self.session.lines)

    def flush(self) -> None:
        super().flush()
        self._flush_experiment()

    def finalize(self, status: str = "success") -> None:
        super().finalize(status)
        self._flush_experiment()

    def _flush_experiment(self) -> None:
        if self._experiment is not None:
            with self.acknowledging():
                self._experiment.flush()

    def close(self) -> None:
        experiment, self._experiment = self._experiment, None
        if experiment is not None:
            with self.acknowledging():
                experiment.close()
        super().close()

    # Verbs

    def rewind(self, step: int) -> None:
        with self.writing() as session:
            session.rewind(step, self.context)

    def log_hyperparams(
        self,
        params: Mapping[str, Any] | Namespace | None = None,
        metrics: Any = None,
        step: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        values = vars(params) if isinstance(params, Namespace) else dict(params or {})
        self.hparams.update(values)
        initial = {"hp_metric": metrics} if metrics is not None and not isinstance(metrics, Mapping) else metrics or {}
        with self.writing() as session, self.translated():
            is_first = not session.hparams.values
            session.hparams.add(values, [self.prefix + as_utf8(name) for name, _ in flatten(initial)])
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


def _directory_of(run: RunInfo) -> str:
    # A generated id begins with the date; its end is random.
    return f"{_safe_part(run.name)}-{run.id[-8:] if len(run.id) == _GENERATED_ID_LENGTH else run.id}"


def _expand(path: str | os.PathLike[str]) -> str:
    """Expand ``~`` and ``$VAR`` in a path, and ``$VAR`` in a URL."""
    text = os.path.expandvars(os.fspath(path))
    return text if is_url(text) else os.path.expanduser(text)


def _unique_part() -> str:
    return f"{socket.gethostname()}.{os.getpid()}.{next(_numbers):04}"  # sorts by age


def _safe_part(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "run"
