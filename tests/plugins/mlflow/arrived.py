"""A run with something of each kind, and whether MLflow has all of it exactly once."""

import random
import uuid

import numpy as np
from mlflow import MlflowClient
from plugins.mlflow.tracked import files_of, runs_tagged

import rankzero
from rankzero.events.structs import Metrics
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL

ROWS = 30
SUMMARISED = "val/loss"
REFUSED_NAME = "odd [name]"


def journal_of_everything(directory):
    """Write a run that nobody delivers; return its directory."""
    with rankzero.start(dir=directory / "runs", run_id=uuid.uuid4().hex, delivery="off") as run:
        run.log_hyperparams({"lr": 0.1, "long": "x" * 7000})
        run.define_metric(SUMMARISED, summary="min")
        for step in range(ROWS):
            run.log_metrics({SUMMARISED: random.random(), "train/loss": 1 / (step + 1), REFUSED_NAME: step}, step)
        for step in range(2):
            run.log_image("picture", np.full((4, 4), step * 100, np.uint8), step=step)
            run.log_table("table", columns=["a"], data=[[step]], step=step)
        checkpoint = directory / "last.ckpt"
        checkpoint.write_bytes(b"weights")
        run.log_checkpoint(checkpoint, score=0.5, step=ROWS, aliases=["best"])
    return run.dir


def check_everything(server, run_dir, status="FINISHED"):
    """Compare MLflow's run with the journal of `journal_of_everything`."""
    client = MlflowClient(server.uri)
    mlflow_run = only_run(client, run_dir)
    logged = points_logged(run_dir)
    tags = mlflow_run.data.tags
    assert points_in(client, mlflow_run) == sorted(logged + minima(logged))
    assert mlflow_run.info.status == status
    assert mlflow_run.data.params["lr"] == "0.1"
    assert tags[f"rankzero.name.{renamed(REFUSED_NAME)}"] == REFUSED_NAME
    assert tags["rankzero.checkpoint.best"] == f"checkpoints/last-step-{ROWS}/last.ckpt"
    assert tags["mlflow.loggedArtifacts"].count('"table"') == 2
    folders = [path.split("/")[0] + path[path.rindex(".") :] for path in files_of(client, mlflow_run.info.run_id)]
    assert sorted(folders) == sorted(
        ["checkpoints.ckpt", "checkpoints.json", "params.txt", *["images.png", "images.webp", "tables.json"] * 2]
    )


def only_run(client, run_dir):
    """Return MLflow's run of a rankzero run, of which there is to be one."""
    (run,) = runs_tagged(client, run_dir.name)
    return run


def points_logged(run_dir):
    """Return (name, step, milliseconds, value) of all metrics in a journal, in order of time."""
    rows = [event for _, event in read_events(run_dir / JOURNAL) if isinstance(event, Metrics)]
    return [
        (renamed(name), row.step, round(row.time * 1000), float(value))
        for row in rows
        for name, value in row.numbers().items()
    ]


def points_in(client, mlflow_run):
    """Return the same of what MLflow has, sorted."""
    histories = [client.get_metric_history(mlflow_run.info.run_id, key) for key in mlflow_run.data.metrics]
    return sorted((point.key, point.step, point.timestamp, point.value) for each in histories for point in each)


def minima(points):
    """Return what MLflow is to have as summary."""
    best, found = float("inf"), []
    for name, step, time, value in points:
        if name == SUMMARISED and value < best:
            best = value
            found.append((f"{SUMMARISED}.min", step, time, value))
    return found


def renamed(name):
    return name.replace("[", ":5B:").replace("]", ":5D:")
