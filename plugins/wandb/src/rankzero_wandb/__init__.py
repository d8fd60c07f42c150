"""Weights & Biases for rankzero: the plugin ``wandb``."""

from rankzero_wandb.logger import WandbLogger
from rankzero_wandb.options import sweep_parameters

__all__ = ["WandbLogger", "sweep_parameters"]
