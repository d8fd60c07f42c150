"""A real server that is killed, or whose database is busy: training continues, nothing is lost or duplicated.

`DeliveryContract` and test_answers.py have the same with a proxy in front of a server.
"""

import random
import shutil
import sqlite3
import threading
import time
import uuid
from contextlib import closing, contextmanager

import pytest
from mlflow import MlflowClient
from plugins.mlflow.arrived import only_run, points_in, points_logged
from servers.mlflow_server import MlflowServer
from servers.training import Training
from waiting import A_MOMENT, A_WHILE, until

import rankzero
from rankzero.rundir.positions import load_position

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_database):
    """A server with two database connections, which waits for a free one only half a second."""
    directory = tmp_path_factory.mktemp("server")
    (directory / "sitecustomize.py").write_text(
        "from sqlalchemy.pool import QueuePool\nQueuePool.__init__.__defaults__ = (2, 0, 0.5, False)\n"
    )
    server = MlflowServer(directory, PYTHONPATH=str(directory), MLFLOW_SQLALCHEMYSTORE_POOLCLASS="QueuePool")
    shutil.copy(empty_database, server.database)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def training(tmp_path, monkeypatch):
    """Also knows the couriers of this process, and kills all processes at the end."""
    monkeypatch.setenv("TRAINING_DIRECTORY", str(tmp_path))
    training = Training(tmp_path)
    yield training
    training.kill()


@pytest.fixture
def begin(training):
    runs = []

    def begin(server):
        runs.append(rankzero.start("mlflow", tracking_uri=server.uri, dir=training.directory, run_id=uuid.uuid4().hex))
        return runs[-1]

    yield begin
    for run in runs:
        run.finish(timeout=0)


def log(run, *steps):
    """Log ten metrics for each step; no call may take long."""
    slowest = 0.0
    for step in steps:
        began = time.perf_counter()
        run.log_metrics({f"metric_{index}": step + index / 3 for index in range(10)}, step)
        slowest = max(slowest, time.perf_counter() - began)
    assert slowest < A_MOMENT


def problem_of(run):
    return load_position(run.dir, "mlflow").problem


def finish(run, server):
    """End the run and compare."""
    run.finish(timeout=A_WHILE)
    client = MlflowClient(server.uri)
    mlflow_run = only_run(client, run.dir)
    assert points_in(client, mlflow_run) == sorted(points_logged(run.dir))
    assert mlflow_run.info.status == "FINISHED"
    assert load_position(run.dir, "mlflow").rejected == 0


def test_a_server_that_is_killed_and_restarted(server, begin):
    run = begin(server)
    log(run, *range(2000))
    until(lambda: load_position(run.dir, "mlflow").offset)
    log(run, *range(2000, 4000))
    time.sleep(random.uniform(0, 0.5))
    server.kill()
    assert not run.flush(1)
    until(lambda: "Connection refused" in (problem_of(run) or ""))
    log(run, *range(4000, 4100))
    server.start()
    finish(run, server)


@contextmanager
def locked(server):
    """Lock the database."""
    with closing(sqlite3.connect(server.database, timeout=A_WHILE, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def test_a_server_without_a_free_connection_to_its_database(server, begin):
    """This once ended a training of fifteen hours on eight GPUs."""
    run = begin(server)
    log(run, 0)
    assert run.flush(A_WHILE)
    client = MlflowClient(server.uri)
    with locked(server):
        for _ in range(2):  # each holds a connection while it waits for the lock
            threading.Thread(target=client.create_experiment, args=(uuid.uuid4().hex,), daemon=True).start()
        time.sleep(0.5)
        log(run, *range(1, 200))
        assert "QueuePool limit of size 2" in until(lambda: problem_of(run))
    finish(run, server)


def test_a_database_that_is_locked_for_longer_than_the_server_waits(server, begin):
    run = begin(server)
    log(run, 0)
    assert run.flush(A_WHILE)
    with locked(server):
        log(run, *range(1, 200))
        assert "503" in until(lambda: problem_of(run))
    finish(run, server)
