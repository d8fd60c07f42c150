"""A script for Lightning's Trainer in which only the import of the logger changes."""

from pathlib import Path

import pytest
import torch
from integrations.drop_in.page import compare
from lightning.pytorch.loggers import CSVLogger as LightningCSVLogger
from lightning.pytorch.loggers import TensorBoardLogger as LightningTensorBoardLogger
from servers.event_files import scalars
from servers.lightning_model import Model, data, trainer

import rankzero
from rankzero_tensorboard import TensorBoardLogger

SCRIPT = """
from {module} import {name}
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from servers.lightning_model import Model, data, trainer

seed_everything(1, verbose=False)
logger = {name}(**options)
keeper = ModelCheckpoint(filename="{{epoch}}", monitor="val/score", mode="min", save_top_k=2)
model = Model(sizes=[2, 1])
fitted = trainer(logger, epochs=3, callbacks=[keeper, LearningRateMonitor("step")])
fitted.fit(model, data(), data())
fitted.validate(model, data(), verbose=False)
fitted.test(model, data(), verbose=False)
"""


def run_script(kind, options):
    """Run the script with a class; return its variables."""
    names = {"options": options}
    module = "lightning.pytorch.loggers" if kind.__module__.startswith("lightning.") else kind.__module__.split(".")[0]
    exec(SCRIPT.format(module=module, name=kind.__name__), names)
    return names


def test_the_script(bench):
    found = []
    for kind in bench.each():
        names = run_script(kind, bench.place(f"a-{'theirs' if kind is bench.theirs else 'ours'}"))
        logger = names["logger"]
        bench.made.append(logger)
        directory = Path(names["keeper"].dirpath)
        kept = sorted(path.name for path in directory.iterdir())
        where = [bench.without_place(logger, path) for path in (directory, names["fitted"].log_dir)]
        arrived = bench.arrived(logger)
        losses = [pytest.approx(loss) for loss in names["model"].losses]
        assert [float(point[-1]) for point in arrived["metrics"]["train/loss"]] == losses
        found.append({"kept": kept, "the directory of checkpoints": where[0], "trainer.log_dir": where[1], **arrived})
    compare(bench.tracker, *found)


def test_a_list_of_loggers(tmp_path):
    """The first says where checkpoints go; each has everything."""
    found = []
    for side, kinds in {
        "theirs": (LightningCSVLogger, LightningTensorBoardLogger),
        "ours": (rankzero.CSVLogger, TensorBoardLogger),
    }.items():
        torch.manual_seed(0)
        loggers = [kind(tmp_path / side, name=kind.__name__) for kind in kinds]
        fitted = trainer(loggers, epochs=2)
        fitted.fit(Model(), data(), data())
        rows = Path(loggers[0].log_dir, "metrics.csv").read_text().splitlines()
        values = [value for row in rows[1:] for value in row.split(",") if value]
        where = str(fitted.checkpoint_callback.dirpath).replace(side, "")
        found.append({"csv": sorted(values), "tensorboard": scalars(loggers[1].log_dir), "checkpoints": where})
    assert found[0] == found[1]
