"""The state of a training: epoch, step, evaluated batches, and whether the current epoch is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankzero.errors import RecorderError

_NOT_BEGUN, _RUNNING, _LEFT, _DONE = "not begun", "running", "left", "done"


class TrainingState:
    """Counts epochs and steps.

    An epoch whose train loop was left early is done if anything follows in the body of `Recorder.epochs`, as after a
    ``break``. If both were left at the same time, as by an exception, the epoch is repeated.
    """

    def __init__(self) -> None:
        self.global_step = 0
        self.is_in_epoch = False
        self.epoch_under_way = 0
        """The number of the epoch of the collected values."""
        self.are_epochs_left = False
        """Whether ``epochs()`` was left before the epoch ended."""
        self._evaluated: dict[str, int] = {}
        self._training = _NOT_BEGUN

    @property
    def epoch(self) -> int:
        """The number of the epoch; of the next one, if ``epochs()`` was left and the epoch is done."""
        return self.epoch_under_way + int(self.are_epochs_left and not self._is_undone)

    @property
    def last_step(self) -> int:
        """The number of the last optimizer step; 0 before the first."""
        return max(0, self.global_step - 1)

    @property
    def _is_undone(self) -> bool:
        return self._training in (_RUNNING, _LEFT)

    def begin_epoch(self) -> None:
        """An epoch begins."""
        self.is_in_epoch = True

    def begin_training(self) -> None:
        """A train loop begins."""
        self._training = _RUNNING

    def end_training(self, *, is_whole: bool) -> None:
        """A train loop ended, or was left early."""
        self._training = _DONE if is_whole else _LEFT

    def follow(self) -> None:
        """The program continues after a train loop that was left early."""
        if self._training == _LEFT and not self.are_epochs_left:
            self._training = _DONE

    def leave_epochs(self) -> None:
        """The iterator of ``epochs()`` was left."""
        self.are_epochs_left = self.is_in_epoch

    def end_epoch(self) -> None:
        """Begin the next epoch, if this one is done."""
        if self.is_in_epoch and not (self.are_epochs_left and self._is_undone):
            self.epoch_under_way += 1
        self.is_in_epoch = self.are_epochs_left = False
        self._training = _NOT_BEGUN

    def batches_evaluated(self, stage: str, loader_idx: int) -> int:
        """Return how many batches of a loader were evaluated in a stage."""
        return self._evaluated.get(f"{stage}/{loader_idx}", 0)

    def count_evaluated(self, stage: str, loader_idx: int) -> None:
        """Count one more evaluated batch."""
        self._evaluated[f"{stage}/{loader_idx}"] = self.batches_evaluated(stage, loader_idx) + 1

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`."""
        self.follow()
        epoch = self.epoch_under_way + int(self.is_in_epoch and self._training == _DONE)
        return {"epoch": epoch, "global_step": self.global_step, "evaluated": dict(self._evaluated)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; the current epoch is forgotten.

        Raises:
            RecorderError: ``state`` does not come from `state_dict`.
        """
        try:
            epoch, step = int(state["epoch"]), int(state["global_step"])
            evaluated = {str(key): int(count) for key, count in state["evaluated"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecorderError("load_state_dict() needs the result of state_dict()") from error
        self.is_in_epoch = False
        self.end_epoch()
        self.epoch_under_way, self.global_step, self._evaluated = epoch, step, evaluated
