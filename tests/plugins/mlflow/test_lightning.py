"""`MLFlowLogger` as the logger of Lightning's Trainer, without a Run."""

import pytest
from plugins.mlflow.tracked import Held

pytest.importorskip("lightning")
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from servers.lightning_model import SCORES, Model, data, trainer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


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
