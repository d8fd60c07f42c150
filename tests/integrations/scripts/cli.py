"""A script of LightningCLI."""

from lightning.pytorch.cli import LightningCLI
from servers.lightning_model import Data, Model

if __name__ == "__main__":
    LightningCLI(Model, Data, seed_everything_default=1)
