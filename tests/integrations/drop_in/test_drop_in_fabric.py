"""The two loggers of Lightning's Fabric, which have other names for some things."""

import csv
import inspect
import json
from pathlib import Path

import pytest
import torch
from integrations.drop_in.outcomes import outcome
from integrations.drop_in.page import compare
from lightning.fabric import Fabric
from lightning.fabric import loggers as fabric
from servers.event_files import accumulated, hparams, scalars
from tensorboard.compat.proto.graph_pb2 import GraphDef

import rankzero
from rankzero_tensorboard import TensorBoardLogger

BOTH = {"csv": (fabric.CSVLogger, rankzero.CSVLogger), "tensorboard": (fabric.TensorBoardLogger, TensorBoardLogger)}


def read(tracker, logger):
    if tracker == "tensorboard":
        found = scalars(logger.log_dir)
        found.pop("hp_metric", None)
        return found, hparams(logger.log_dir)
    with open(f"{logger.log_dir}/metrics.csv", newline="") as file:
        return list(csv.DictReader(file)), None


@pytest.mark.parametrize("tracker", BOTH)
def test_a_script(tracker, tmp_path):
    found = []
    for kind in BOTH[tracker]:
        root = tmp_path / kind.__module__
        logger = kind(root_dir=root, name="digits", prefix="pre")
        at_work = Fabric(accelerator="cpu", devices=1, loggers=[logger])
        raised = outcome(at_work.logger.log_hyperparams, {"lr": 0.1})
        for step in range(3):
            at_work.log_dict({"loss": torch.tensor(step / 4), "acc": step}, step)
        logger.finalize("success")
        metrics, params = read(tracker, logger)
        found.append(
            {
                "what arrives": metrics,
                "root_dir": Path(logger.root_dir).relative_to(root),
                "log_dir": Path(logger.log_dir).relative_to(root),
            }
            | ({"log_hyperparams of CSVLogger": raised} if tracker == "csv" else {"hyperparameters": params})
        )
    compare("fabric", *found)


def test_a_graph(tmp_path):
    found = []
    for kind in BOTH["tensorboard"]:
        logger = kind(tmp_path / kind.__module__)
        logger.log_metrics({"loss": 1.0}, 0)
        logger.log_graph(torch.nn.Linear(2, 1), torch.ones(1, 2))
        logger.finalize("success")
        found.append({"log_graph of TensorBoardLogger": bool(accumulated(logger.log_dir).Tags()["graph"])})
    compare("fabric", *found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, of its own trace
def test_the_graph_is_of_the_model_that_fabric_has_set_up(tmp_path):
    model = Fabric(accelerator="cpu", devices=1).setup(torch.compile(torch.nn.Sequential(torch.nn.Linear(2, 1))))
    drawn = []
    for kind in BOTH["tensorboard"]:
        logger = kind(tmp_path / kind.__module__, **({"log_graph": True} if kind is TensorBoardLogger else {}))
        logger.log_graph(model, torch.ones(1, 2))
        logger.finalize("success")
        graph = GraphDef.FromString(accumulated(logger.log_dir)._graph)
        drawn.append({node.name for node in graph.node})
    assert "Sequential/Linear[0]/weight/weight" in drawn[0]
    assert drawn[0] == drawn[1]
    with rankzero.start("csv", dir=tmp_path, delivery="off") as run:
        run.log_graph(model)
    (kept,) = run.dir.rglob("media/**/*.json")
    assert json.loads(kept.read_text())["modules"][0]["type"] == "Sequential"


def test_the_order_of_arguments():
    """Only a script that gives more than three arguments by position can tell."""
    found = []
    for kinds in zip(*BOTH.values(), strict=True):
        orders = [list(inspect.signature(kind).parameters) for kind in kinds]
        found.append(
            {"arguments of CSVLogger": orders[0][1:5], "order of arguments of TensorBoardLogger": orders[1][1:6]}
        )
    compare("fabric", *found)
