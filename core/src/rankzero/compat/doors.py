"""The doors that ``RANKZERO_INTEGRATIONS`` can open, and the modules that they stand in for."""

DOORS: dict[str, tuple[str, ...]] = {
    "tensorboard": ("torch.utils.tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
}
"""Name → modules. When one is imported, ``rankzero.compat.NAME.stand_in(module, execute)`` is called to fill it."""
WITHOUT_PACKAGE = frozenset(["wandb"])
"""Those modules that need not be installed: ``rankzero.compat.NAME.install()`` is called when one is looked for."""
