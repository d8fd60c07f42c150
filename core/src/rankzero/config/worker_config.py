"""What a courier is told: which run, which logger, made how."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rankzero.loggers.base import Logger
from rankzero.plugins.registry import get_plugins


class Orders(NamedTuple):
    """What a courier process is told."""

    run_dir: Path
    key: str
    logger: type[Logger] | str | Logger
    """The class, the name of the plugin that has it, or for a courier in a thread the logger itself."""
    args: tuple[Any, ...]
    options: dict[str, Any]
    """Keyword arguments; secrets are expanded."""
    secrets: list[str]
    linger: float
    path: list[str]
    """The training process's sys.path."""
    online: bool = False
    """Whether a logger that is told to stay offline delivers all the same."""
    is_own: bool = True
    """Whether this user started the run: see `rankzero.events.seals`."""


def make_logger(orders: Orders) -> Logger:
    """Build the logger that the orders name."""
    if isinstance(orders.logger, Logger):
        return orders.logger
    cls = get_plugins().load_logger(orders.logger) if isinstance(orders.logger, str) else orders.logger
    logger: Logger = cls(*orders.args, **orders.options)
    if orders.online:
        logger.go_online()
    return logger
