"""`WandbLogger` without a Run."""

import copy
import math
import pickle
import warnings
from argparse import Namespace

import pytest
import torch
import wandb
from plugins.wandb.arrived import STEP
from plugins.wandb.scripts import Shell

from rankzero.loggers.experiment import DummyExperiment


def points(run, key):
    return [(scalar.step, scalar.value) for scalar in run.scalars(key, STEP)]


def test_rows_in_any_order_of_steps(make_logger, server):
    logger = make_logger(prefix="p")
    logger.log_metrics({"a": 1, "b": torch.tensor(0.5)}, step=7)
    logger.log_metrics({"a": 2}, 3)
    logger.log_metrics(metrics={"a": math.inf}, step=7)
    logger.log_metrics({"a": None}, step=8)
    logger.close()
    run = server.run(logger.version)
    assert points(run, "p-a") == [(7, 1), (3, 2), (7, math.inf)]
    assert points(run, "p-b") == [(7, 0.5)]
    assert [row["_step"] for row in run.history] == [0, 1, 2]
    assert run.metrics["*"].step_metric == STEP


def test_rows_without_a_step(make_logger, server):
    logger = make_logger()
    logger.log_metrics({"a": 1})
    logger.log_metrics({"a": 2})
    logger.close()
    assert [(each.step, each.value) for each in server.run(logger.version).scalars("a")] == [(0, 1), (1, 2)]


def test_hyperparams_stay_nested_and_grow(make_logger, server):
    logger = make_logger(config={"given": 1})
    logger.log_hyperparams(
        {"net": {"sizes": (1, 2), "act": torch.relu}, "kind": torch.nn.Linear, "lr": torch.tensor(0.5), "none": None}
    )
    logger.log_hyperparams(Namespace(seed=1, given=2))
    logger.log_hyperparams({"seed": 2}, {"hp_metric": 3})
    logger.experiment.config["late"] = {"a": 1}
    logger.experiment.config.update({"later": True})
    wandb.config.update({"latest": "x"})
    logger.close()
    config = server.run(logger.version).config
    assert "relu" in config["net"].pop("act")
    assert config.pop("kind").endswith("Linear")
    assert config == {
        "given": 2, "net": {"sizes": [1, 2]}, "lr": 0.5, "none": None, "seed": 2,
        "late": {"a": 1}, "later": True, "latest": "x",
    }  # fmt: skip
    assert points(server.run(logger.version), "hp_metric") == [(0, 3)]


