"""`Recorder`: Lightning's ``self.log`` for any training loop.

It wraps the loop's iterators, so it knows step, epoch and stage. `Recorder.log` collects values, which are written to
the run in rows. It works on every rank, so that all can read the reduced values; only rank zero writes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from rankzero.errors import RecorderError
from rankzero.messages import warn_user
from rankzero.rank import is_rank_zero
from rankzero.recorder.batches import Batches, length_of, total_length
from rankzero.recorder.gradient_norms import gradient_norms
from rankzero.recorder.latest_values import LatestValues
from rankzero.recorder.learning_rates import LearningRateMonitor
from rankzero.recorder.log_options import Phase
from rankzero.recorder.progress import make_progress
from rankzero.recorder.rows import MetricsWriter, Rows
from rankzero.recorder.syncing import Syncing
from rankzero.recorder.training_loop import TrainingLoop
from rankzero.recorder.values import detached_copy, is_collection, is_tensor


class Recorder:
    """Collects the values of a training loop, and writes them to a run; created by `Run.recorder`.

    Args:
        run: the run to log to.
        log_every_n_steps: write step values at every n-th optimizer step; 0 for never.
        accumulate_grad_batches: the number of batches in an optimizer step, see `should_step`.
        sync_dist: the default of `log`'s ``sync_dist``. With True, each rank takes part in the reduction at the end of
            each loop, even if it had no batch.
        progress_bar: ``"rich"``, ``"tqdm"``, None or False for none, or ``"auto"``: rich in a terminal, tqdm in a
            notebook. There is none on other ranks than zero, in CI, and if standard error is not a terminal.

    Raises:
        RecorderError: a number is negative, or the progress bar is unknown.
    """

    def __init__(
        self,
        run: MetricsWriter,
        *,
        log_every_n_steps: int = 50,
        accumulate_grad_batches: int = 1,
        sync_dist: bool = False,
        progress_bar: str | Literal[False] | None = "auto",
    ) -> None:
        every = _checked_count("log_every_n_steps", log_every_n_steps, least=0)
        accumulate = _checked_count("accumulate_grad_batches", accumulate_grad_batches, least=1)
        self._sync_dist = sync_dist
        self._latest = LatestValues()
        self._rows = Rows(run, Syncing(is_default=sync_dist), self._latest)
        # On another rank, reading the run's id may wait.
        progress = make_progress(progress_bar, run.version if is_rank_zero() else "")
        self._training = TrainingLoop(
            self._rows, progress, self._read_learning_rates, every=every, accumulate=accumulate
        )
        self._monitors: list[LearningRateMonitor] = []
        self._resumed_at = getattr(run, "step", -1) if getattr(run, "resumed", False) else -1
        self._rewind = run.rewind
        run.follow(self._training.current_step)
        run.call_at_end(self.close)

    # State

    @property
    def epoch(self) -> int:
        """The number of the epoch, from 0; after the last one, the number of epochs."""
        return self._training.state.epoch

    @property
    def global_step(self) -> int:
        """The number of completed optimizer steps; in the body of `train`, the number of the current step."""
        return self._training.state.global_step

    @property
    def batch_idx(self) -> int:
        """The number of the batch in its loop, from 0; -1 outside of loops."""
        return -1 if self._training.loop is None else self._training.loop.batch_idx

    @property
    def dataloader_idx(self) -> int | None:
        """The number of the loader in `validate` or `test`, from 0; None if there is only one."""
        return None if self._training.loop is None else self._training.loop.dataloader_idx

    @property
    def should_step(self) -> bool:
        """Whether the optimizer steps with this batch.

        True at every ``accumulate_grad_batches``-th batch, and at the last one.
        """
        return self._training.should_step

    @property
    def should_log(self) -> bool:
        """Whether the step values of this batch are written; check it before computing expensive values."""
        return self._training.loop is not None and self._training.loop.is_due

    # Loops

    def epochs(self, max_epochs: int) -> Iterator[int]:
        """Return the numbers of the epochs up to ``max_epochs``, from `epoch` on, to iterate over.

        An epoch that was left by an exception is repeated by the next call. For another training, such as another fold,
        create another recorder.

        Raises:
            RecorderError: ``max_epochs`` is negative.
        """
        return self._training.epochs(_checked_count("max_epochs", max_epochs, least=0))

    def train(self, batches: Iterable[Any]) -> Batches:
        """Return the batches to train with, to iterate over; this counts optimizer steps.

        The batch in which the loop is left counts if anything was logged in it. Without `epochs` around it, each call
        is an epoch, which lasts until the next call. With ``accumulate_grad_batches`` above 1, each batch is fetched
        one batch early, to detect the last one.

        Args:
            batches: a DataLoader, or anything else that can be iterated over.
        """
        self._warn_of_beginning_anew()
        return Batches(lambda: self._training.train(batches), length_of(batches))

    def _warn_of_beginning_anew(self) -> None:
        if self.global_step == 0 and self._resumed_at >= 0 and is_rank_zero():
            warn_user(
                f"the run continues after step {self._resumed_at}, but its recorder counts steps from 0. To continue "
                "where training stopped, save rec.state_dict() with each checkpoint and pass it to load_state_dict()"
            )
        self._resumed_at = -1

    def validate(self, *loaders: Iterable[Any]) -> Batches:
        """Return the batches of each loader in turn, to iterate over; also in the body of `train`.

        Raises:
            RecorderError: there is no loader.
        """
        return self._evaluation("validate", loaders)

    def test(self, *loaders: Iterable[Any]) -> Batches:
        """Return the batches of each loader in turn, to iterate over.

        Raises:
            RecorderError: there is no loader.
        """
        return self._evaluation("test", loaders)

    def sanity_check(self, *loaders: Iterable[Any], limit: int = 2) -> Batches:
        """Return the first ``limit`` batches of each loader: a validation that writes and keeps no values.

        Raises:
            RecorderError: there is no loader, or ``limit`` is negative.
        """
        return self._evaluation("validate", loaders, _checked_count("limit", limit, least=0))

    def _evaluation(self, stage: str, loaders: tuple[Iterable[Any], ...], limit: int | None = None) -> Batches:
        if not loaders:
            raise RecorderError(f"rec.{stage}() needs at least one dataloader")
        if isinstance(loaders[0], list | tuple) and any(hasattr(each, "dataset") for each in loaders[0]):
            raise RecorderError(f"rec.{stage}() takes several dataloaders one by one: rec.{stage}(*loaders)")
        return Batches(lambda: self._training.evaluate(stage, loaders, limit), total_length(loaders, limit))

    # Logging

    def log(
        self,
        name: str,
        value: Any = None,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        enable_graph: bool = False,
        sync_dist: bool | None = None,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: Any = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Log one value, without waiting for its device. After the end of the run, this does nothing.

        Args:
            name: the metric's name. With both ``on_step`` and ``on_epoch`` it is written as ``name_step`` and
                ``name_epoch``. The name ``step`` is the x-axis: its value becomes the step of the row.
            value: a number, a tensor of one element, or a ``torchmetrics.Metric`` (computed and reset at the end of the
                loop).
            prog_bar: show it in the progress bar.
            logger: write it to the run; True by default. If False it can only be read.
            on_step: write the value of the step. By default True in the body of `train`, else False.
            on_epoch: write the values of the whole loop, reduced, when it ends. By default False in the body of
                `train`, else True.
            reduce_fx: ``"mean"`` (weighted by batch size), ``"sum"``, ``"min"`` or ``"max"``, or torch's or Python's
                function of that name. Values are accumulated in float64, or float32 where a device has no float64.
            enable_graph: keep the graph of the value, for `tensor`.
            sync_dist: reduce over all ranks, which all must log it; the recorder's ``sync_dist`` by default. All values
                that are due at a time take one all_reduce for each group.
            sync_dist_group: reduce over the ranks of this ``torch.distributed`` group only.
            add_dataloader_idx: add ``/dataloader_idx_N`` to the name where there are several loaders.
            batch_size: the weight in a mean, a number or a tensor of one element, such as a count of tokens; by default
                the length of the first tensor in the batch.
            metric_attribute: ignored; for compatibility with Lightning.
            rank_zero_only: only rank zero logs this value; it is not reduced, and cannot be read.

        Raises:
            RecorderError: the value or an option is invalid, or nothing can be logged here.
        """
        training = self._training
        if training.is_closed:
            return
        if training.has_left_loops:
            training.complete_left()
        loop = training.loop_to_log_to(name)
        given = (
            prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph,
            self._sync_dist if sync_dist is None else sync_dist,
            sync_dist_group, add_dataloader_idx, metric_attribute, rank_zero_only,
        )  # fmt: skip
        metric = loop.add(name, value, given, batch_size)
        if prog_bar and metric.on_step and loop.is_kept:
            self._rows.shown[metric.step.name] = metric.last

    def log_dict(self, values: Mapping[str, Any], **options: Any) -> None:
        """Log several values with the same options, those of `log`.

        Args:
            values: name → value, not nested; or a ``torchmetrics.MetricCollection``.
            **options: those of `log`.

        Raises:
            RecorderError: as `log`.
        """
        if is_collection(values):
            pairs = values.items(keep_base=False, copy_state=False)  # type: ignore[call-arg]
        elif isinstance(values, Mapping):
            pairs = values.items()
        else:
            raise RecorderError(f"log_dict() needs a mapping from name to value, not {type(values).__name__}")
        for name, value in pairs:
            self.log(name, value, **options)

    def log_grad_norm(
        self, module: Any, norm_type: float = 2.0, *, per_parameter: bool = False, **options: Any
    ) -> None:
        """Log the norm of a module's gradients, if this step is written.

        Call it between ``backward()`` and ``step()``; with a gradient scaler, after its ``unscale_()``.

        Args:
            module: a ``torch.nn.Module``, or parameters.
            norm_type: the p of the p-norm; ``float("inf")`` for the maximum.
            per_parameter: log each parameter's norm as ``grad_2.0_norm/NAME``, too, beside ``grad_2.0_norm_total``.
            **options: those of `log`.

        Raises:
            RecorderError: outside of the body of `train`; or ``norm_type`` is not positive.
        """
        if self._training.loop is None or self._training.loop.phase is not Phase.TRAIN:
            raise RecorderError("call log_grad_norm() in the body of rec.train(), after backward()")
        if self.should_log:
            self.log_dict(gradient_norms(module, norm_type, per_parameter), **options)

    def monitor_learning_rate(
        self,
        *optimizers: Any,
        logging_interval: str = "step",
        log_momentum: bool = False,
        log_weight_decay: bool = False,
        log_key_prefix: str = "",
    ) -> None:
        """Log the learning rates of optimizers from now on, named as by Lightning's LearningRateMonitor.

        Args:
            *optimizers: torch optimizers or learning rate schedulers.
            logging_interval: ``"step"``: at each step that is written; ``"epoch"``: when a train loop begins.
            log_momentum: log the momentum, too (Adam's first beta).
            log_weight_decay: log the weight decay, too.
            log_key_prefix: put before each name, such as ``lr-Adam`` or ``lr-SGD/pg1``.

        Raises:
            RecorderError: an argument is invalid, or a name is monitored already.
        """
        monitor = LearningRateMonitor(
            optimizers,
            logging_interval=logging_interval,
            log_momentum=log_momentum,
            log_weight_decay=log_weight_decay,
            log_key_prefix=log_key_prefix,
        )
        taken = {name for each in self._monitors for name in each.read()} & set(monitor.read())
        if taken:
            raise RecorderError(
                f"{min(taken)!r} is monitored already; pass all optimizers in one call, which numbers them, or pass a "
                "log_key_prefix"
            )
        self._monitors.append(monitor)

    # Reading

    def __getitem__(self, name: str) -> float:
        """Return the newest value of a metric, for a scheduler or early stopping; this waits for its device.

        A value with ``sync_dist`` that is not reduced yet (of a step whose row is not written, of a loop that was left
        by ``break``, or between the loops) is reduced now. So all ranks must read it; `metrics` needs no other rank.

        Raises:
            KeyError: nothing was logged with this name, or on rank zero only.
        """
        return _as_float(self._read(name))

    def tensor(self, name: str) -> Any:
        """Return the newest value of a metric as a tensor without dimensions, without waiting for its device.

        Raises:
            KeyError: as for ``rec[name]``.
        """
        import torch

        value = self._read(name)
        return value if is_tensor(value) else torch.tensor(value)

    def __contains__(self, name: object) -> bool:
        return name in self._readable()

    def __iter__(self) -> Iterator[str]:
        """Yield the names that can be read."""
        return iter(self._readable())

    @property
    def metrics(self) -> dict[str, float]:
        """The newest value of each metric; if it is not reduced yet, the newest that is, if any."""
        return {name: _as_float(value) for name, value in self._readable().items()}

    def _read(self, name: str) -> Any:
        self._training.complete_left_for(name)
        return self._latest.get(name, self._training.readable_loops())

    def _readable(self) -> dict[str, Any]:
        self._training.complete_left_alone()
        return self._latest.all(self._training.readable_loops())

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return the state of training, for a checkpoint; ``epoch`` is the epoch to continue with.

        This is the next one at the end of an epoch. In the body of `train`, the epoch will be repeated, and the current
        step does not count yet.
        """
        return self._training.state.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned; in the body of `epochs`, with the next epoch.

        The run is rewound to the last step before, as `Run.rewind` does.

        Raises:
            RecorderError: ``state`` does not come from `state_dict`.
        """
        self._training.leave_all()
        self._training.complete_left()
        self._training.complete_between()
        self._training.state.load_state_dict(state)
        self._rewind(self.global_step - 1)

    def close(self, status: str = "success") -> None:
        """Write the collected values, unless training failed; called when the run ends; does not wait for other ranks.

        Later log calls are not recorded.
        """
        if not self._training.is_closed:
            self._training.close(is_written=status == "success")

    def _read_learning_rates(self, interval: str) -> dict[str, Any]:
        rates = {
            name: detached_copy(rate)
            for monitor in self._monitors
            if monitor.logging_interval == interval
            for name, rate in monitor.read().items()
        }
        self._latest.note_plain(rates)
        return rates


def _checked_count(name: str, value: Any, *, least: int) -> int:
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None or count < least:
        raise RecorderError(f"{name} must be a whole number from {least} on, not {value!r}")
    return count


def _as_float(value: Any) -> float:
    return float(value.detach() if is_tensor(value) else value)
