"""Where training stands: epoch, step, batches evaluated; and whether the epoch that is under way is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankzero.errors import RecorderError

_NOT_YET, _GOING_ON, _LEFT, _DONE = "not yet", "going on", "left", "done"


class Position:
    """Counts epochs and steps.

    An epoch whose training was left early is done if anything follows in the same round of `Recorder.epochs`, as after
    a ``break``. If that was left at the same time, as by an exception, the epoch is to be done again.
    """

    def __init__(self) -> None:
        self.global_step = 0
        self.is_in_epoch = False
        self._epoch = 0
        self._evaluated: dict[str, int] = {}
        self._training = _NOT_YET
        self._is_round_left = False

    @property
    def epoch(self) -> int:
        """The number of the epoch; of the one to come, if it was left and is done."""
        return self._epoch + int(self._is_round_left and not self._is_undone)

    @property
    def epoch_under_way(self) -> int:
        """The number of the epoch that what is gathered belongs to."""
        return self._epoch

    @property
    def is_round_left(self) -> bool:
        """Whether ``epochs()`` was left, and the epoch not ended yet."""
        return self._is_round_left

    @property
    def last_step(self) -> int:
        """The last step that was done, 0 before the first."""
        return max(0, self.global_step - 1)

    @property
    def _is_undone(self) -> bool:
        return self._training in (_GOING_ON, _LEFT)

    def begin_epoch(self) -> None:
        """A round begins."""
        self.is_in_epoch = True

    def begin_training(self) -> None:
        """A train loop begins."""
        self._training = _GOING_ON

    def end_training(self, *, is_whole: bool) -> None:
        """It ended, or was left before its end."""
        self._training = _DONE if is_whole else _LEFT

    def follow(self) -> None:
        """Something follows what was left."""
        if self._training == _LEFT and not self._is_round_left:
            self._training = _DONE

    def leave_round(self) -> None:
        """The rounds of ``epochs()`` were left."""
        self._is_round_left = self.is_in_epoch

    def end_epoch(self) -> None:
        """Go on to the next epoch, if this one is done."""
        if self.is_in_epoch and not (self._is_round_left and self._is_undone):
            self._epoch += 1
        self.is_in_epoch = self._is_round_left = False
        self._training = _NOT_YET

    def batches_evaluated(self, stage: str, loader_idx: int) -> int:
        """Return how many batches a loader has given to a stage."""
        return self._evaluated.get(f"{stage}/{loader_idx}", 0)

    def count_evaluated(self, stage: str, loader_idx: int) -> None:
        """Count one more."""
        self._evaluated[f"{stage}/{loader_idx}"] = self.batches_evaluated(stage, loader_idx) + 1

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes."""
        self.follow()
        epoch = self._epoch + int(self.is_in_epoch and self._training == _DONE)
        return {"epoch": epoch, "global_step": self.global_step, "evaluated": dict(self._evaluated)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; what is under way now is forgotten.

        Raises:
            RecorderError: that is something else.
        """
        try:
            epoch, step = int(state["epoch"]), int(state["global_step"])
            evaluated = {str(place): int(count) for place, count in state["evaluated"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecorderError("load_state_dict() takes what state_dict() returned") from error
        self.is_in_epoch = False
        self.end_epoch()
        self._epoch, self.global_step, self._evaluated = epoch, step, evaluated
