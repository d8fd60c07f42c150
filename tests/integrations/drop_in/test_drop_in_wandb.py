"""Features of W&B's logger: offline use, several runs in a process, reserved names."""

import os
from pathlib import Path

import pytest
import wandb
from integrations.drop_in.outcomes import outcome
from integrations.drop_in.page import compare
from plugins.wandb.arrived import STEP

pytestmark = pytest.mark.parametrize("tracker", ["wandb"])


def test_staying_offline(bench, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    found = []
    for kind in bench.each():
        requests = len(bench.server.requests)
        logger = bench.make(kind, "a", offline=True)
        logger.log_metrics({"loss": 1.0}, 0)
        logger.finalize("success")
        bench.end(logger)
        found.append(
            {
                "files of an offline run": [path.suffix for path in Path().rglob(f"*{logger.version}.wandb")],
                "requests of an offline run": len(bench.server.requests) - requests,
                "WANDB_MODE after an offline run": os.environ["WANDB_MODE"],
                "offline=True with log_model=True": outcome(kind, offline=True, log_model=True),
            }
        )
        monkeypatch.setenv("WANDB_MODE", "online")
    compare(bench.tracker, *found)


def test_arguments(bench):
    found = [
        {
            "config_exclude_keys and config_include_keys": outcome(kind, config_exclude_keys=["a"]),
            "anonymous": outcome(kind, anonymous=True),
            "dir without save_dir": kind(dir="x").save_dir,
        }
        for kind in bench.kinds
    ]
    compare(bench.tracker, *found)


@pytest.mark.slow
def test_a_second_logger(bench):
    """As in cross-validation, with and without an end of the first."""
    found = []
    for kind in bench.each():
        loggers = [bench.make(kind, name) for name in ("a", "b")]
        for value, logger in enumerate(loggers):
            outcome(logger.log_metrics, {"loss": float(value)}, 0)
        seen = {"a second logger of the process": bench.without_place(None, [each.version for each in loggers])}
        for logger in loggers:
            logger.experiment.finish()
        bench.made.clear()
        raised = outcome(loggers[0].log_metrics, {"loss": 2.0}, 1)
        seen["logging after wandb.finish()"] = raised
        if raised is None:
            loggers[0].experiment.finish()
        found.append(seen)
    compare(bench.tracker, *found)


def test_a_run_that_is_active(bench):
    found = []
    for kind in bench.each():
        side = kind.__module__.replace(".", "")
        active = wandb.init(project="p", id=side, dir=bench.directory)
        logger = kind(project="p")
        with pytest.warns(UserWarning, match="wandb"):
            logger.log_metrics({"loss": 1.0}, 3)
        seen = logger.version == active.id
        active.finish()
        rows = bench.server.run(side).history
        found.append({"a run that is active": (seen, [(row["loss"], row[STEP]) for row in rows])})
    compare(bench.tracker, *found)


def test_names_that_are_reserved(bench):
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a")
        assert outcome(logger.log_metrics, {"_step": 5.0, "_x": 6.0, "loss": 1.0}, 1) is None
        bench.end(logger)
        rows = bench.server.run(logger.version).history
        found.append(
            {"a metric called _step": [sorted(set(row) - {"_runtime", "_timestamp", "_wandb"}) for row in rows]}
        )
    compare(bench.tracker, *found)
