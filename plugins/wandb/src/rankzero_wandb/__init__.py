"""Weights & Biases for rankzero: the plugin ``wandb``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankzero.plugins.lazy import lazy_names

if TYPE_CHECKING:
    from rankzero_wandb.logger import WandbLogger
    from rankzero_wandb.options import sweep_parameters

__all__ = ["WandbLogger", "sweep_parameters"]
__getattr__ = lazy_names(__name__, WandbLogger="rankzero_wandb.logger", sweep_parameters="rankzero_wandb.options")
