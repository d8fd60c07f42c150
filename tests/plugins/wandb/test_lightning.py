"""`WandbLogger` as the logger of Lightning's Trainer and of Fabric, without a Run and under one."""

import pytest

pytest.importorskip("lightning")
from lightning.fabric import Fabric
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from plugins.wandb.arrived import STEP
from servers.lightning_model import SCORES, Model, data, trainer

import rankzero
from rankzero_wandb import WandbLogger

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


def points(run, key):
    return [(scalar.step, scalar.value) for scalar in run.scalars(key, STEP)]


def use(logger):
    """Fit, validate and test; return the logged losses."""
    model = Model()
    fitted = trainer(logger, epochs=3, enable_checkpointing=False)
    fitted.fit(model, data(), data())
    fitted.validate(model, data(), verbose=False)
    fitted.test(model, data(), verbose=False)
    return [(step, pytest.approx(value)) for step, value in enumerate(model.losses)]


def check(run, losses):
    assert points(run, "train/loss") == losses
    assert points(run, "val/score") == [(1, 0.5), (3, 0.75), (5, 0.25), (6, 1.0)]
    assert points(run, "test/loss") == [(6, 0.125)]
    assert sorted({value for _, value in points(run, "epoch")}) == [0, 1, 2, 3]
    assert (run.config["lr"], run.config["sizes"], run.exit_code) == (0.1, [2, 1], 0)


def test_the_same_arrives_as_from_lightnings_logger(make_logger, server, tmp_path):
    loggers = [make_logger(id="ours"), LightningWandbLogger(id="theirs", project="p", save_dir=tmp_path)]
    for logger in loggers:
        use(logger)
        logger.experiment.finish()
    ours, theirs = (server.run(name) for name in ("ours", "theirs"))
    assert [sorted(row) for row in ours.history] == [sorted(row) for row in theirs.history]
    for key in ("epoch", "val/score", "test/loss"):
        assert points(ours, key) == points(theirs, key)
    assert (ours.config, ours.metrics, ours.state) == (theirs.config, theirs.metrics, theirs.state)


def test_under_a_run(here, server, tmp_path):
    with rankzero.start("wandb", project="p", dir=tmp_path / "runs", delivery="thread") as run:
        losses = use(run)
    arrived = server.run(run.id)
    arrived.raw_config.pop("rankzero")
    check(arrived, losses)


def test_a_fit_that_fails(make_logger, server):
    logger = make_logger()
    with pytest.raises(IndexError):
        trainer(logger, epochs=len(SCORES) + 1, enable_checkpointing=False).fit(Model(), data(), data())
    logger.close()
    assert (server.run(logger.version).state, server.run(logger.version).exit_code) == ("failed", 1)


def test_checkpoints_are_beside_the_files_of_the_client(make_logger, tmp_path):
    logger = make_logger(id="r")
    trainer(logger, epochs=1).fit(Model(), data(), data())
    assert [path.parent for path in tmp_path.rglob("*.ckpt")] == [tmp_path / "p" / "r" / "checkpoints"]


def test_fabric(make_logger, server):
    logger = make_logger()
    fabric = Fabric(accelerator="cpu", devices=1, loggers=[logger])
    fabric.logger.log_hyperparams({"lr": 0.1})
    for step in (3, 1, 2):
        fabric.log_dict({"loss": step / 4}, step)
    fabric.log("late", 1)
    fabric.logger.finalize("success")
    logger.close()
    run = server.run(logger.version)
    assert points(run, "loss") == [(3, 0.75), (1, 0.25), (2, 0.5)]
    assert (run.config, run.scalars("late")[0].value, run.exit_code) == ({"lr": 0.1}, 1, 0)


def test_lightnings_command_line_makes_it(tmp_path):
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningArgumentParser

    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(WandbLogger, "logger")
    arguments = [
        "--logger=rankzero_wandb.WandbLogger",
        "--logger.project=p",
        f"--logger.save_dir={tmp_path}",
        "--logger.log_model=all",
        "--logger.dict_kwargs={entity: me}",
    ]
    logger = parser.instantiate_classes(parser.parse_args(arguments)).logger
    assert (type(logger), logger.name, logger.save_dir, logger.log_model) == (WandbLogger, "p", str(tmp_path), "all")
