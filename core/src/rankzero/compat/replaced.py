"""The modules of other tools that `rankzero.compat` can replace, if ``RANKZERO_INTEGRATIONS`` names the tool."""

REPLACED: dict[str, tuple[str, ...]] = {
    "tensorboard": ("torch.utils.tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
}
"""Name → modules. When one is imported, ``rankzero.compat.NAME.replace(module, execute)`` fills it."""
WITHOUT_PACKAGE = frozenset(["wandb"])
"""Modules that need not be installed: if one is missing, importing it calls ``rankzero.compat.NAME.install()``."""
