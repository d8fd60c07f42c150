"""`MLFlowLogger` as the logger of Lightning's Trainer, without a Run."""

import pytest
from plugins.mlflow.tracked import Held

pytest.importorskip("lightning")
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


SCORES = [0.5, 0.75, 0.25, 1.0]


class Model(LightningModule):
    """Says what it logged."""

    def __init__(self, lr=0.1, sizes=(2, 1)):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(*sizes)
        self.losses = []

    def training_step(self, batch, index):
        loss = self.layer(batch).square().mean()
        self.losses.append(float(loss.detach()))
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, index):
        self.log("val/score", SCORES[self.current_epoch], batch_size=len(batch))

    def test_step(self, batch, index):
        self.log("test/loss", 0.125, batch_size=len(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.lr)


@pytest.fixture
def data():
    return torch.utils.data.DataLoader(torch.randn(4, 2), batch_size=2)


def trainer(logger, epochs=3, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    return Trainer(
        logger=logger, max_epochs=epochs, accelerator="cpu", devices=1, log_every_n_steps=1, **quiet, **options
    )


def test_fit_and_test(logger, data):
    model = Model()
    fitted = trainer(logger, enable_checkpointing=False)
    fitted.fit(model, data, data)
    held = Held(logger)
    assert (held.info.status, logger.name, logger.version) == ("FINISHED", held.info.experiment_id, held.run_id)
    fitted.test(model, data, verbose=False)
    assert held.info.status == "FINISHED"
    assert held.params == {"lr": "0.1", "sizes": "[2, 1]"}
    losses = [point[:2] for point in held.points("train/loss")]
    assert losses == [(step, pytest.approx(value)) for step, value in enumerate(model.losses)]
    assert [point[:2] for point in held.points("val/score")] == [(1, 0.5), (3, 0.75), (5, 0.25)]
    assert [point[:2] for point in held.points("test/loss")] == [(6, 0.125)]
    assert sorted({point[1] for point in held.points("epoch")}) == [0.0, 1.0, 2.0, 3.0]


def test_a_fit_that_fails(logger, data):
    with pytest.raises(IndexError):  # the fifth epoch has no score
        trainer(logger, epochs=5, enable_checkpointing=False).fit(Model(), data, data)
    assert Held(logger).info.status == "FAILED"


@pytest.mark.parametrize(("log_model", "epochs"), [(False, []), (True, [0, 2]), ("all", [0, 1, 2])])
def test_checkpoints(make_logger, data, tmp_path, log_model, epochs):
    logger = make_logger(log_model=log_model)
    callback = ModelCheckpoint(tmp_path, "{epoch}", monitor="val/score", save_top_k=2)
    trainer(logger, epochs=4, callbacks=[callback]).fit(Model(), data, data)
    held = Held(logger)
    files = [path for path in held.files() if path.endswith(".ckpt")]
    assert files == [f"checkpoints/epoch={epoch}/epoch={epoch}.ckpt" for epoch in epochs]
    details = [held.read_json(f"checkpoints/epoch={epoch}/metadata.json") for epoch in epochs]
    assert [(each["score"], each["monitor"], each["mode"]) for each in details] == [
        (SCORES[epoch], "val/score", "min") for epoch in epochs
    ]
    for alias in ["best", "latest"] if log_model else []:
        assert torch.load(logger.download_checkpoint(alias), weights_only=False)["epoch"] == 2
