"""Comet for rankzero: the plugin ``comet``."""

from rankzero_comet.logger import CometLogger

__all__ = ["CometLogger"]
