"""`rankzero.start("tensorboard")` with real couriers: each value is in the event files once."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from servers.event_files import events, hparams, scalars
from servers.tensorboard_server import LOADERS, tensorboard

import rankzero
from rankzero.cli import app as cli
from rankzero.events.run_info import LogContext, MetricsRow
from rankzero.rundir.positions import load_position
from rankzero_tensorboard import TensorBoardLogger


def directory_of(run):
    return Path(run.dir).parents[1] / "tensorboard" / run.project / f"{run.name}-{run.id}"


def event_files(directory):
    return [path for path in directory.iterdir() if path.suffix == ".values"]


def test_a_run_is_shown_under_its_name(tmp_path):
    with rankzero.start("tensorboard", dir=tmp_path, project="digits", name="a first/try", config={"lr": 0.1}) as run:
        for step in range(3):
            run.log_metrics({"loss": step / 2}, step)
    directory = tmp_path / "tensorboard" / "digits" / f"a-first-try-{run.id[-8:]}"
    assert scalars(directory) == {"loss": [(0, 0.0), (1, 0.5), (2, 1.0)]}
    assert hparams(directory) == {"lr": 0.1}
    assert load_position(run.dir, "tensorboard").view == f"tensorboard --logdir {tmp_path}/tensorboard/digits"
    with tensorboard(tmp_path / "tensorboard") as server:
        server.until(lambda server: server.ask("runs") == [f"digits/{directory.name}"])


@pytest.mark.parametrize(("options", "expected"), [({}, "digits"), ({"name": "mine"}, "mine"), ({"name": None}, "")])
def test_another_directory(tmp_path, options, expected):
    logger = TensorBoardLogger(tmp_path / "logs", version=3, sub_dir="train", prefix="a", **options)
    with rankzero.start([logger], dir=tmp_path / "runs", project="digits", delivery="thread") as run:
        run.log_metrics({"loss": 0.5}, 0)
    assert scalars(tmp_path / "logs" / expected / "version_3" / "train") == {"a-loss": [(0, 0.5)]}


def test_a_resumed_run_continues_in_the_same_file(tmp_path):
    for first in (0, 3):
        options = {"run_id": "r1", "name": "first", "config": {f"p{first}": 1}, "delivery": "thread"}
        with rankzero.start("tensorboard", dir=tmp_path, **options) as run:
            for step in range(first, first + 3):
                run.log_metrics({"loss": step / 2}, step)
                run.log_image("picture", [[[0, 255], [255, 0]]])
    directory = directory_of(run)
    assert len(event_files(directory)) == 1
    assert scalars(directory)["loss"] == [(step, step / 2) for step in range(6)]
    assert hparams(directory) == {"p0": 1, "p3": 1}
    pictures = picture_steps(run)
    assert len(pictures) == 6
    assert pictures == sorted(set(pictures)), "without a step, each has its own"


def test_a_second_delivery_duplicates_nothing(tmp_path):
    with rankzero.start("tensorboard", dir=tmp_path, run_id="r1", name="first", delivery="thread") as run:
        for step in range(5):
            run.log_metrics({"loss": step / 2}, step)
    [path] = event_files(directory_of(run))
    before = path.read_bytes()
    Path(run.dir, "tensorboard.position.json").unlink()
    rankzero.deliver(run.dir, TensorBoardLogger(), key="tensorboard")
    assert path.read_bytes() == before
    path.unlink()
    Path(run.dir, "tensorboard.position.json").unlink()
    rankzero.deliver(run.dir, TensorBoardLogger(), key="tensorboard")
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(2))
def test_couriers_that_are_killed_at_random_moments(tmp_path, trial):
    """Couriers are killed during training; the rest is delivered in the end."""
    killed = {0}  # not a process
    with rankzero.start("tensorboard", dir=tmp_path, run_id="r1", name="first", config={"lr": 0.1}) as run:
        steps, moment = 0, 0.0
        while len(killed) < 4:
            run.log_metrics({"loss": steps / 2, "acc": steps / 4}, steps)
            if steps % 50 == 0:
                run.log_image("picture", [[[0, 255]]], step=steps)
            steps += 1
            time.sleep(0.0005)
            pid = load_position(run.dir, "tensorboard").pid
            if pid in killed:
                moment = time.monotonic() + random.uniform(0, 0.5)
            elif time.monotonic() > moment:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    rankzero.deliver(run.dir, TensorBoardLogger(), key="tensorboard")
    found = scalars(directory_of(run))
    assert found["loss"] == [(step, step / 2) for step in range(steps)]
    assert found["acc"] == [(step, step / 4) for step in range(steps)]
    assert picture_steps(run) == list(range(0, steps, 50))


def picture_steps(run):
    return [each.step for each in events(directory_of(run)) if each.summary.value and each.summary.value[0].image.width]


@pytest.mark.parametrize("loader", LOADERS)
def test_a_running_tensorboard_shows_everything_after_a_courier_was_killed(tmp_path, loader):
    """It may have read a part of a record, of which the next courier writes the same rest."""
    with rankzero.start("tensorboard", dir=tmp_path, run_id="r1", name="first", delivery="off") as run:
        for step in range(100):
            run.log_metrics({"loss": step / 2}, step)
    rankzero.deliver(run.dir, TensorBoardLogger(), key="tensorboard")
    [path] = event_files(directory_of(run))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 + 5])
    with tensorboard(tmp_path / "tensorboard", loader) as server:
        shown = f"default/{directory_of(run).name}"
        before = server.until(lambda server: server.scalars(shown, "loss"))
        assert 10 < len(before) < 90
        Path(run.dir, "tensorboard.position.json").unlink()
        rankzero.deliver(run.dir, TensorBoardLogger(), key="tensorboard")
        assert path.read_bytes() == whole
        server.until(lambda server: server.scalars(shown, "loss") == [(step, step / 2) for step in range(100)])


def test_export_writes_event_files_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        with rankzero.start([], dir="runs", project="digits", name=name) as run:
            for step in range(3):
                run.log_metrics({"loss": step / 2}, step)
    for _ in range(2):
        assert cli.main(["export", "runs", "--format", "tensorboard", "--output", "logs"]) == 0
    found = sorted(Path("logs/digits").iterdir())
    assert [path.name.partition("-")[0] for path in found] == ["first", "second"]
    assert [scalars(path) for path in found] == [{"loss": [(0, 0.0), (1, 0.5), (2, 1.0)]}] * 2


def test_system_metrics_are_over_the_seconds_since_the_start(make_logger, run_info):
    logger = make_logger()
    logger.attach(run_info)
    rows = [
        MetricsRow({"system/cpu_percent": 12.5}, None, LogContext(run_info.started + 10.2 * number, number))
        for number in range(3)
    ]
    with logger.at(LogContext(run_info.started, 5)):
        logger.log_metrics_batch(rows)
    logger.finalize("success")
    assert logger.read_metrics(["system/cpu_percent"]) == {"system/cpu_percent": [(0, 12.5), (10, 12.5), (20, 12.5)]}
