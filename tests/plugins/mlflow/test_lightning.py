"""`MLFlowLogger` as the logger of Lightning's Trainer, without a Run."""

import pytest
from plugins.mlflow.tracked import Held

pytest.importorskip("lightning")
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from servers.lightning_model import SCORES, Model, data, trainer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


def test_fit_and_test(logger):
    model = Model()
    fitted = trainer(logger, epochs=3, enable_checkpointing=False)
    fitted.fit(model, data(), data())
    held = Held(logger)
    assert (held.info.status, logger.name, logger.version) == ("FINISHED", held.info.experiment_id, held.run_id)
    fitted.test(model, data(), verbose=False)
    assert held.info.status == "FINISHED"
    assert held.params == {"lr": "0.1", "sizes": "[2, 1]"}
    losses = [point[:2] for point in held.points("train/loss")]
    assert losses == [(step, pytest.approx(value)) for step, value in enumerate(model.losses)]
    assert [point[:2] for point in held.points("val/score")] == [(1, 0.5), (3, 0.75), (5, 0.25)]
    assert [point[:2] for point in held.points("test/loss")] == [(6, 0.125)]
    assert sorted({point[1] for point in held.points("epoch")}) == [0.0, 1.0, 2.0, 3.0]


def test_a_fit_that_fails(logger):
    with pytest.raises(IndexError):  # the fifth epoch has no score
        trainer(logger, epochs=5, enable_checkpointing=False).fit(Model(), data(), data())
    assert Held(logger).info.status == "FAILED"


@pytest.mark.parametrize(("log_model", "epochs"), [(False, []), (True, [0, 2]), ("all", [0, 1, 2])])
def test_checkpoints(make_logger, tmp_path, log_model, epochs):
    logger = make_logger(log_model=log_model)
    callback = ModelCheckpoint(tmp_path, "{epoch}", monitor="val/score", save_top_k=2)
    trainer(logger, epochs=4, callbacks=[callback]).fit(Model(), data(), data())
    held = Held(logger)
    files = [path for path in held.files() if path.endswith(".ckpt")]
    assert files == [f"checkpoints/epoch={epoch}/epoch={epoch}.ckpt" for epoch in epochs]
    details = [held.read_json(f"checkpoints/epoch={epoch}/metadata.json") for epoch in epochs]
    assert [(each["score"], each["monitor"], each["mode"]) for each in details] == [
        (SCORES[epoch], "val/score", "min") for epoch in epochs
    ]
    for alias in ["best", "latest"] if log_model else []:
        assert torch.load(logger.download_checkpoint(alias), weights_only=False)["epoch"] == 2
