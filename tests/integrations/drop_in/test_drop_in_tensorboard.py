"""Features of TensorBoard's logger: hyperparameters, graphs, a directory below the version's."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from integrations.drop_in.page import compare
from servers.event_files import accumulated, hparams, hparams_metrics, scalars
from torch.utils.tensorboard import SummaryWriter

pytestmark = pytest.mark.parametrize("tracker", ["tensorboard"])

CALLS = {
    "alone": ({"lr": 0.1}, None, None, {}),
    "with metrics": ({"lr": 0.1}, {"val/acc": 0.5}, None, {}),
    "with a number": ({"lr": 0.1}, 0.5, None, {}),
    "with metrics at a step": ({"lr": 0.1}, {"val/acc": 0.5}, 3, {}),
    "with default_hp_metric=False": ({"lr": 0.1}, None, None, {"default_hp_metric": False}),
    "of an empty dictionary": ({}, None, None, {}),
}


@pytest.mark.parametrize("case", CALLS)
def test_hyperparameters(bench, case):
    params, metrics, step, options = CALLS[case]
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a", **options)
        logger.log_hyperparams(params, metrics, step)
        logger.log_metrics({"loss": 1.0}, 4)
        logger.finalize("success")
        yaml = Path(logger.log_dir, "hparams.yaml")
        seen = (scalars(logger.log_dir), hparams(logger.log_dir), yaml.read_text() if yaml.exists() else None)
        found.append({f"log_hyperparams {case}": seen, "logger.hparams": dict(logger.hparams)})
        if params:
            found[-1][f"metrics in the HPARAMS tab, log_hyperparams {case}"] = hparams_metrics(logger.log_dir)
    compare(bench.tracker, *found)


def test_nothing_is_logged(bench):
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a")
        logger.save()
        logger.finalize("success")
        found.append({"files of a logger without logged data": Path(logger.log_dir).exists()})
    compare(bench.tracker, *found)


class Net(torch.nn.Module):
    def __init__(self, example=None):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.example_input_array = example

    def forward(self, batch):
        return self.layer(batch)

    def _on_before_batch_transfer(self, batch):
        return batch

    _apply_batch_transfer_handler = _on_before_batch_transfer


def test_a_graph(bench):
    found = []
    for kind in bench.each():
        seen = {}
        for what, wanted, model in (
            ("log_graph=True", True, Net(torch.ones(1, 2))),
            ("log_graph=False", False, Net(torch.ones(1, 2))),
            ("a model without an example", True, Net()),
        ):
            logger = bench.make(kind, what, log_graph=wanted)
            logger.log_metrics({"loss": 1.0}, 0)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                logger.log_graph(model)
            logger.finalize("success")
            seen[what] = bool(accumulated(logger.log_dir).Tags()["graph"]), bool(said)
        found.append(seen)
    compare(bench.tracker, *found)


def test_directories(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WHERE", "somewhere")
    found = []
    for kind in bench.each():
        logger = kind("~/$WHERE", name="n", version=1, sub_dir="below")
        found.append(
            {
                "log_dir with ~ and $VAR": logger.log_dir,
                "save_dir and root_dir with ~ and $VAR": (logger.save_dir, logger.root_dir),
                "sub_dir": logger.sub_dir,
            }
        )
    compare(bench.tracker, *found)


def test_the_experiment(bench):
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a", max_queue=5, flush_secs=60, filename_suffix=".x", purge_step=0)
        assert isinstance(logger.experiment, SummaryWriter)
        logger.experiment.add_scalar("native", 1.0, 3)
        logger.experiment.add_text("text", "said")
        logger.experiment.add_histogram("weights", torch.arange(4.0), 1)
        logger.experiment.add_image("picture", torch.zeros(3, 4, 4))
        logger.log_metrics({"loss": 1.0}, 4)
        logger.finalize("success")
        read = accumulated(logger.log_dir)
        found.append(
            {
                "what experiment writes": (scalars(logger.log_dir), {kind: read.Tags()[kind] for kind in read.Tags()}),
                "names of event files": sorted(
                    name.rpartition(".")[2] for name in os.listdir(logger.log_dir) if "tfevents" in name
                ),
                "hparams.yaml without hyperparameters": Path(logger.log_dir, "hparams.yaml").exists(),
            }
        )
    compare(bench.tracker, *found)
