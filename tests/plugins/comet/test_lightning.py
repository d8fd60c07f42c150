"""`CometLogger` as the logger of Lightning's Trainer and of Fabric, without a Run and under one."""

import io
import json

import pytest

pytest.importorskip("lightning")
import torch
from lightning.fabric import Fabric, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CometLogger as LightningCometLogger
from plugins.comet.direct import QUIET, logged, params
from servers.lightning_model import SCORES, Model, data, trainer

import rankzero

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")

OURS, THEIRS = "a" * 40, "b" * 40
CHECKPOINTS = {"monitor": "val/score", "mode": "min"}


@pytest.fixture
def theirs(make):
    """Lightning's logger, whose experiment ends with the test."""
    logger = LightningCometLogger(experiment_key=THEIRS, **QUIET)
    yield logger
    logger.experiment.end()


def use(logger):
    """Fit, validate and test; return the logged losses."""
    seed_everything(1, verbose=False)
    model = Model()
    fitted = trainer(logger, epochs=3, enable_checkpointing=False)
    fitted.fit(model, data(), data())
    fitted.validate(model, data(), verbose=False)
    fitted.test(model, data(), verbose=False)
    return [("train/loss", step, pytest.approx(value)) for step, value in enumerate(model.losses)]


def check(stored, losses):
    found = logged(stored)
    assert [each for each in found if each[0] == "train/loss"] == losses
    scores = [("val/score", 1, 0.5), ("val/score", 3, 0.75), ("val/score", 5, 0.25), ("val/score", 6, 1.0)]
    assert [each for each in found if each[0] == "val/score"] == scores
    assert [each for each in found if each[0] == "test/loss"] == [("test/loss", 6, 0.125)]
    assert {name for name, *_ in found} == {"train/loss", "val/score", "test/loss"}
    epochs = [each.epoch for each in stored.metrics if each.name == "train/loss"]
    assert epochs == [0, 0, 1, 1, 2, 2]
    assert params(stored) == {"lr": 0.1, "sizes": [2, 1]}


def all_of(stored):
    """Return the stored data without times."""
    metrics = [(each.name, each.step, each.epoch, each.value) for each in stored.metrics]
    return sorted(each for each in metrics if not each[0].startswith(("sys.", "process "))), stored.params


def test_the_same_arrives_as_from_lightnings_logger(make, theirs, server):
    use(theirs)
    theirs.experiment.end()
    ours = make(experiment_key=OURS)
    losses = use(ours)
    ours.close()
    check(server.experiment(OURS), losses)
    assert all_of(server.experiment(OURS)) == all_of(server.experiment(THEIRS))
    others = [server.experiment(key).others for key in (OURS, THEIRS)]
    assert [each.pop("Created from") for each in others] == ["rankzero", "pytorch-lightning"]
    assert others[0] == others[1]
    assert server.experiment(OURS).state == server.experiment(THEIRS).state == "finished"


def test_a_prefix_and_nested_values_are_as_of_lightnings_logger(make, server):
    config = {**QUIET, "prefix": "exp1"}
    for key, kind in ((THEIRS, LightningCometLogger), (OURS, lambda **options: make(**options))):
        logger = kind(experiment_key=key, **config)
        logger.log_hyperparams({"net": {"sizes": [1, 2], "act": None}, "lr": 0.5})
        logger.log_metrics({"loss": torch.tensor(0.5), "deep": {"a": 1}, "epoch": 3}, 7)
        logger.log_metrics({"loss": float("nan")}, 8)
        logger.finalize("success")
        logger.experiment.end()
    found = [all_of(server.experiment(key)) for key in (OURS, THEIRS)]
    assert str(found[0]) == str(found[1])
    assert {name for name, *_ in found[0][0]} == {"exp1_loss", "exp1_deep/a"}
    nested = [server.experiment(key).others["hasNestedParams"] for key in (OURS, THEIRS)]
    assert nested == [True, True]


def test_under_a_run(here, server, tmp_path):
    with rankzero.start("comet", project="p", dir=tmp_path / "runs", delivery="thread") as run:
        losses = use(run)
    check(server.experiment(run.id), losses)
    assert server.experiment(run.id).state == "finished"


def test_fabric(make, server):
    logger = make(experiment_key=OURS)
    fabric = Fabric(accelerator="cpu", devices=1, loggers=[logger])
    fabric.logger.log_hyperparams({"lr": 0.1})
    for step in (3, 1, 2):
        fabric.log_dict({"loss": step / 4}, step)
    fabric.logger.finalize("success")
    logger.close()
    stored = server.experiment(OURS)
    assert sorted(logged(stored)) == [("loss", 1, 0.25), ("loss", 2, 0.5), ("loss", 3, 0.75)]
    assert params(stored) == {"lr": 0.1}


def test_the_model_is_shown_as_by_lightnings_logger(make, theirs, server):
    model = Model()
    theirs.log_graph(model)
    theirs.experiment.end()
    ours = make(experiment_key=OURS)
    ours.log_graph(model)
    ours.close()
    assert server.experiment(OURS).graph == server.experiment(THEIRS).graph == str(model)


# Checkpoints


def fit(logger, directory, settings):
    callback = ModelCheckpoint(directory, "{epoch}", **settings)
    trainer(logger, epochs=4, callbacks=[callback]).fit(Model(), data(), data())


def versions(server, key):
    """Return (file, score, epoch, aliases) of each version of an experiment's checkpoints."""
    artifacts = [each for each in server.store.artifacts.by_id.values() if each.name == f"model-{key}"]
    return [described(version) for artifact in artifacts for version in artifact.versions]


def described(version):
    ((name, content),) = version.files.items()
    epoch = torch.load(io.BytesIO(content), weights_only=False)["epoch"]
    details = json.loads(version.metadata)
    assert details["original_filename"] == name
    return name, details["score"], epoch, sorted(version.aliases)


def saved(epoch, *aliases):
    return f"epoch={epoch}.ckpt", SCORES[epoch], epoch, sorted(aliases)


KEPT = {"save_top_k": 2}, True, [saved(0), saved(2, "best", "latest")]
EACH = {"save_top_k": 1}, "all", [saved(0), saved(2, "best", "latest")]


@pytest.mark.parametrize(("settings", "log_model", "expected"), [KEPT, EACH, ({"save_top_k": -1}, False, [])])
def test_which_checkpoints_arrive(make, here, server, tmp_path, settings, log_model, expected):
    logger = make(experiment_key=OURS, log_model=log_model)
    fit(logger, tmp_path / "direct", {**CHECKPOINTS, **settings})
    logger.close()
    assert sorted(versions(server, OURS)) == expected
    options = {"dir": tmp_path / "runs", "run_id": THEIRS, "delivery": "thread"}
    with rankzero.start({"comet": {"log_model": log_model}}, project="p", **options) as run:
        fit(run, tmp_path / "run", {**CHECKPOINTS, **settings})
    assert versions(server, THEIRS) == expected


def test_lightnings_command_line_makes_it():
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningArgumentParser

    from rankzero_comet import CometLogger

    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(CometLogger, "logger")
    arguments = [
        "--logger=rankzero_comet.CometLogger",
        "--logger.project=p",
        "--logger.log_model=all",
        "--logger.dict_kwargs={name: n}",
    ]
    logger = parser.instantiate_classes(parser.parse_args(arguments)).logger
    assert (type(logger), logger.name, logger.log_model) == (CometLogger, "p", "all")
