"""Training scripts that log to Comet, run as processes."""

import os

from plugins.wandb.scripts import Shell


class CometShell(Shell):
    """Runs processes in a directory and an environment, without Comet's variables of this process.

    Args:
        directory: the directory of scripts; created, with an empty home beside it.
        environment: additional variables.
    """

    def __init__(self, directory, environment):
        home = directory.parent / "home"
        home.mkdir(parents=True, exist_ok=True)
        super().__init__(directory, {"HOME": str(home), **environment})

    def start(self, *command, **variables):
        ours = {name: None for name in os.environ if name.startswith("COMET_") and name not in self.environment}
        return super().start(*command, **{**ours, **variables})
