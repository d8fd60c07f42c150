"""Log a training run to TensorBoard: the rankzero plugin ``tensorboard``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankzero.plugins.lazy import lazy_names

if TYPE_CHECKING:
    from rankzero_tensorboard.logger import TensorBoardLogger

__all__ = ["TensorBoardLogger"]
__getattr__ = lazy_names(__name__, TensorBoardLogger="rankzero_tensorboard.logger")
