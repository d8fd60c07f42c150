"""A logger used directly, by Lightning's Trainer."""

import os

import pytest
from servers.file_logger import FileLogger, calls
from servers.lightning_model import Model, data, trainer

pytest.importorskip("lightning")
from lightning.pytorch.callbacks import ModelCheckpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


def saved(tmp_path, log_model, **checkpoints):
    """Train for three epochs; return the names of the checkpoints that a logger got, and their aliases."""
    logger = FileLogger(tmp_path / "tracker")
    logger.log_model = log_model
    keeper = ModelCheckpoint(tmp_path / "saved", "{epoch}", monitor="train/loss", mode="min", **checkpoints)
    trainer(logger, epochs=3, callbacks=[keeper]).fit(Model(), data(4))
    logged = calls(tmp_path / "tracker", "log_checkpoint")
    return [(os.path.basename(call["path"]), call["aliases"]) for call in logged]


@pytest.mark.parametrize("log_model", [None, False])
def test_checkpoints_are_kept_unless_requested(tmp_path, log_model):
    assert saved(tmp_path, log_model) == []


def test_those_that_are_left_are_logged_at_the_end(tmp_path):
    assert saved(tmp_path, True, save_top_k=2) == [("epoch=1.ckpt", []), ("epoch=2.ckpt", ["best", "latest"])]


def test_each_is_logged_when_it_is_saved(tmp_path):
    names = [name for name, _ in saved(tmp_path, "all", save_top_k=1)]
    assert names == ["epoch=0.ckpt", "epoch=1.ckpt", "epoch=2.ckpt"]


def test_when_all_are_kept_each_is_logged_when_it_is_saved(tmp_path):
    aliases = [aliases for _, aliases in saved(tmp_path, True, save_top_k=-1)]
    assert aliases == [["best", "latest"]] * 3
