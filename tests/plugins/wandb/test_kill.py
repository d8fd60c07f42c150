"""Killed processes: training, couriers, wandb-core; in the end W&B has everything once."""

import contextlib
import json
import os
import platform
import subprocess

import pytest
import wandb
from servers.training import Training
from servers.wandb_mock.run import HISTORY
from waiting import A_WHILE, until

from rankzero.cli import app
from rankzero.rundir.positions import load_position, reject_list
from rankzero.testing.faults import stalled

STEP = "trainer/global_step"
SCRIPT = """
    import numpy as np
    os.chdir(directory)
    run = rankzero.start("wandb", project="p", dir=directory / "runs", run_id="r1")
"""
EVERYTHING = """
    (directory / "weights.bin").write_bytes(b"weights")
    run.log_hyperparams({"lr": 0.1, "net": {"sizes": [1, 2]}})
    run.define_metric("loss", summary="min")
    for step in range(300):
        run.log_metrics({"loss": step / 3}, step)
        if step % 100 == 50:
            run.log_image("picture", [np.full((4, 4, 3), step, np.uint8)], step=step)
            run.log_table("table", ["a"], [[step]], step=step)
            run.log_artifact(directory / "weights.bin", name=f"weights-{step}")
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
    training.run_dir = tmp_path / "runs" / "p" / "r1"
    yield training
    training.kill()


def others(training):
    """Return the running couriers and wandb-core processes."""
    return [process for process in training.processes() if process.pid != os.getpid()]


def kill_others(training):
    for process in others(training):
        with contextlib.suppress(Exception):
            process.kill()
    until(lambda: not [process for process in others(training) if process.status() != "zombie"])


def sync(run_dir):
    assert app.main(["sync", str(run_dir)]) == 0
    wandb.teardown()  # before its wandb-core is killed with the others


def rows(server, key="loss", run_id="r1"):
    return [(row[STEP], row[key]) for row in server.run(run_id).history if key in row]


def check_that_nothing_was_sent_twice(server, run_id="r1"):
    """Skipped numbers are journal lines without a row; a repeated number is a duplicate."""
    numbers = [row["_step"] for row in server.run(run_id).history]
    assert numbers == sorted(set(numbers))
    assert sorted(server.run(run_id).streams[HISTORY]) == list(range(len(numbers)))


def check_everything(server, run_dir):
    run = server.run("r1")
    assert rows(server) == [(step, step / 3) for step in range(300)]
    check_that_nothing_was_sent_twice(server)
    pictures, tables = run.media("picture"), run.media("table")
    assert [len(each.files) for each in pictures + tables] == [1] * 6
    assert [json.loads(each.files[0])["data"] for each in tables] == [[[50]], [[150]], [[250]]]
    for step in (50, 150, 250):
        assert server.artifact(f"weights-{step}", "p").files == {f"weights-{step}.bin": b"weights"}
        assert server.artifact(f"weights-{step}", "p").version == "v0"
    config = {key: value for key, value in run.config.items() if key != "rankzero"}
    assert config == {"lr": 0.1, "net": {"sizes": [1, 2]}, "late": True}
    assert list(run.tags) == ["tagged"]
    assert run.summary["loss"] == {"min": 0}
    assert run.state == "failed"
    assert not reject_list(run_dir, "wandb").exists()


@pytest.mark.slow
def test_a_courier_continues_when_wandb_core_is_killed(server, training):
    training.start(
        SCRIPT
        + """
    for step in range(100):
        run.log_metrics({"loss": step / 3}, step)
    run.flush(A_WHILE)
    ready()
    sys.stdin.readline()
    for step in range(100, 200):
        run.log_metrics({"loss": step / 3}, step)
    run.finish(timeout=A_WHILE)
    """,
        stdin=subprocess.PIPE,
    )
    training.until_ready()
    killed = [process for process in others(training) if process.name() == "wandb-core"]
    assert killed
    for process in killed:
        process.kill()
    training.process.stdin.write("go on\n")
    training.process.stdin.flush()
    returned, _, errors = training.wait()
    assert returned == 0, errors
    assert load_position(training.run_dir, "wandb").closed, (training.run_dir / "courier.log").read_text()
    assert rows(server) == [(step, step / 3) for step in range(200)]
    check_that_nothing_was_sent_twice(server)
    assert server.run("r1").state == "finished"
    until(lambda: not others(training))


@pytest.mark.slow
def test_wandb_core_ends_with_its_courier(server, training):
    training.start(
        SCRIPT + "    run.log_metrics({'loss': 0.0}, 0)\n    run.flush(A_WHILE)\n    ready()\n    time.sleep(60)\n"
    )
    training.until_ready()
    assert [process for process in others(training) if process.name() == "wandb-core"]
    for courier in training.couriers():
        courier.kill()
    training.process.kill()
    training.process.wait()
    until(lambda: not others(training))


MIXED = """
    os.chdir(directory)
    run = rankzero.start("wandb", project="p", dir=directory / "runs", run_id="r1", delivery="thread")
    for step in range(60):
        run.log_metrics({"loss": step / 3}, step)
        if step % 10 == 0:
            assert run.flush(A_WHILE)
            run.experiment.log({"own": step})
