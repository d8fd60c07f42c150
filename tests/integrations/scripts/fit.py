"""A training script with Lightning, controlled by its arguments: see `test_lightning_endings` and similar tests."""

import argparse
import os
import signal
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from servers.lightning_model import Model, data, trainer

import rankzero

arguments = argparse.ArgumentParser()
arguments.add_argument("directory", type=Path)
arguments.add_argument("--strategy", default="auto")
arguments.add_argument("--devices", type=int, default=1)
arguments.add_argument("--logger", default="run", choices=["run", "csv", "both"])
arguments.add_argument("--deed", help="a signal that the script sends itself")
asked = arguments.parse_args()
asked.directory.mkdir(parents=True, exist_ok=True)


class Deed(Callback):
    """Sends the signal, and notes what each rank knows."""

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if (trainer.global_step, trainer.global_rank) == (3, 0) and asked.deed:
            os.kill(os.getpid(), getattr(signal, asked.deed))

    def on_fit_end(self, trainer, module):
        logger = trainer.logger
        known = [logger.name, logger.version, trainer.log_dir, trainer.checkpoint_callback.dirpath]
        note = asked.directory / f"rank-{trainer.global_rank}.txt"
        note.write_text("\n".join([*(str(each) for each in known), getattr(logger, "id", "")]))


def loggers():
    """Return what is asked for."""
    if asked.logger != "csv":
        yield rankzero.start(project="p", dir=asked.directory / "runs")
    if asked.logger != "run":
        yield rankzero.CSVLogger(asked.directory / "csv", name="n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    fitted = trainer(
        list(loggers()),
        epochs=3,
        callbacks=[ModelCheckpoint(monitor="val/score", save_top_k=1, save_last=True), Deed()],
        strategy=asked.strategy,
        devices=asked.devices,
    )
    fitted.fit(Model(), data(4), data(4))
    print("the script goes on")
