"""Processes that are killed: training, its couriers, both; in the end Neptune has all of it once."""

import contextlib
import subprocess
import sys
import uuid

import pytest
from plugins.neptune.delivered import points_logged, points_stored, rejected
from servers.neptune_server import NeptuneServer
from servers.training import Training
from waiting import A_WHILE, until

from rankzero.journal.tail import read_start
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import load_position
from rankzero.testing.loopback import stalled

SCRIPT = """
    import numpy as np
    os.chdir(directory)
    run = rankzero.start("neptune", project="p", dir=directory / "runs", run_id="r1")
"""
EVERYTHING = """
    (directory / "weights.bin").write_bytes(b"weights")
    run.log_hyperparams({"lr": 0.1, "net": {"sizes": [1, 2]}})
    for step in range(300):
        run.log_metrics({"loss": step / 3}, step)
        if step % 100 == 50:
            run.log_text("said", ["text"], [[f"at {step}"]], step=step)
            run.log_table("table", ["a"], [[step]], step=step)
            run.log_artifact(directory / "weights.bin", name=f"weights-{step}")
    run.log_metrics({"loss": float("nan")}, 300)
    run.log_hyperparams({"late": True})
    run.log_tags(["tagged"])
"""
DEATH = """
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=[True, False], ids=["strict", "lax"])
def server(request):
    with NeptuneServer(increasing_steps=request.param, api_key=uuid.uuid4().hex) as server:
        yield server
        assert server.problems == []


@pytest.fixture
def training(here, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINING_DIRECTORY", str(tmp_path))
    training = Training(tmp_path)
    training.run_dir = tmp_path / "runs" / "p" / "r1"
    yield training
    training.kill()


def kill_couriers(training):
    for process in training.couriers():
        with contextlib.suppress(Exception):
            process.kill()
    until(lambda: not [process for process in training.couriers() if process.status() != "zombie"])


def sync(run_dir):
    command = [sys.executable, "-m", "rankzero.cli", "sync", str(run_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=A_WHILE)
    assert done.returncode == 0, done.stdout + done.stderr


def check_everything(server, run_dir):
    assert len(server.store.runs) == 1
    run = server.run("r1")
    logged = points_logged(run_dir)
    assert [point[:2] for point in logged[:-1]] == [(step, step / 3) for step in range(300)]
    assert points_stored(server, "r1")[:-1] == logged[:-1]
    (not_a_number,) = run.series("training/loss_as_text")
    assert (not_a_number.value, not_a_number.time) == ("step 300: NaN", logged[-1][2])
    assert [(p.value, p.step) for p in run.series("training/said")] == [(f"at {s}", s) for s in (50, 150, 250)]
    for step in (50, 150, 250):
        assert run.file(f"training/table/step_{step}") == f"a\r\n{step}\r\n".encode()
        assert run.file(f"training/artifacts/weights-{step}/file") == b"weights"
    assert run.values("training/hyperparams/") == {"lr": 0.1, "net/sizes": "[1, 2]", "late": True}
    assert run.tags == {"tagged"}
    assert (run.value("training/status"), run.value("sys/failed")) == ("crashed", True)
    assert rejected(run_dir) == []


def test_a_courier_that_is_killed_before_it_knows_what_arrived(server, training):
    """The server has done what was asked, and the answer does not come."""
    server.fail("attributes/operations", answers_late, body="training/loss")
    training.start(SCRIPT + EVERYTHING + DEATH)
    training.process.wait(timeout=A_WHILE)
    until(lambda: stored(server))
    kill_couriers(training)
    server.heal()
    assert load_position(training.run_dir, "neptune").line < 300
    sync(training.run_dir)
    check_everything(server, training.run_dir)


def answers_late(handler):
    handler.ask()
    stalled()(handler)


def stored(server):
    with contextlib.suppress(KeyError):
        return server.run("r1").series("training/loss")


@pytest.mark.parametrize("server", [True], indirect=True)
def test_two_runs_of_one_process(server, training):
    returned, _, errors = training.run("""
    os.chdir(directory)
    runs = [rankzero.start("neptune", dir=directory / "runs", run_id=name, delivery="thread") for name in ("a", "b")]
    for step in range(100):
        for number, run in enumerate(runs):
            run.log_metrics({"loss": step / 3 + number}, step)
    for run in runs:
        run.finish(timeout=A_WHILE)
    """)
    assert returned == 0, errors
    for number, name in enumerate("ab"):
        found = [point[:2] for point in points_stored(server, name)]
        assert found == [(step, step / 3 + number) for step in range(100)]
        assert server.run(name).value("training/status") == "success"


@pytest.mark.parametrize("server", [True], indirect=True)
def test_the_live_run_in_the_training_process(server, training):
    returned, _, errors = training.run(
        SCRIPT
        + """
    run.log_metrics({"loss": 0.5}, 0)
    run.experiment["mine/note"] = "hello"
    run.experiment["mine/series"].append(1.5, step=3)
    run.log_metrics({"loss": 0.25}, 1)
    run.experiment.wait()
    run.finish(timeout=A_WHILE)
    """
    )
    assert returned == 0, errors
    assert len(server.store.runs) == 1
    stored = server.run("r1")
    assert [point[:2] for point in points_stored(server, "r1")] == [(0, 0.5), (1, 0.25)]
    assert stored.value("mine/note") == "hello"
    assert [(p.value, p.step) for p in stored.series("mine/series")] == [(1.5, 3.0)]
    assert "source_code/files" not in stored.attributes
    run_name = read_start(training.run_dir / JOURNAL).run.name
    assert (stored.value("sys/name"), stored.value("sys/failed")) == (run_name, False)
