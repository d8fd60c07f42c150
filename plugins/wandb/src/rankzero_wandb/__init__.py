"""Weights & Biases for rankzero: the plugin ``wandb``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankzero_wandb.logger import WandbLogger
    from rankzero_wandb.options import sweep_parameters

__all__ = ["WandbLogger", "sweep_parameters"]


def __getattr__(name: str) -> Any:
    # Lazy: every run imports this package for its importer, also a run that logs elsewhere.
    if name not in __all__:
        raise AttributeError(f"module 'rankzero_wandb' has no attribute {name!r}")
    from rankzero_wandb.logger import WandbLogger
    from rankzero_wandb.options import sweep_parameters

    return {"WandbLogger": WandbLogger, "sweep_parameters": sweep_parameters}[name]
