"""Log a training run to TensorBoard: the rankzero plugin ``tensorboard``."""

from rankzero_tensorboard.logger import TensorBoardLogger

__all__ = ["TensorBoardLogger"]
