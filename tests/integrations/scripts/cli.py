"""A script of LightningCLI."""

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningCLI
from servers.lightning_model import Model, data


class Data(LightningDataModule):
    """Two batches to learn from, and to validate on."""

    def train_dataloader(self):
        return data()

    val_dataloader = train_dataloader


if __name__ == "__main__":
    LightningCLI(Model, Data, seed_everything_default=1)
