"""Weights & Biases for rankzero: the plugin ``wandb``."""

from rankzero_wandb.logger import WandbLogger

__all__ = ["WandbLogger"]
