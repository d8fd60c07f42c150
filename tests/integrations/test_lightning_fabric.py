"""A Run, and loggers used directly, as the loggers of Lightning's Fabric."""

import csv

import pytest
from servers.lightning_scripts import run_script

import rankzero

pytest.importorskip("lightning")
import torch
from lightning.fabric import Fabric

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_a_run_and_a_logger(run, tmp_path):
    logger = rankzero.CSVLogger(tmp_path, name="n")
    fabric = Fabric(loggers=[run, logger], accelerator="cpu", devices=1)
    assert (fabric.logger, fabric.loggers) == (run, [run, logger])
    model, optimizer = fabric.setup(
        *(lambda model: (model, torch.optim.SGD(model.parameters(), 0.1)))(torch.nn.Linear(2, 1))
    )
    losses = []
    for step in range(3):
        loss = model(torch.ones(1, 2)).square().mean()
        fabric.backward(loss)
        optimizer.step()
        losses.append(loss.item())
        fabric.log("loss", loss.detach(), step=step)
        fabric.log_dict({"lr": 0.1, "nested/x": torch.tensor(step)}, step=step)
    fabric.log("without a step", 1)
    for each in fabric.loggers:
        each.log_hyperparams({"lr": 0.1})
    run.finish()
    logger.close()
    recorded = rankzero.read_run(run.dir)
    assert list(recorded.metrics["loss"].value) == losses
    assert list(recorded.metrics["nested/x"].step) == [0, 1, 2]
    assert list(recorded.metrics["without a step"].step) == [3]
    assert recorded.params == {"lr": 0.1}
    with open(f"{logger.log_dir}/metrics.csv") as file:
        assert [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]] == losses


@pytest.mark.slow
def test_two_ranks(tmp_path):
    done = run_script("fabric.py", tmp_path, tmp_path)
    assert done.returncode == 0, done.stderr
    (run_dir,) = (tmp_path / "runs" / "default").iterdir()
    recorded = rankzero.read_run(run_dir)
    known = "\n".join([run_dir.name, recorded.info.name, str(run_dir)])
    assert [(tmp_path / f"rank-{rank}.txt").read_text() for rank in range(2)] == [known] * 2
    assert recorded.status == "success"
    assert list(recorded.metrics["rank"].value) == [0, 0, 0]