def test_two_loggers_have_two_runs(make_logger, server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loggers = [make_logger(), make_logger(project="q")]
        for step in range(2):
            for number, logger in enumerate(loggers):
                logger.log_metrics({"a": number}, step)
    for logger in loggers:
        logger.close()
    runs = [server.run(logger.version) for logger in loggers]
    assert [run.project for run in runs] == ["p", "q"]
    assert [points(run, "a") for run in runs] == [[(0, 0), (1, 0)], [(0, 1), (1, 1)]]


def test_loggers_with_one_id_share_a_run(make_logger, server):
    first, second = make_logger(id="same"), make_logger(id="same")
    for step, logger in enumerate([first, second, first]):
        logger.log_metrics({"a": step}, step)
    assert second.experiment is first.experiment
    second.close()
    first.log_metrics({"a": 3}, 3)
    first.close()
    assert points(server.run("same"), "a") == [(step, step) for step in range(4)]


def test_an_active_run_is_used_with_one_warning(make_logger, server):
    active = wandb.init(project="mine", id="mine")
    loggers = [make_logger(), make_logger()]
    for logger in loggers:
        with pytest.warns(UserWarning, match="the W&B run mine is active, and WandbLogger logs to it"):
            logger.log_metrics({"a": 0}, 0)
    loggers[0].log_metrics({"a": 1}, 1)  # without a warning
    loggers[0].close()
    loggers[0].log_metrics({"a": 2}, 2)
    assert [logger.version for logger in loggers] == ["mine", "mine"]
    loggers[1].close()
    active.log({"own": 1})
    active.finish()
    assert points(server.run("mine"), "a") == [(0, 0), (0, 0), (1, 1), (2, 2)]
    assert len(server.run("mine").scalars("own")) == 1


def test_a_given_run(make_logger, server):
    with wandb.init(project="mine", id="given") as run:
        logger = make_logger(experiment=run)
        assert (logger.version, logger.experiment) == ("given", run)
        logger.log_metrics({"a": 1}, 5)
        copied = pickle.loads(pickle.dumps(logger))
        copied.log_metrics({"a": 2}, 6)
        logger.close()
        run.log({"own": 1})
    assert points(server.run("given"), "a") == [(5, 1), (6, 2)]
    assert len(server.run("given").scalars("own")) == 1


# Ended


@pytest.mark.parametrize(("status", "exit_code"), [("success", 0), ("failed", 1), ("aborted", 255), ("crashed", 1)])
def test_how_a_run_ended(make_logger, server, status, exit_code):
    logger = make_logger()
    logger.log_metrics({"a": 1}, 0)
    logger.finalize(status)
    logger.log_metrics({"a": 2}, 1)  # Lightning's test() after fit()
    logger.close()
    logger.close()
    run = server.run(logger.version)
    assert (run.exit_code, points(run, "a")) == (exit_code, [(0, 1), (1, 2)])


def test_logging_after_the_end_continues_the_run(make_logger, server):
    logger = make_logger("named", tags=["a"], config={"lr": 1})
    logger.define_metric("a", summary="min")
    logger.log_metrics({"a": 1}, 0)
    logger.log_hyperparams({"lr": 2})
    logger.log_tags(["b"])
    first = logger.version
    logger.close()
    logger.log_metrics({"a": 2}, 1)
    logger.close()
    logger.experiment.config["after"] = True
    logger.close()
    assert logger.version == first
    run = server.run(first)
    assert points(run, "a") == [(0, 1), (1, 2)]
    assert (run.config, list(run.tags), run.display_name) == ({"lr": 2, "after": True}, ["a", "b"], "named")
    assert (run.summary["a"], run.exit_code) == ({"min": 1}, 0)


def test_a_run_ended_by_the_user_is_continued(make_logger, server):
    logger = make_logger()
    logger.log_metrics({"a": 1}, 0)
    wandb.finish()
    assert server.run(logger.version).exit_code == 0
    logger.log_metrics({"a": 2}, 1)
    logger.close()
    assert points(server.run(logger.version), "a") == [(0, 1), (1, 2)]


# Copies


def test_a_copy_continues_the_run(make_logger, server):
    logger = make_logger()
    early = pickle.loads(pickle.dumps(logger))
    logger.log_metrics({"a": 0}, 0)
    late = copy.deepcopy(logger)
    for step, each in enumerate([early, late, logger], 1):
        each.log_metrics({"a": step}, step)
    assert early.version == late.version == logger.version
    early.close()
    logger.close()
    assert points(server.run(logger.version), "a") == [(step, step) for step in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("is_open", [False, True])
def test_a_spawned_process_continues_the_run(server, tmp_path, is_open):
    body = f"""
        import multiprocessing
        from rankzero_wandb import WandbLogger

        def train(logger, first):
            for step in (first, first + 1):
                logger.log_metrics({{"a": step}}, step)
            logger.finalize("success")

        if __name__ == "__main__":
            logger = WandbLogger(project="p", config={{"lr": 1}})
            if {is_open}:
                logger.experiment.config["more"] = 2
                logger.log_metrics({{"a": 0}}, 0)
            for first in (1, 3):
                process = multiprocessing.get_context("spawn").Process(target=train, args=(logger, first))
                process.start()
                process.join()
                assert process.exitcode == 0
            logger.log_metrics({{"a": 5}}, 5)
            print(logger.version)
    """
    printed = Shell(tmp_path / "script", server.environment(tmp_path)).train(body).stdout
    run = server.run(printed.split()[-1])
    assert points(run, "a") == [(step, step) for step in range(0 if is_open else 1, 6)]
    assert (run.config, run.exit_code) == ({"lr": 1, **({"more": 2} if is_open else {})}, 0)
    assert len(server.store.runs) == 1


# Other ranks


def test_nothing_happens_on_other_ranks(make_logger, server, monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "1")
    logger = make_logger(id="r", log_model="all")
    logger.log_metrics({"a": 1}, 0)
    logger.log_hyperparams({"lr": 1})
    logger.log_image("i", [torch.zeros(3, 2, 2)])
    logger.log_checkpoint(tmp_path / "missing.ckpt")
    logger.alert("a")
    logger.watch(torch.nn.Linear(1, 1))
    logger.experiment.config.update({"a": 1})
    logger.experiment.config["a"] = 1
    assert logger.use_artifact("e/p/model-r:best") is None
    assert logger.download_artifact("e/p/model-r:best") == ""
    logger.finalize("success")
    logger.close()
    assert isinstance(logger.experiment, DummyExperiment)
    assert (logger.name, logger.version, logger.save_dir) == ("p", "r", str(tmp_path))
    assert (wandb.run, server.requests, list(tmp_path.iterdir())) == (None, [], [])
