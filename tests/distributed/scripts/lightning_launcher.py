"""Lightning starts the ranks itself: this script again, or forks of this process."""

import os
import sys
import time

import lightning.pytorch as pl
import torch
from lightning.fabric import Fabric
from ranks import identity, leave, report

import rankzero


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, index):
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss

    def on_train_end(self):
        tell(self.global_rank, self.logger, self.trainer.log_dir)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def tell(rank, run, directory):
    began = time.monotonic()
    known = identity(run)  # a rank that waits in vain takes 30 seconds for it, and does not know the run
    report(rank, known=known, directory=str(directory), took=time.monotonic() - began)


def fabric_loop(fabric, run):
    directory = run.dir
    fabric.barrier()  # from now on rank zero says nothing until the others have come as far
    for step in range(4):
        fabric.log_dict({"loss": step / 8}, step)
    tell(fabric.global_rank, run, directory)


if __name__ == "__main__":
    kind, strategy = sys.argv[1:]
    run = rankzero.start("csv")
    if kind == "trainer":
        trainer = pl.Trainer(
            logger=run, strategy=strategy, devices=2, accelerator="cpu", max_epochs=1, log_every_n_steps=1,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Model(), torch.utils.data.DataLoader(torch.ones(16, 2), batch_size=2))
    else:
        fabric = Fabric(loggers=run, strategy=strategy, devices=2, accelerator="cpu")
        fabric.launch()
        fabric_loop(fabric, run)
    run.finish()
    if "LOCAL_RANK" in os.environ:
        leave()
