"""The stored data of the same metrics and hyperparameters, and the errors for invalid ones."""

import warnings
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from integrations.drop_in.outcomes import outcome
from integrations.drop_in.page import compare

METRICS = {
    "a number as a metric": (0.5, 3, torch.tensor(0.25), torch.tensor(0.25, requires_grad=True), np.float32(0.75)),
    "NaN as a metric": (float("nan"),),
    "infinity as a metric": (float("inf"),),
    "a bool as a metric": (True,),
    "a dictionary as a metric": ({"deep": 1.0},),
    "a metric that is not a number": ("word", None, [1, 2], torch.ones(2)),
}
NAMES = ("plain", "slash/x", "dots.and-dashes", "space x")
ODD_NAMES = ("odd[0]", "odd%", "odd:x", "oddäöü")
PARAMS = {
    "a plain value as a hyperparameter": (0.5, 3, True, "text", None),
    "a list as a hyperparameter": ([1, 2],),
    "a tuple as a hyperparameter": ((2, 1),),
    "a dictionary as a hyperparameter": ({"a": {"b": 1}},),
    "a long text as a hyperparameter": ("x" * 600,),
    "an object as a hyperparameter": (
        Path("some/where"), torch.float32, torch.relu, torch.nn.Linear, torch.tensor([1.0, 2.0]), Namespace(x=1)
    ),
}  # fmt: skip


def numbered(kinds):
    """Return {kind: {name: value}}, in which each value has a name of its own."""
    numbers = iter(range(1000))
    return {kind: {f"v{next(numbers)}x": value for value in values} for kind, values in kinds.items()}


def of(found, name):
    """Return what arrived of a name, and of names made of it."""
    return {each: value for each, value in found.items() if name in each.replace("|", "/").split("/")[0]}


def log_metrics(logger):
    """Log metrics of all kinds; return {name: what was raised}."""
    logger.log_hyperparams({"lr": 0.1})
    for value in (1.0, 2.0):
        logger.log_metrics({"stepless": value})
        logger.save()
    values = {name: value for named in numbered(METRICS).values() for name, value in named.items()}
    raised = {name: outcome(logger.log_metrics, {name: values[name]}, 7) for name in values}
    for step in (20, 22, 21, 21):
        logger.log_metrics({"again": float(step), "epoch": step // 10}, step)
    for name in (*NAMES, *ODD_NAMES):
        assert outcome(logger.log_metrics, {name: 1.0}, 30) is None
    return raised


@pytest.mark.parametrize("prefix", ["pre"])
def test_metrics(bench, prefix):
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a", prefix=prefix)
        raised = log_metrics(logger)
        logger.finalize("success")
        metrics = bench.arrived(logger)["metrics"]
        found.append(
            {what: [(raised[name], of(metrics, name)) for name in named] for what, named in numbered(METRICS).items()}
            | {
                "names of metrics": [of(metrics, name.split("/")[0]) for name in NAMES],
                "metric names with special characters": of(metrics, "odd"),
                "a metric without a step": of(metrics, "stepless"),
                "a step that comes late or again": of(metrics, "again"),
                "epoch as a metric": of(metrics, "epoch"),
            }
        )
    compare(bench.tracker, *found)


@pytest.mark.parametrize("tracker", ["csv", "tensorboard", "wandb"])
def test_a_metric_that_is_called_step(bench):
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a")
        logger.log_hyperparams({"lr": 0.1})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logger.log_metrics({"step": 5.0, "loss": 1.0}, 31)
        logger.finalize("success")
        found.append({"a metric called step": bench.arrived(logger)["metrics"]})
    compare(bench.tracker, *found)


def test_hyperparameters(bench):
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a")
        values = {name: value for named in numbered(PARAMS).values() for name, value in named.items()}
        assert outcome(logger.log_hyperparams, Namespace(**values, again=1)) is None
        again = outcome(logger.log_hyperparams, {"again": 2, "more": 3})
        logger.log_metrics({"loss": 1.0}, 0)
        logger.finalize("success")
        params = bench.arrived(logger)["params"]
        found.append(
            {what: [of(params, name) for name in named] for what, named in numbered(PARAMS).items()}
            | {"hyperparameters of a second call": (again, params.get("again"), params.get("more"))}
        )
    compare(bench.tracker, *found)
