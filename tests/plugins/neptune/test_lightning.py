"""`NeptuneLogger` as the logger of Lightning's Trainer and of Fabric, without a Run."""

import pytest
from plugins.neptune.arrived import arrived

pytest.importorskip("lightning")
import torch
from lightning.fabric import Fabric
from lightning.pytorch.callbacks import ModelCheckpoint
from servers.lightning_model import Model, data, trainer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


@pytest.fixture
def logger(make_logger):
    return make_logger(name="brave-owl")


def test_fit_and_test(server, logger):
    model = Model()
    fitted = trainer(logger, epochs=3, enable_checkpointing=False)
    fitted.fit(model, data(), data())
    logger.log_model_summary(model)
    fitted.test(model, data(), verbose=False)
    assert (logger.name, logger.version) == ("brave-owl", "RUN-1")
    logger.close()
    run = server.run("RUN-1")
    found = arrived(run)
    assert found.status == "success"
    assert found.params == {"lr": 0.1, "sizes": "[2, 1]"}
    series = {name: [point[:2] for point in points] for name, points in found.metrics.items()}
    assert series["train/loss"] == [(step, pytest.approx(value)) for step, value in enumerate(model.losses)]
    assert series["val/score"] == [(1, 0.5), (3, 0.75), (5, 0.25)]
    assert series["test/loss"] == [(6, 0.125)]
    assert series["epoch"] == [(step, float(step // 2)) for step in range(7)]
    assert b"Linear" in run.file("training/model/summary")


def test_a_fit_that_fails(server, logger):
    with pytest.raises(IndexError):  # the fifth epoch has no score
        trainer(logger, epochs=5, enable_checkpointing=False).fit(Model(), data(), data())
    logger.close()
    assert server.run("RUN-1").value("training/status") == "failed"


@pytest.mark.parametrize("wanted", [True, False])
def test_checkpoints(server, make_logger, tmp_path, wanted):
    logger = make_logger(log_model_checkpoints=wanted)
    callback = ModelCheckpoint(tmp_path, "{epoch}", monitor="val/score", save_top_k=2, save_last=True)
    trainer(logger, epochs=4, callbacks=[callback]).fit(Model(), data(), data())
    best = torch.load(logger.download_checkpoint("best"), weights_only=False)["epoch"] if wanted else 2
    logger.close()
    run = server.run("RUN-1")
    begin = "training/model/checkpoints/"
    held = {path.removeprefix(begin): run.file(path) for path in run.logged if path.startswith(begin)}
    on_disk = {path.name: path.read_bytes() for path in tmp_path.glob("*.ckpt")}
    assert set(on_disk) == {"epoch=0.ckpt", "epoch=2.ckpt", "last.ckpt"}
    assert held == (on_disk if wanted else {})
    assert best == 2
    if wanted:
        assert run.value("training/model/best_model_path") == "epoch=2.ckpt"
        assert run.value("training/model/best_model_score") == 0.25


def test_the_default_place_of_checkpoints(server, logger):
    fitted = trainer(logger, epochs=1)
    fitted.fit(Model(), data(), data())
    assert f"{logger.save_dir}/brave-owl/RUN-1/checkpoints" in fitted.checkpoint_callback.best_model_path


def test_fabric(server, logger):
    fabric = Fabric(accelerator="cpu", devices=1, loggers=logger)
    fabric.launch()
    fabric.log("loss", torch.tensor(0.5), step=0)
    fabric.log_dict({"loss": 0.25, "acc": 1}, step=1)
    logger.finalize("success")
    logger.close()
    found = arrived(server.run("RUN-1")).metrics
    assert [point[:2] for point in found["loss"]] == [(0, 0.5), (1, 0.25)]
    assert [point[:2] for point in found["acc"]] == [(1, 1.0)]
