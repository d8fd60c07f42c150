"""`Recorder`: what Lightning's ``self.log`` does, for any training loop.

It wraps the loop's iterators, and so knows step, epoch and stage; `Recorder.log` gathers values, and rows go to the
run when they are due. It works on every rank, so that all of them can read what they agreed on; only rank zero writes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rankzero.errors import RecorderError
from rankzero.messages import warn_user
from rankzero.rank import is_rank_zero
from rankzero.recorder.batches import Batches, length_of, total_length
from rankzero.recorder.gradient_norms import gradient_norms
from rankzero.recorder.latest_values import Readings
from rankzero.recorder.learning_rates import LearningRateMonitor
from rankzero.recorder.options import Place
from rankzero.recorder.progress import make_progress
from rankzero.recorder.rows import MetricsWriter, Rows
from rankzero.recorder.syncing import Syncing
from rankzero.recorder.training_loop import Course
from rankzero.recorder.values import detached_copy, is_collection, is_tensor


class Recorder:
    """Gathers what a training loop logs, and writes it to a run; made by `Run.recorder`.

    Args:
        run: where the rows go.
        log_every_n_steps: step values are written at every n-th optimizer step; 0 for never.
        accumulate_grad_batches: of how many batches an optimizer step gathers the gradients, see `should_step`.
        sync_dist: the default of `log`'s ``sync_dist``. True here makes each rank take part in the reduction at the end
            of each loop, also one that had no batch in it.
        progress_bar: ``"rich"``, ``"tqdm"``, None for none, or ``"auto"``: rich in a terminal, tqdm in a notebook.
            There is none on other ranks than zero, in CI, and where standard error is no terminal.

    Raises:
        RecorderError: a number is negative, or the progress bar unknown.
    """

    def __init__(
        self,
        run: MetricsWriter,
        *,
        log_every_n_steps: int = 50,
        accumulate_grad_batches: int = 1,
        sync_dist: bool = False,
        progress_bar: str | None = "auto",
    ) -> None:
        every = _checked_count("log_every_n_steps", log_every_n_steps, least=0)
        accumulate = _checked_count("accumulate_grad_batches", accumulate_grad_batches, least=1)
        self._sync_dist = sync_dist
        self._readings = Readings()
        self._rows = Rows(run, Syncing(is_default=sync_dist), self._readings)
        # Another rank may have to wait for the run's id.
        progress = make_progress(progress_bar, run.version if is_rank_zero() else "")
        self._course = Course(self._rows, progress, self._read_learning_rates, every=every, accumulate=accumulate)
        self._monitors: list[LearningRateMonitor] = []
        self._resumed_at = getattr(run, "step", -1) if getattr(run, "resumed", False) else -1
        run.call_at_end(self.close)

    # Where training stands

    @property
    def epoch(self) -> int:
        """The number of the epoch, from 0; after the last one, how many there were."""
        return self._course.position.epoch

    @property
    def global_step(self) -> int:
        """How many optimizer steps are done: the number of the step that the body of `train` is about."""
        return self._course.position.global_step

    @property
    def batch_idx(self) -> int:
        """The number of the batch in its loop, from 0; -1 outside of loops."""
        return -1 if self._course.loop is None else self._course.loop.batch_idx

    @property
    def dataloader_idx(self) -> int | None:
        """The number of the loader in `validate` or `test`, from 0; None if there is only one."""
        return None if self._course.loop is None else self._course.loop.dataloader_idx

    @property
    def should_step(self) -> bool:
        """Whether the optimizer steps with this batch.

        True at every ``accumulate_grad_batches``-th batch, and at the last one.
        """
        return self._course.should_step

    @property
    def should_log(self) -> bool:
        """Whether the step values of this batch are written: a guard for what is expensive to compute."""
        return self._course.loop is not None and self._course.loop.is_due

    # Loops

    def epochs(self, max_epochs: int) -> Iterator[int]:
        """Return the numbers of the epochs up to ``max_epochs``, from `epoch` on, to iterate over.

        An epoch that was left by an exception is not done: the next call begins with it again. For another training,
        such as another fold, make another recorder.

        Raises:
            RecorderError: ``max_epochs`` is negative.
        """
        return self._course.epochs(_checked_count("max_epochs", max_epochs, least=0))

    def train(self, batches: Iterable[Any]) -> Batches:
        """Return the batches to train with, to iterate over; that counts optimizer steps.

        A batch that the loop is left in counts if anything was logged in it. Without `epochs` around it, each call is
        an epoch, which goes on until the next. With ``accumulate_grad_batches`` above 1 the loader is asked for each
        batch one batch early, to know the last one.

        Args:
            batches: a DataLoader, or anything else that can be iterated over.
        """
        self._warn_of_beginning_anew()
        return Batches(lambda: self._course.train(batches), length_of(batches))

    def _warn_of_beginning_anew(self) -> None:
        if self.global_step == 0 and self._resumed_at >= 0 and is_rank_zero():
            warn_user(
                f"the run goes on after step {self._resumed_at}, but its recorder counts steps from 0. To go on where "
                "training stood, save rec.state_dict() with each checkpoint, and give it to rec.load_state_dict()"
            )
        self._resumed_at = -1

    def validate(self, *loaders: Iterable[Any]) -> Batches:
        """Return the batches of each loader in turn, to iterate over; may stand in the body of `train`, too.

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
        """Return the first ``limit`` batches of each loader: a validation of which nothing is written or kept.

        Raises:
            RecorderError: there is no loader, or ``limit`` is negative.
        """
        return self._evaluation("validate", loaders, _checked_count("limit", limit, least=0))

    def _evaluation(self, stage: str, loaders: tuple[Iterable[Any], ...], limit: int | None = None) -> Batches:
        if not loaders:
            raise RecorderError(f"rec.{stage}() takes one dataloader or several, and got none")
        if isinstance(loaders[0], list | tuple) and any(hasattr(each, "dataset") for each in loaders[0]):
            raise RecorderError(f"rec.{stage}() takes several dataloaders one by one: rec.{stage}(*loaders)")
        return Batches(lambda: self._course.evaluate(stage, loaders, limit), total_length(loaders, limit))

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
        """Log one value; nothing waits for the device that computes it. Once the run has ended it does nothing.

        Args:
            name: the metric's. With both ``on_step`` and ``on_epoch`` it is written as ``name_step`` and
                ``name_epoch``. The name ``step`` is the x-axis: its value becomes the step of the row.
            value: a number, a tensor of one element, or a ``torchmetrics.Metric`` (computed and reset at the end of the
                loop).
            prog_bar: show it in the progress bar.
            logger: write it to the run; True by default. If False it can only be read.
            on_step: write the value of the step. By default True in the body of `train`, else False.
            on_epoch: write the values of the whole loop, reduced, when it ends. By default False in the body of
                `train`, else True.
            reduce_fx: ``"mean"`` (weighted by batch size), ``"sum"``, ``"min"`` or ``"max"``, or torch's or Python's
                function of that name. Values are gathered in float64, or float32 where a device has no float64.
            enable_graph: keep the graph of the value, for `tensor`.
            sync_dist: reduce over all ranks, which all must log it then; the recorder's ``sync_dist`` by default.
                Everything that is due at a time takes one all_reduce for each group.
            sync_dist_group: reduce over the ranks of this ``torch.distributed`` group only.
            add_dataloader_idx: add ``/dataloader_idx_N`` to the name where there are several loaders.
            batch_size: the weight in a mean, a number or a tensor of one element, such as a count of tokens; by default
                the length of the first tensor in the batch.
            metric_attribute: without effect, as the recorder holds the Metric itself.
            rank_zero_only: say that only rank zero logs this; it is not reduced, and cannot be read.

        Raises:
            RecorderError: the value, an option or the place is none that can be; it says which and why.
        """
        course = self._course
        if course.is_closed:
            return
        if course.is_unsettled:
            course.settle()
        loop = course.loop_to_log_to(name)
        given = (
            prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph,
            self._sync_dist if sync_dist is None else sync_dist,
            sync_dist_group, add_dataloader_idx, metric_attribute, rank_zero_only,
        )  # fmt: skip
        entry = loop.add(name, value, given, batch_size)
        if prog_bar and entry.on_step and loop.is_kept:
            self._rows.shown[entry.step.name] = entry.last

    def log_dict(self, values: Mapping[str, Any], **options: Any) -> None:
        """Log several values with the same options, those of `log`.

        Args:
            values: name → value, not nested; or a ``torchmetrics.MetricCollection``.
            **options: as `log` takes them.

        Raises:
            RecorderError: as `log`.
        """
        if is_collection(values):
            pairs = values.items(keep_base=False, copy_state=False)  # type: ignore[call-arg]
        elif isinstance(values, Mapping):
            pairs = values.items()
        else:
            raise RecorderError(f"log_dict() takes a mapping from name to value, not {type(values).__name__}")
        for name, value in pairs:
            self.log(name, value, **options)

    def log_grad_norm(
        self, module: Any, norm_type: float = 2.0, *, per_parameter: bool = False, **options: Any
    ) -> None:
        """Log the norm of a module's gradients, if this step is written.

        It stands between ``backward()`` and ``step()``; with a gradient scaler, after its ``unscale_()``.

        Args:
            module: a ``torch.nn.Module``, or parameters.
            norm_type: the p of the p-norm; ``float("inf")`` for the greatest.
            per_parameter: log each parameter's norm as ``grad_2.0_norm/NAME``, too, beside ``grad_2.0_norm_total``.
            **options: as `log` takes them.

        Raises:
            RecorderError: outside of the body of `train`; or ``norm_type`` is not positive.
        """
        if self._course.loop is None or self._course.loop.place is not Place.TRAIN:
            raise RecorderError("log_grad_norm() stands in the body of rec.train(), after backward()")
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
            log_key_prefix: put before each name, as ``lr-Adam``, ``lr-SGD/pg1``.

        Raises:
            RecorderError: an argument is none of these, or a name is taken.
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
                f"{min(taken)!r} is monitored already; give all optimizers in one call, which numbers them, or a "
                "log_key_prefix"
            )
        self._monitors.append(monitor)

    # Reading

    def __getitem__(self, name: str) -> float:
        """Return the newest value of a metric: for a scheduler, or to stop early. This waits for its device.

        What was logged with ``sync_dist`` and is not reduced yet (the value of a step whose row is not written, of a
        loop that was left by ``break``, or of what stands between the loops) is reduced now. So all ranks must read it;
        `metrics` does without the others.

        Raises:
            KeyError: nothing was logged under that name, or on rank zero only.
        """
        return _as_float(self._read(name))

    def tensor(self, name: str) -> Any:
        """Return the newest value of a metric as a tensor without dimensions; this does not wait for its device.

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
        """The newest value of each metric; of one that is still to be reduced, the newest that was, if any."""
        return {name: _as_float(value) for name, value in self._readable().items()}

    def _read(self, name: str) -> Any:
        self._course.settle_for(name)
        return self._readings.get(name, self._course.readable_loops())

    def _readable(self) -> dict[str, Any]:
        self._course.settle_alone()
        return self._readings.all(self._course.readable_loops())

    # Going on later

    def state_dict(self) -> dict[str, Any]:
        """Return where training stands, for a checkpoint; ``epoch`` is the one to go on with.

        At the end of an epoch that is the next one. In the body of `train` the epoch will begin again, and the step
        that is under way does not count yet.
        """
        return self._course.position.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; in the body of `epochs`, with the next round.

        Raises:
            RecorderError: that is something else.
        """
        self._course.leave_all()
        self._course.settle()
        self._course.complete_between()
        self._course.position.load_state_dict(state)

    def close(self, status: str = "success") -> None:
        """Write what is open, unless training failed; called when the run ends, and waits for no other rank.

        What is logged later is not recorded.
        """
        if not self._course.is_closed:
            self._course.close(is_written=status == "success")

    def _read_learning_rates(self, interval: str) -> dict[str, Any]:
        rates = {
            name: detached_copy(rate)
            for monitor in self._monitors
            if monitor.logging_interval == interval
            for name, rate in monitor.read().items()
        }
        self._readings.note_plain(rates)
        return rates


def _checked_count(name: str, value: Any, *, least: int) -> int:
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None or count < least:
        raise RecorderError(f"{name} is a whole number from {least} on, not {value!r}")
    return count


def _as_float(value: Any) -> float:
    return float(value.detach() if is_tensor(value) else value)
