"""A run with data of each kind, and checks that MLflow has all of it exactly once."""

import random
import uuid

import numpy as np
from mlflow import MlflowClient
from plugins.mlflow.tracked import Held, runs_tagged

import rankzero
from rankzero.events.structs import Metrics
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL
from rankzero.testing.samples import png

ROWS = 30
SUMMARISED = "val/loss"
REFUSED_NAME = "odd [name]"


def journal_of_everything(directory):
    """Write a run without delivering it; return its directory."""
    with rankzero.start(dir=directory / "runs", run_id=uuid.uuid4().hex, delivery="off", tags=["early"]) as run:
        log_everything(run, directory)
    return run.dir


def log_everything(run, directory):
    run.log_hyperparams({"lr": 0.1, "model": {"layers": [64, 10]}, "long": "x" * 7000})
    run.define_metric(SUMMARISED, summary="min")
    for step in range(ROWS):
        row = {SUMMARISED: random.random(), "train/loss": 1 / (step + 1), REFUSED_NAME: step}
        run.log_metrics(row, step, epoch=step // 10)
    for step in range(2):
        run.log_image("picture", [png()], step=step, caption=["a digit"])
        run.log_table("table", columns=["a"], data=[[step]], step=step)
    (directory / "last.ckpt").write_bytes(b"weights")
    (directory / "data.csv").write_bytes(b"1,2")
    run.log_text("note", "hello")
    run.log_histogram("weights", np.arange(4.0))
    run.log_artifact(directory / "data.csv")
    run.log_checkpoint(directory / "last.ckpt", score=0.5, step=ROWS, aliases=["best"])
    run.log_tags(["late"])


def check_everything(uri, run_dir, status="FINISHED"):
    """Compare MLflow's run with the journal of `log_everything`; return MLflow's run."""
    client = MlflowClient(uri)
    mlflow_run = only_run(client, run_dir)
    held = Held(uri, mlflow_run.info.run_id)
    logged = points_logged(run_dir)
    assert points_in(client, mlflow_run) == sorted(logged + minima(logged))
    assert held.info.status == status
    assert held.params == {"lr": "0.1", "model/layers": "[64, 10]", "long": "x" * 6000}
    assert held.tags[f"rankzero.name.{renamed(REFUSED_NAME)}"] == REFUSED_NAME
    assert held.tags["rankzero.checkpoint.best"] == f"checkpoints/last-step-{ROWS}/last.ckpt"
    assert held.tags["mlflow.loggedArtifacts"].count('"table"') == 2
    assert {tag for tag, value in held.tags.items() if value == "true"} == {"early", "late"}
    files = held.read_all()
    assert sorted(path.partition("/")[0] + path[path.rindex(".") :] for path in files) == sorted(
        ["checkpoints.ckpt", "checkpoints.json", "data.csv.csv", "histograms.json", "params.txt", "texts.txt"]
        + ["captions.json", "images.png", "images.webp", "tables.json"] * 2
    )
    whole = {path: content for path, content in files.items() if not path.endswith((".webp", "/metadata.json"))}
    kept = {path.partition("/")[0]: content for path, content in whole.items()}
    assert (kept["data.csv"], kept["texts"], kept["images"]) == (b"1,2", b"hello", png())
    assert (kept["params"], kept["checkpoints"]) == (b"x" * 7000, b"weights")
    assert kept["tables"] == b'{"columns":["a"],"data":[[1]]}'
    return held


def only_run(client, run_dir):
    """Return MLflow's only run of a rankzero run."""
    (run,) = runs_tagged(client, run_dir.name)
    return run


def points_logged(run_dir):
    """Return (name, step, milliseconds, value) of all metrics in a journal, in order of time."""
    rows = [event for _, event in read_events(run_dir / JOURNAL) if isinstance(event, Metrics)]
    return [
        (renamed(name), row.step, round(row.time * 1000), float(value))
        for row in rows
        for name, value in {**row.numbers(), **({} if row.epoch is None else {"epoch": row.epoch})}.items()
    ]


def points_in(client, mlflow_run):
    """Return the same for MLflow, sorted."""
    histories = [client.get_metric_history(mlflow_run.info.run_id, key) for key in mlflow_run.data.metrics]
    return sorted((point.key, point.step, point.timestamp, point.value) for each in histories for point in each)


def minima(points):
    """Return the expected summary in MLflow."""
    best, found = float("inf"), []
    for name, step, time, value in points:
        if name == SUMMARISED and value < best:
            best = value
            found.append((f"{SUMMARISED}.min", step, time, value))
    return found


def renamed(name):
    return name.replace("[", ":5B:").replace("]", ":5D:")
