"""Track the loops of a training: running loops, loops that were left early, and the values written at their ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from rankzero.errors import RecorderError
from rankzero.messages import OnceWarner, warn_user
from rankzero.recorder.batches import LookAhead, length_of, total_length
from rankzero.recorder.log_options import Phase
from rankzero.recorder.loop import Loop
from rankzero.recorder.progress import Progress
from rankzero.recorder.rows import Rows
from rankzero.recorder.training_state import TrainingState

ReadRates = Callable[[str], dict[str, Any]]
"""Returns the learning rates to log at each ``step`` or ``epoch``."""


class TrainingLoop:
    """The loops of a training, nested as the program nests them.

    Args:
        rows: writes the values of the loops.
        progress: the progress bar.
        read_rates: called at the beginning of a step that is written, and of a train loop.
        every: write step values at every n-th optimizer step; 0 for never.
        accumulate: the number of batches in an optimizer step.
    """

    def __init__(self, rows: Rows, progress: Progress, read_rates: ReadRates, *, every: int, accumulate: int) -> None:
        self._rows = rows
        self._progress = progress
        self._read_rates = read_rates
        self._rates: dict[str, Any] = {}  # of this step's row
        self._every = every
        self._accumulate = accumulate
        self.state = TrainingState()
        self.should_step = False
        """Whether the optimizer steps with this batch."""
        self.is_closed = False
        self._lost_steps = False  # whether step values were logged, but at no step that is written
        self._epochs: object = None  # identifies the running `epochs()`
        self._warner = OnceWarner()
        self._open: list[Loop] = []  # a loop's body may contain another loop
        self._left: list[Loop] = []  # by `break`; not completed yet
        self._trained: Loop | None = None  # the last completed train loop
        self._between = self._new_loop(None, Phase.EPOCH)

    @property
    def loop(self) -> Loop | None:
        """The innermost running loop."""
        return self._open[-1] if self._open else None

    @property
    def has_left_loops(self) -> bool:
        """Whether a loop was left early, and `complete_left` was not called since."""
        return bool(self._left) or self.state.are_epochs_left

    def readable_loops(self) -> list[Loop]:
        """Return the loops whose values can be read before they end."""
        return [*self._open, self._between]

    def current_step(self) -> int | None:
        """Return the step of a row that is written now; None if no loop and no ``epochs()`` is running."""
        return self._row_step() if self._open or self._epochs is not None else None

    def loop_to_log_to(self, name: str) -> Loop:
        """Return the loop that a log call belongs to now.

        Raises:
            RecorderError: no loop and no epoch is running.
        """
        if self._open:
            return self._open[-1]
        if not self.state.is_in_epoch:
            raise RecorderError(
                f"log({name!r}, …) is called outside of rec.epochs(), rec.train(), rec.validate() and rec.test(), "
                "where there is neither step nor epoch; use run.log_metrics() there"
            )
        return self._between

    # Iterators

    def epochs(self, max_epochs: int) -> Iterator[int]:
        """Yield the numbers of the epochs up to ``max_epochs``."""
        self._leave_epochs()
        self._end_epoch()
        if 0 < max_epochs <= self.state.epoch:
            warn_user(
                f"rec.epochs({max_epochs}) has nothing to do: {self.state.epoch} epochs are done. A recorder "
                "continues where it is; for another training make another recorder, or call load_state_dict()"
            )
        epochs = self._epochs = object()
        try:
            while self.state.epoch < max_epochs:
                self.state.begin_epoch()
                yield self.state.epoch
                self._end_epoch()
        finally:
            if self._epochs is epochs:
                self._leave_epochs()

    def train(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches, and count steps."""
        self._begin_training()
        loop = self._new_loop("train", Phase.TRAIN)
        self._enter(loop, f"epoch {self.state.epoch}", length_of(batches))
        is_whole = False
        try:
            ahead = LookAhead(batches) if self._accumulate > 1 else None
            for batch in batches if ahead is None else ahead:
                self._begin_train_batch(loop, batch, is_last=ahead is not None and ahead.is_last)
                yield batch
                del batch  # frees its memory for the next one
                if self._goes_on(loop):
                    self._end_train_batch(loop)
            is_whole = True
        finally:
            self._leave(loop, is_whole=is_whole)

    def evaluate(self, stage: str, loaders: tuple[Iterable[Any], ...], limit: int | None) -> Iterator[Any]:
        """Yield the batches of each loader in turn; with a limit, no values are kept."""
        self.complete_left()
        loop = self._new_loop(stage, Phase.EVALUATION, is_kept=limit is None)
        self._enter(loop, stage if loop.is_kept else "sanity check", total_length(loaders, limit))
        is_whole = False
        try:
            for loader_idx, loader in enumerate(loaders):
                loop.begin_loader(loader_idx, is_one_of_several=len(loaders) > 1)
                for batch in islice(loader, limit):
                    loop.begin_batch(batch)
                    yield batch
                    del batch  # frees its memory for the next one
                    if self._goes_on(loop):
                        self._end_evaluation_batch(loop)
            is_whole = True
        finally:
            self._leave(loop, is_whole=is_whole)

    # Batches

    def _begin_train_batch(self, loop: Loop, batch: Any, *, is_last: bool) -> None:
        loop.begin_batch(batch)
        self.should_step = is_last or (loop.batch_idx + 1) % self._accumulate == 0
        loop.is_due = self.should_step and self._every > 0 and (self.state.global_step + 1) % self._every == 0
        if loop.is_due:
            self._rates = self._read_rates("step")

    def _goes_on(self, loop: Loop) -> bool:
        """Return whether a loop whose iterator continues is still recorded.

        Raises:
            RecorderError: another loop of training began meanwhile.
        """
        if self.is_closed:
            return False
        if loop not in self._open:
            raise RecorderError(
                "this loop ended when another rec.train() or rec.epochs() began, and cannot continue. To train with "
                "two loaders at a time, iterate over rec.train(zip(one, other))"
            )
        while self._open[-1] is not loop:  # the inner loop's iterator is kept somewhere
            self._leave(self._open[-1], is_whole=False)
        return True

    def _end_train_batch(self, loop: Loop) -> None:
        loop.end_batch()
        if loop.is_due:
            self._write_step(loop)
        self.state.global_step += int(self.should_step)
        self._progress.advance(self._rows.shown)

    def _end_evaluation_batch(self, loop: Loop, *, is_alone: bool = False) -> None:
        loop.end_batch()
        if loop.is_kept:
            assert loop.stage is not None
            count = self.state.batches_evaluated(loop.stage, loop.loader_idx)
            self._rows.write_step(loop, count, self.state.epoch, is_alone=is_alone)
            self.state.count_evaluated(loop.stage, loop.loader_idx)
        self._progress.advance(self._rows.shown)

    def _end_batch_left(self, loop: Loop) -> None:
        # After an exception, other ranks are at other calls, so nothing may wait for them.
        loop.end_batch()
        if not loop.has_logged:  # the loop was left before this batch did anything
            self._rates = {}
            if loop.phase is Phase.TRAIN and self._every:
                self._rows.write_step(loop, self.state.last_step, self.state.epoch, is_alone=True)
        elif loop.phase is Phase.TRAIN:
            if self._every:
                self._write_step(loop, is_alone=True)
            self.state.global_step += int(self.should_step)
        else:
            self._end_evaluation_batch(loop, is_alone=True)

    def _write_step(self, loop: Loop, *, is_alone: bool = False) -> None:
        rates, self._rates = self._rates, {}
        step, epoch = self.state.global_step, self.state.epoch
        self._rows.write_step(loop, step, epoch, beside=rates, is_alone=is_alone)

    # Loops

    def _new_loop(self, stage: str | None, phase: Phase, *, is_kept: bool = True) -> Loop:
        return Loop(stage, phase, self._warner, is_kept=is_kept)

    def _begin_training(self) -> None:
        self.leave_all()
        if self._epochs is None:
            self._end_epoch()
            self.state.begin_epoch()
        self.complete_left()
        self.state.begin_training()
        self._rows.write(self._read_rates("epoch"), self.state.global_step, self.state.epoch, "train")

    def _enter(self, loop: Loop, description: str, total: int | None) -> None:
        self._open.append(loop)
        self._progress.begin(description, total)

    def _leave(self, loop: Loop, *, is_whole: bool) -> None:
        if loop not in self._open:
            return
        while self._open[-1] is not loop:
            self._leave(self._open[-1], is_whole=False)
        if loop.is_in_batch:
            self._end_batch_left(loop)
        if loop.phase is Phase.TRAIN:
            self._look_back(loop, is_whole=is_whole)
            self.should_step = False
            self.state.end_training(is_whole=is_whole)
        self._open.pop()
        if is_whole:
            self._complete(loop)
        else:
            loop.left_at = self._row_step()
            self._left.append(loop)
        self._progress.end()

    def _look_back(self, loop: Loop, *, is_whole: bool) -> None:
        if is_whole and loop.batch_idx < 0:
            self._warner.warn("empty", "rec.train() got no batch. Is its loader an iterator that is exhausted?")
        has_steps = is_whole and any(metric.on_step for metric in loop.metrics())
        self._lost_steps = has_steps and 0 < self.state.global_step < self._every

    def _warn_of_no_steps(self) -> None:
        # Not in the first epoch, which may be the only one.
        if self.state.epoch_under_way > 0 and self.state.global_step == 0 and any(self._between.metrics()):
            self._warner.warn(
                "no steps",
                "no batch went through rec.train(), which counts the steps: all values of epochs are logged at step 0",
            )

    def leave_all(self) -> None:
        """Leave all loops, as by ``break``."""
        if self._open:
            self._leave(self._open[0], is_whole=False)

    def _leave_epochs(self) -> None:
        if self._epochs is not None:
            self._epochs = None
            self.state.leave_epochs()
            self._progress.pause()

    def complete_left(self) -> None:
        """Complete the loops that were left early, on all ranks."""
        self.state.follow()
        if self.state.are_epochs_left:
            self._end_epoch()
        self._complete_loops_left()

    def complete_left_alone(self) -> None:
        """Complete the loops that were left early and do not need other ranks."""
        self.state.follow()
        for loop in list(self._left):
            if not self._rows.takes_others(loop):
                self._left.remove(loop)
                self._complete(loop)

    def complete_left_for(self, name: str) -> None:
        """Complete loops to read ``name``; other ranks take part only if its value must be reduced."""
        self.complete_left_alone()
        if any(loop.gathers(name) for loop in self._left):
            self.complete_left()
        if self._between.gathers(name) and self._rows.takes_others(self._between):
            self.complete_between()
        for loop in self._open:
            if loop.phase is Phase.TRAIN:
                self._rows.reduce_for(loop, name, is_over=False)
        if self._trained is not None:
            self._rows.reduce_for(self._trained, name, is_over=True)

    def complete_between(self) -> None:
        """Write the values that were logged between the loops so far."""
        self._complete(self._between)
        self._between = self._new_loop(None, Phase.EPOCH)

    def close(self, *, is_written: bool) -> None:
        """End all loops without other ranks; if ``is_written``, write the values of their epochs so far."""
        self.leave_all()
        for loop in [*self._left, self._between] if is_written else []:
            self._complete(loop, is_alone=True)
        self._left.clear()
        self.is_closed = True
        self._progress.close()
        if self._lost_steps and is_written:
            self._warner.warn(
                "steps",
                f"no step was written: there were {self.state.global_step}, and log_every_n_steps={self._every}. "
                "Lower it: run.recorder(log_every_n_steps=1)",
            )

    def _complete_loops_left(self) -> None:
        while self._left:
            self._complete(self._left.pop(0))

    def _complete(self, loop: Loop, *, is_alone: bool = False) -> None:
        step = self._row_step() if loop.left_at is None else loop.left_at
        if loop.phase is Phase.TRAIN:
            self._trained = loop
        self._rows.complete(loop, step, self.state.epoch_under_way, is_alone=is_alone)

    def _row_step(self) -> int:
        is_in_step = any(loop.phase is Phase.TRAIN for loop in self._open)
        return self.state.last_step if self.state.is_in_epoch and not is_in_step else self.state.global_step

    def _end_epoch(self) -> None:
        self.leave_all()
        self._complete_loops_left()
        self._warn_of_no_steps()
        self.complete_between()
        self.state.end_epoch()
