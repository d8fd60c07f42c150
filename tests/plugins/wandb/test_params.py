"""Params, tags, notes and alerts."""

import math
from argparse import Namespace
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from plugins.wandb.delivered import Delivered, values, wandb_server

from rankzero_wandb import WandbLogger


@dataclass
class Model:
    layers: list = field(default_factory=lambda: [64, 32])
    dropout: float = 0.1


PARAMS = {
    "lr": 1e-3,
    "nested": {"optimizer": {"name": "adam", "betas": (0.9, 0.999)}},
    "model": Model(),
    "space": Namespace(seed=1),
    "numpy": np.float32(0.5),
    "tensor": torch.tensor([1, 2]),
    "none": None,
    "flag": True,
    "text": "Grüße 🦉",
    "a/b.c d": 2**53 + 1,
    "nan": math.nan,
    "up": math.inf,
    "class": Model,
}
KEPT = {
    "lr": 1e-3,
    "nested": {"optimizer": {"name": "adam", "betas": [0.9, 0.999]}},
    "model": {"layers": [64, 32], "dropout": 0.1},
    "space": {"seed": 1},
    "numpy": 0.5,
    "tensor": [1, 2],
    "none": None,
    "flag": True,
    "text": "Grüße 🦉",
    "a/b.c d": 2**53 + 1,
    "class": f"{__name__}.Model",
}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    directory = tmp_path_factory.mktemp("params")
    with wandb_server(directory) as server:
        yield Delivered(server, directory)


def log_everything(run):
    run.log_hyperparams(PARAMS, metrics={"hp_metric": 0.5})
    run.log_metrics({"loss": 1.0}, step=1)
    run.log_hyperparams(Namespace(lr=2e-3, later={"a": {"b": 1}}))
    run.log_tags(["late", "given"])
    run.log_tags("alone")
    for level in ("INFO", "WARN", "ERROR"):
        run.alert(f"{level.title()}!", "the loss is NaN", level=level)
    run.alert("Lower case!", "the loss is NaN", level="warn")
    with pytest.warns(UserWarning, match="level must be one of INFO, WARN, ERROR, not 'loud'"):
        run.alert("Loud!", "the loss is NaN", level="loud")


@pytest.fixture(scope="module")
def stored(delivered):
    logger = WandbLogger(
        tags=["option", "given"], group="fold", job_type="train", config={"from": "option", "lr": 1}, save_dir=None
    )
    return delivered.run(log_everything, logger=logger, tags=["given"], notes="a run of a test", name="brave-owl")[1]


def test_params_keep_their_nesting(stored):
    assert {key: stored.config[key] for key in KEPT} == {**KEPT, "lr": 2e-3}
    assert (stored.config["later"], stored.config["from"]) == ({"a": {"b": 1}}, "option")


def test_params_that_are_not_finite(stored):
    assert [repr(float(stored.config[key])) for key in ("nan", "up")] == ["nan", "inf"]


def test_initial_values(stored):
    assert values(stored, "hp_metric") == [(0, 0.5)]


def test_tags_of_the_option_of_the_run_and_later_ones(stored):
    assert sorted(stored.tags) == ["alone", "given", "late", "option"]


def test_the_name_of_the_run(stored):
    assert (stored.display_name, stored.notes) == ("brave-owl", "a run of a test")
    assert (stored.group, stored.job_type) == ("fold", "train")


def test_alerts(stored):
    assert stored.alerts == [
        ("Info!", "the loss is NaN", "INFO"),
        ("Warn!", "the loss is NaN", "WARN"),
        ("Error!", "the loss is NaN", "ERROR"),
        ("Lower case!", "the loss is NaN", "WARN"),
        ("Loud!", "the loss is NaN", "INFO"),
    ]


def test_notes_and_group_of_the_options_take_precedence(delivered):
    logger = WandbLogger(notes="option", name="name", group="option")
    _, stored = delivered.run(lambda run: None, logger=logger, notes="run", group="run")
    assert (stored.notes, stored.display_name, stored.group) == ("option", "name", "option")


def test_the_group_of_the_run(delivered, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_GROUP", "variable")
    _, stored = delivered.run(lambda run: None, group="run")
    assert stored.group == "run"


def test_params_and_tags_are_kept_when_the_run_is_resumed(delivered):
    delivered.run(lambda run: run.log_hyperparams({"a": 1, "b": {"c": 1}}), run_id="resumed", tags=["first"])

    def log(run):
        run.log_hyperparams({"a": 2, "d": 3})
        run.log_tags(["second"])

    _, stored = delivered.run(log, run_id="resumed")
    assert {key: stored.config[key] for key in "abd"} == {"a": 2, "b": {"c": 1}, "d": 3}
    assert sorted(stored.tags) == ["first", "second"]


def test_params_that_change_during_training(delivered):
    def log(run):
        for step in range(20):
            run.log_hyperparams({"lr": 1 / (step + 1), f"step {step}": step})
            run.log_metrics({"loss": step}, step)

    _, stored = delivered.run(log)
    assert stored.config["lr"] == 1 / 20
    assert [stored.config[f"step {step}"] for step in range(20)] == list(range(20))
    assert len(stored.history) == 20


# Direct use


def test_direct_use(delivered):
    def log(logger):
        logger.log_hyperparams(PARAMS, metrics={"hp_metric": 0.5})
        logger.log_hyperparams(Namespace(lr=2e-3))
        logger.experiment.config["mine"] = 1
        logger.experiment.config.update({"nested": {"mine": {"deep": 2}}}, allow_val_change=True)
        logger.log_tags(["late", "given"])
        logger.alert("Stop", "the loss is NaN", level="ERROR")
        with pytest.raises(ValueError, match="level"):
            logger.alert("wrong", level="warn")

    stored = delivered.directly(
        log, tags=["given"], notes="a run", group="fold", job_type="train", name="n", config={"given": 1}
    )
    config = stored.config
    expected = {**KEPT, "lr": 2e-3, "nested": {**KEPT["nested"], "mine": {"deep": 2}}, "mine": 1, "given": 1}
    assert {key: config[key] for key in expected} == expected
    assert "rankzero" not in config
    assert values(stored, "hp_metric") == [(0, 0.5)]
    assert list(stored.tags) == ["given", "late"]
    assert (stored.notes, stored.group, stored.job_type, stored.display_name) == ("a run", "fold", "train", "n")
    assert stored.alerts == [("Stop", "the loss is NaN", "ERROR")]