"""


def check_mixed(server):
    assert rows(server) == [(step, step / 3) for step in range(60)]
    check_that_nothing_was_sent_twice(server)


@pytest.mark.slow
def test_rows_of_the_script_lose_no_rows_of_the_journal_after_a_crash(server, training):
    training.run(MIXED + DEATH)
    sync(training.run_dir)
    check_mixed(server)
    own = [row["own"] for row in server.run("r1").history if "own" in row]
    assert own[:5] == list(range(0, 50, 10))  # the last rows before the crash were never saved
    assert server.run("r1").state == "failed"


@pytest.mark.slow
def test_rows_of_the_script_are_not_confused_with_those_of_the_journal(server, training):
    training.run("""
    os.chdir(directory)
    run = rankzero.start("wandb", project="p", dir=directory / "runs", run_id="r1", delivery="thread")
    run.log_metrics({"loss": 0.0}, 0)
    assert run.flush(A_WHILE)
    for number in range(12):
        run.experiment.log({"own": number})
    run.log_metrics({"loss": 1 / 3}, 1)
    assert run.flush(A_WHILE)
    for number in range(12, 24):
        run.experiment.log({"own": number})
    import wandb
    deadline = time.monotonic() + 60
    while wandb.Api().run("p/r1").lastHistoryStep < 25 and time.monotonic() < deadline:
        time.sleep(0.2)
    for step in range(2, 7):
        run.log_metrics({"loss": step / 3}, step)
    os.kill(os.getpid(), signal.SIGKILL)
    """)
    sync(training.run_dir)
    assert rows(server) == [(step, step / 3) for step in range(7)]
    assert [row["own"] for row in server.run("r1").history if "own" in row] == list(range(24))
    check_that_nothing_was_sent_twice(server)


@pytest.mark.slow
def test_wandb_core_of_a_killed_courier_is_killed_by_the_next(server, training):
    training.start(SCRIPT + EVERYTHING + DEATH)
    until(lambda: server.count("CommitArtifact"))
    server.fail("", stalled())
    training.process.wait(timeout=A_WHILE)
    until(lambda: server.count("CommitArtifact") or others(training))
    courier, core = until(lambda: courier_and_core(training))
    state = training.run_dir / "wandb-p-r1.json"
    assert json.loads(state.read_text())["client"] == [platform.node(), courier.pid]
    core.suspend()  # it would end by itself without data to send
    courier.kill()
    until(lambda: not courier.is_running() or courier.status() == "zombie")
    assert core.is_running()
    server.heal()
    sync(training.run_dir)
    assert not core.is_running() or core.status() == "zombie"
    check_everything(server, training.run_dir)


def courier_and_core(training):
    found = {("wandb-core" in process.cmdline()[0]): process for process in others(training) if process.cmdline()}
    return (found[False], found[True]) if len(found) == 2 else None
