"""Under a Run, Neptune shows the environment of the training process, not of the courier."""

import platform
import shutil
import sys

import pytest
from plugins.neptune.delivered import points_stored
from servers.training import Training
from waiting import A_WHILE, until

import rankzero
from rankzero.capture.environment import read_environment
from rankzero.events.run_info import LogContext, MetricsRow
from rankzero_neptune import NeptuneLogger

TRAIN = """
    run = rankzero.start(dir=directory / "runs", run_id="r1", tags=["green"], name="brave-owl", delivery="off",
                         capture_environment=True)
    run.log_metrics({"loss": 0.5}, 0)
    run.finish()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A script and its run."""
    training = Training(tmp_path_factory.mktemp("trained"))
    returned, _, errors = training.run(TRAIN)
    assert returned == 0, errors
    (run_dir,) = training.directory.glob("runs/*/r1")
    until(lambda: (found := read_environment(run_dir)) and found.is_complete)
    return training.directory / "train.py", run_dir


@pytest.fixture
def delivered(server, here, trained, tmp_path):
    """Deliver a copy of the run; return the stored run."""

    def deliver(**options):
        rankzero.deliver(shutil.copytree(trained[1], tmp_path / "runs" / "p" / "r1"), NeptuneLogger(**options))
        return server.run("r1")

    return deliver


def lines(run, path):
    return [text for text, _, _ in run.series(path)]


def test_the_training_process_is_shown(delivered, trained):
    run = delivered()
    assert (run.value("sys/name"), run.value("sys/hostname"), run.tags) == ("brave-owl", platform.node(), {"green"})
    assert run.value("source_code/entrypoint") == "train.py"
    assert run.file("source_code/script") == trained[0].read_bytes()
    assert "source_code/files" not in run.attributes
    assert set(run.created) >= {"customId"}
    assert run.created.get("gitInfo") is None


@pytest.mark.parametrize("is_wanted", [None, False])
def test_system_metrics(server, here, closing, run_info, is_wanted):
    logger = closing(NeptuneLogger(capture_hardware_metrics=is_wanted))
    logger.attach(run_info)
    times = [run_info.started + 10 * number for number in range(3)]
    with logger.at(LogContext(times[0], 5)):
        logger.log_metrics_batch(
            [
                MetricsRow({"system/gpu1/power_watts": float(number)}, None, LogContext(time, number))
                for number, time in enumerate(times)
            ]
        )
        logger.log_metrics({"loss": 1.0}, 0)
    logger.flush()
    run = server.run(run_info.id)
    assert [value for value, _, _ in run.series("training/loss")] == [1.0]
    if is_wanted is False:
        assert not [path for path in run.attributes if path.startswith("monitoring/")]
    else:
        found = run.series("monitoring/training/gpu1/power_watts")
        assert [(value, time) for value, _, time in found] == [
            (float(number), round(1000 * time)) for number, time in enumerate(times)
        ]


def test_options_exclude_parts_of_the_environment(delivered):
    run = delivered(
        source_files=[], git_ref=False, name="mine", description="my own", tags=["blue"], dependencies="infer"
    )
    code = {path for path in run.attributes if path.startswith("source_code/")}
    assert code == {"source_code/requirements"}
    assert b"neptune==" in run.file("source_code/requirements")
    assert (run.value("sys/name"), run.value("sys/description")) == ("mine", "my own")
    assert run.tags == {"blue", "green"}


def test_the_training_process_has_a_live_run_beside_a_courier(server, here, tmp_path, capsys):
    run = rankzero.start("neptune", dir=tmp_path / "runs", run_id="r1", notes="a note", group="folds", parent="p1")
    print("hello")
    print("x" * 1500)
    sys.stderr.write("careful\n")
    run.log_metrics({"loss": 0.5}, 0)
    run.experiment["mine/note"] = "hello"
    run.experiment["mine/series"].append(1.5, step=3)
    run.log_metrics({"loss": 0.25}, 1)
    run.experiment.wait()
    run.finish(timeout=A_WHILE)
    stored = server.run("r1")
    assert [point[:2] for point in points_stored(server, "r1")] == [(0, 0.5), (1, 0.25)]
    assert (stored.value("mine/note"), stored.value("sys/failed")) == ("hello", False)
    assert [(p.value, p.step) for p in stored.series("mine/series")] == [(1.5, 3.0)]
    assert stored.value("sys/description") == "a note"
    assert (stored.strings("sys/group_tags"), stored.value("rankzero/parent")) == ({"folds"}, "p1")
    printed = [line for line in lines(stored, "monitoring/training/stdout") if not line.startswith("[neptune]")]
    assert printed == ["hello", "x" * 1000, "x" * 500]
    assert "careful" in lines(stored, "monitoring/training/stderr")
    kept = {path for path in stored.attributes if path.startswith("monitoring/")}
    assert kept == {"monitoring/training/stdout", "monitoring/training/stderr"}


def test_console_output_can_be_excluded(server, here, tmp_path, capsys):
    options = {"capture_stdout": False, "capture_stderr": False}
    with rankzero.start({"neptune": options}, dir=tmp_path / "runs", run_id="r1", delivery="thread") as run:
        print("hello")
        run.log_metrics({"loss": 0.5}, 0)
    assert not [path for path in server.run("r1").attributes if path.startswith("monitoring/")]
    assert "hello" not in (run.dir / "journal.jsonl").read_text()
