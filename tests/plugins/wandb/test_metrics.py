"""Metrics: each value with its step and time, in any order, and no other values."""

import json
import math
from decimal import Decimal

import numpy as np
import pytest
import torch
import wandb
from plugins.wandb.delivered import Delivered, table_in, values, wandb_server

from rankzero_wandb import WandbLogger

STEP = "trainer/global_step"
NUMBERS = {
    "float": 0.1,
    "least": 5e-324,
    "greatest": -1.7976931348623157e308,
    "odd": 2**53 + 1,
    "least int": -(2**63),
    "bool": True,
    "float32": np.float32(0.1),
    "int64": np.int64(-7),
    "tensor": torch.tensor([3.5], requires_grad=True),
    "bfloat16": torch.tensor(1.5, dtype=torch.bfloat16),
    "decimal": Decimal("0.5"),
}
ODD_NAMES = ["a/b/c", "x" * 300, "trailing/", "\\\\", "a\\"]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    directory = tmp_path_factory.mktemp("metrics")
    with wandb_server(directory) as server:
        yield Delivered(server, directory)


def log_everything(run):
    run.log_metrics({"loss": 0.5, "acc": 1}, step=5, epoch=2, stage="train")
    run.log_metrics({"loss": 0.125, "epoch": 7}, step=3, epoch=3)
    run.log_metrics({"loss": 1.0})
    run.log_metrics({name: index for index, name in enumerate(ODD_NAMES)}, step=12)
    run.log_metrics({"beyond int64": 2**70, "beyond floats": 10**400, "below floats": -(10**5000)}, step=14)


@pytest.fixture(scope="module")
def stored(delivered):
    return delivered.run(log_everything)[1]


def test_the_epoch_of_a_row_unless_it_has_a_metric_epoch(stored):
    assert values(stored, "loss") == [(5, 0.5), (3, 0.125), (4, 1.0)]
    assert values(stored, "epoch") == [(5, 2), (3, 7)]


def test_the_step_is_the_axis_of_all_metrics(stored):
    assert stored.metrics["*"] == (STEP, frozenset(), True, False)


def test_names_are_as_they_were(stored):
    assert [values(stored, name) for name in ODD_NAMES] == [[(12, index)] for index in range(len(ODD_NAMES))]


def test_ints_that_w_and_b_cannot_hold(stored):
    assert values(stored, "beyond int64") == [(14, float(2**70))]
    assert values(stored, "beyond floats") + values(stored, "below floats") == [(14, math.inf), (14, -math.inf)]


def test_an_empty_name_is_not_lost(delivered):
    def log(run):
        run.log_metrics({"": 1}, step=1)
        run.log_histogram("", [0.0, 1.0], step=2)

    _, stored = delivered.run(log)
    assert values(stored, "(no name)")[0] == (1, 1)
    assert values(stored, "(no name)")[1][1]["_type"] == "histogram"


def test_other_values_are_kept(delivered):
    def log(run):
        with pytest.warns(UserWarning, match="metric"):
            run.log_metrics({"loss": 1, "none": None, "text": "warm-up", "array": np.arange(3)}, step=4)

    _, stored = delivered.run(log)
    assert values(stored, "loss") == [(4, 1)]
    assert values(stored, "text") == [(4, "warm-up")]
    assert table_in(stored, "array") == (["value"], [[[0, 1, 2]]])
    assert not any("none" in row for row in stored.history)


def test_prefix_under_a_run(delivered):
    def log(run):
        run.define_metric("loss", step_metric="sample")
        run.log_metrics({"loss": 0.5, "sample": 64}, step=1, epoch=2)
        run.log_histogram("weights", [0.0, 1.0], step=1)

    _, stored = delivered.run(log, logger=WandbLogger(prefix="fold1"))
    assert values(stored, "fold1-loss") + values(stored, "fold1-epoch") == [(1, 0.5), (1, 2)]
    assert stored.metrics["fold1-loss"].step_metric == "fold1-sample"
    keys = {key for row in stored.history for key in row if not key.startswith("_")}
    assert keys == {"fold1-loss", "fold1-sample", "fold1-epoch", "fold1-weights", STEP}


# Direct use


def test_direct_use_passes_values_unchanged(delivered):
    def log(logger):
        logger.log_metrics({"loss": 0.5, "text": "warm-up", "none": None, "nested": {"a": {"b": 2}}}, step=4)
        logger.log_metrics({"loss": 0.25, "array": np.arange(3), "tensor": torch.tensor([1.5])}, step=2)
        logger.log_metrics({"loss": math.nan, "epoch": 1})
        logger.log_metrics({"picture": wandb.Html("<b>x</b>")}, step=5)

    stored = delivered.directly(log)
    assert json.dumps([value for _, value in values(stored, "loss")]) == "[0.5, 0.25, NaN]"
    assert [row.get(STEP) for row in stored.history] == [4, 2, 2, 5]  # W&B adds the newest step
    found = {key: value for row in stored.history for key, value in row.items() if not key.startswith("_")}
    assert (found["text"], found["nested"], found["array"]) == ("warm-up", {"a": {"b": 2}}, [0, 1, 2])
    assert (found["tensor"], found["epoch"]) == (1.5, 1)
    assert b"<b>x</b>" in stored.media("picture")[0].files[0]
    assert "none" not in found


@pytest.mark.parametrize("use", ["run", "directly"])
def test_numbers_are_exact(delivered, use):
    def log(logger):
        logger.log_metrics(NUMBERS, step=1)

    stored = delivered.directly(log) if use == "directly" else delivered.run(log)[1]
    (row,) = stored.history
    expected = {name: each.item() if hasattr(each, "item") else each for name, each in NUMBERS.items()}
    assert {name: row[name] for name in NUMBERS} == {**expected, "decimal": 0.5}


@pytest.mark.filterwarnings("ignore:W&B cannot store a metric called")
def test_reserved_names_are_renamed(delivered):
    taken = {"_step": 1, "_timestamp": 2, "_runtime": 3, "trainer/global_step": 4, "\\": 5}
    _, stored = delivered.run(lambda run: run.log_metrics({**taken, "loss": 5}, step=6))
    assert values(stored, "loss") == [(6, 5)]
    assert {name: values(stored, f"metrics/{name}") for name in taken} == {
        name: [(6, value)] for name, value in taken.items()
    }
