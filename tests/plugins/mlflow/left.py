"""Log with MLflow's client to a file store, a database or a server.

``left_at(uri, directory)`` calls `everything` in a process of its own, ``left_in(store)`` only once for each store.
What it logs stands in the constants.
"""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from waiting import A_WHILE

TESTS = Path(__file__).parents[2]
NOT_FINITE = [float("nan"), float("inf"), float("-inf")]
POINTS = [("loss", 1_700_000_000_000 + 250 * step, step, 1 / (step + 3)) for step in range(40)]
SAME = [("train/acc", time, step, step / 7) for _, time, step, _ in POINTS[::2]]
"""They have the steps and times of the loss."""
ODD = [("odd", 1_700_000_000_000 + step, step, value) for step, value in enumerate(NOT_FINITE)]
LATE = [("loss", 1_600_000_000_000, 7, 0.7), ("loss", 1_800_000_000_000, 50, 0.5), ("new", 1_800_000_000_000, 50, 5.0)]
"""Points that are logged later; the first has an earlier time than all others."""
PARAMS = {"lr": "0.1", "layers": "[64, 10]", "model/name": "net", "text": "1e-3"}


def left_at(uri, directory):
    """Log to ``uri`` with MLflow's client."""
    done = subprocess.run(
        [sys.executable, "-m", "plugins.mlflow.left", uri],
        cwd=directory,
        env={**_without_mlflow(), **ALLOWED, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=A_WHILE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@functools.cache
def left_in(store):
    """Return a directory with a store of its own, which tests must not change."""
    directory = Path(tempfile.mkdtemp(prefix="rankzero-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    left_at(store, directory)
    return directory


ALLOWED = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""MLflow 3 writes to a file store only if it is told to."""


def _without_mlflow():
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}


@contextmanager
def client_of(uri):
    """Yield MLflow's client, which may write to a file store."""
    from mlflow import MlflowClient

    with mock.patch.dict(os.environ, ALLOWED):
        yield MlflowClient(str(uri))


def log_points(client, run_id, points):
    from mlflow.entities import Metric

    client.log_batch(run_id, metrics=[Metric(name, value, time, step) for name, time, step, value in points])


def go_on(uri):
    """Log more to the unfinished run, and end it."""
    with client_of(uri) as client:
        (experiment,) = client.search_experiments(filter_string="name = 'digits'")
        (run,) = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
        log_points(client, run.info.run_id, LATE)
        client.log_param(run.info.run_id, "late", "1")
        client.set_tag(run.info.run_id, "team", "vision")
        client.log_text(run.info.run_id, "later", "later.txt")
        client.set_terminated(run.info.run_id, "FAILED")


def everything(uri):
    """Log a run with data of each kind, an unfinished nested run, and a deleted one."""
    import mlflow
    import numpy as np
    import pandas as pd

    class Echo(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input: list[str]) -> list[str]:
            return model_input

    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    mlflow.set_experiment("digits")
    with mlflow.start_run(run_name="brave try", description="why not", tags={"team": "a", "kept": "true"}) as run:
        mlflow.log_params(PARAMS)
        log_points(client, run.info.run_id, POINTS + SAME + ODD)
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="pictures/cat", step=2)
        mlflow.log_table({"a": [1, 2], "b": ["x", None]}, "tables/some.json")
        mlflow.log_text("hello", "notes/hello.txt")
        data = mlflow.data.from_pandas(pd.DataFrame({"a": [1]}), source="x.csv", name="data")
        mlflow.log_input(data, context="train")
        model = f"echoes-{run.info.run_id}"  # another process may log to the same server
        mlflow.pyfunc.log_model(name="echo", python_model=Echo(), pip_requirements=[], registered_model_name=model)
        client.set_registered_model_alias(model, "champion", "1")
    child = client.create_run(run.info.experiment_id, tags={"mlflow.parentRunId": run.info.run_id}, run_name="child")
    log_points(client, child.info.run_id, POINTS + SAME)
    deleted = client.create_run(run.info.experiment_id)
    log_points(client, deleted.info.run_id, POINTS)
    client.delete_run(deleted.info.run_id)


if __name__ == "__main__":
    everything(sys.argv[1])
