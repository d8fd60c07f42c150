"""Processes that are killed: training and its couriers; in the end Comet has all of it."""

import contextlib
import os
import random
import subprocess
import sys
import time

import pytest
from plugins.comet.journals import points_in, points_logged, rejected
from servers.training import Training
from waiting import A_WHILE, until

from rankzero.rundir.positions import load_position
from rankzero.testing.loopback import late, stalled

KEY = "r" * 32
SCRIPT = f"""
    import numpy as np
    os.chdir(directory)
    run = rankzero.start("comet", project="p", dir=directory / "runs", run_id="{KEY}")
"""
EVERYTHING = """
    (directory / "weights.bin").write_bytes(b"weights")
    run.log_hyperparams({"lr": 0.1, "net": {"sizes": [1, 2]}})
    for step in range(300):
        run.log_metrics({"loss": step / 3}, step, epoch=step // 10)
        if step % 100 == 50:
            run.log_image("picture", [np.full((4, 4, 3), step, np.uint8)], step=step)
            run.log_artifact(directory / "weights.bin", name=f"weights-{step}", type="dataset", aliases=["best"])
    run.log_hyperparams({"late": True})
    run.log_tags(["tagged"])
"""
DEATH = """
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def training(here, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINING_DIRECTORY", str(tmp_path))
    training = Training(tmp_path)
    training.run_dir = tmp_path / "runs" / "p" / KEY
    yield training
    training.kill()


def others(training):
    """The couriers that live."""
    return [process for process in training.processes() if process.pid != os.getpid()]


def kill_others(training):
    for process in others(training):
        with contextlib.suppress(Exception):
            process.kill()
    until(lambda: not [process for process in others(training) if process.status() != "zombie"])


def sync(run_dir):
    command = [sys.executable, "-m", "rankzero.cli", "sync", str(run_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=A_WHILE)
    assert done.returncode == 0, done.stdout + done.stderr


def check_everything(server, run_dir, kills=0):
    """Check that Comet has it all; of what was sent when a courier was killed a batch may be there twice."""
    stored = server.experiment(KEY)
    arrived, logged = points_in(stored), points_logged(run_dir)
    assert list(dict.fromkeys(arrived)) == logged
    assert len(logged) == 300
    if kills == 0:
        assert arrived == logged
    assert all(arrived.count(point) <= 1 + kills for point in set(arrived))
    pictures = {(image.step, image.content) for image in stored.images}
    assert sorted(step for step, _ in pictures) == [50, 150, 250]
    for step in (50, 150, 250):
        assert list(server.artifact_version(f"weights-{step}:best").files.values()) == [b"weights"]
    assert {name: stored.params[name] for name in ("lr", "net|sizes", "late")} == {
        "lr": 0.1,
        "net|sizes": [1, 2],
        "late": True,
    }
    assert stored.tags == ["tagged"]
    assert stored.state == "crashed"
    assert stored.others["rankzero.status"] == "crashed"
    assert rejected(run_dir) == []


def test_training_that_is_killed_after_its_last_call(server, training):
    training.run(SCRIPT + EVERYTHING + DEATH)
    until(lambda: load_position(training.run_dir, "comet").closed)
    check_everything(server, training.run_dir)
    until(lambda: not others(training))


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(2))
def test_all_that_is_killed_at_random_moments_is_synced(server, training, attempt):
    server.fail("", late(0.05), times=100)  # so that the moments are in the midst of it
    training.start(SCRIPT + EVERYTHING + DEATH)
    training.process.wait(timeout=A_WHILE)
    moment = random.uniform(0, 4)
    time.sleep(moment)
    kill_others(training)
    if attempt % 2:  # the next one too
        command = [sys.executable, "-m", "rankzero.cli", "sync", str(training.run_dir)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            time.sleep(moment)
            kill_others(training)
    server.heal()
    sync(training.run_dir)
    check_everything(server, training.run_dir, kills=2)
    until(lambda: not others(training))


@pytest.mark.slow
def test_a_courier_that_is_killed_is_replaced_while_training_goes_on(server, training):
    body = """
    for step in range(300):
        run.log_metrics({"loss": step / 3}, step, epoch=step // 10)
        if step == 100:
            run.flush(A_WHILE)
            ready()
            sys.stdin.readline()
    run.finish(timeout=A_WHILE)
    """
    training.start(SCRIPT + body, stdin=subprocess.PIPE)
    training.until_ready()
    for courier in training.couriers():
        courier.kill()
    _, errors = training.process.communicate("go on\n", timeout=A_WHILE)
    assert training.process.returncode == 0, errors
    assert points_in(server.experiment(KEY)) == points_logged(training.run_dir)
    assert server.experiment(KEY).state == "finished"


@pytest.mark.slow
def test_a_server_that_hangs_when_training_is_killed(server, training):
    server.fail("batch/logger/experiment/metric", stalled(600))
    training.run(SCRIPT + EVERYTHING + DEATH)
    until(lambda: server.count("batch/logger/experiment/metric"))
    kill_others(training)
    assert server.experiment(KEY).metrics == []
    server.heal()
    sync(training.run_dir)
    check_everything(server, training.run_dir)
