"""The demo as a user runs it: a new process, from an empty directory to the plot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from installed import write_plugin
from waiting import A_WHILE

from rankzero.plugins.registry import known_loggers
from rankzero.reader.run_data import read_run

HIDE = """
import sys
hidden = sys.argv.pop(1).split(",")

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
import rankzero.plugins.registry
find = rankzero.plugins.registry.find_entry_points
rankzero.plugins.registry.find_entry_points = lambda: [each for each in find() if each.name not in hidden]
from rankzero.cli.app import main
sys.exit(main())
"""

# Loggers of which the demo would ask one after the other whether it can be used: each imports an SDK.
TRACKERS = "comet,mlflow,neptune,tensorboard,wandb"


@pytest.fixture
def demo(tmp_path):
    """Run the demo in an empty directory, with packages hidden; return the process that ended."""

    def demo(*arguments, hidden="", trackers=TRACKERS):
        hidden = f"{hidden},{trackers}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RANKZERO_")}
        return subprocess.run(
            [sys.executable, "-W", "always::UserWarning", "-c", HIDE, hidden, "demo", *arguments],
            cwd=tmp_path,
            env=environment | {"COLUMNS": "80", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=A_WHILE,
        )

    return demo


def run_below(directory):
    (journal,) = Path(directory).rglob("journal.jsonl")
    return read_run(journal)


def check_what_was_logged(run, epochs):
    assert (run.info.project, run.status, run.damaged) == ("digits", "success", 0)
    assert run.params["epochs"] == epochs
    assert len(run.metrics["train/loss"]) == epochs * 45
    accuracy = run.metrics["val/accuracy"].value
    assert len(accuracy) == len(run.metrics["val/loss"]) == epochs
    assert accuracy[-1] > 0.85
    captions = [image.caption for image in run.media["predictions"]]
    assert len(captions) == 8 * epochs
    assert any("wrong, it is" in caption for caption in captions)
    columns, rows = run.tables["accuracy by digit"][-1].read()
    assert columns == ["digit", "images", "right", "accuracy"]
    assert sum(row[2] for row in rows) == round(accuracy[-1] * sum(row[1] for row in rows))
    assert len(run.histograms) == 2
    assert len(run.checkpoints) == epochs
    assert run.checkpoint("latest") is run.checkpoints[-1]
    assert run.checkpoint("best").score == max(accuracy)
    assert all(Path(each.path).exists() for each in run.checkpoints)


@pytest.mark.slow
def test_with_torch(demo, tmp_path):
    done = demo("--epochs", "16")
    assert (done.returncode, done.stderr) == (0, "")
    run = run_below(tmp_path / "rankzero-runs")
    check_what_was_logged(run, 16)
    assert max(run.metrics["val/accuracy"].value) > run.metrics["val/accuracy"].value[-1]  # so that best is not latest
    assert run.params["model"]["library"] == "PyTorch"
    for words in (
        "PyTorch",
        run.info.name,
        "train/loss",
        "val/accuracy",
        "┤",
        "128 images · 16 tables",
        "Loggers: csv.",
    ):
        assert words in done.stdout
    assert (run.deliveries["csv"].closed, run.deliveries["csv"].rejected) == (True, 0)
    assert "View it:" not in done.stdout  # a CSV file says nothing of how
    assert max(map(len, done.stdout.split("\nNext:")[0].splitlines())) <= 80 + len(str(run.dir))


VIEWED = """
import rankzero

class Viewed(rankzero.CSVLogger):
    def how_to_view(self):
        return f"viewer --path '{self.log_dir}' " + "x" * 80
"""


@pytest.mark.slow
def test_several_loggers_and_how_to_view_the_run_in_each(demo, tmp_path, monkeypatch):
    entry_points = {"viewed": "viewed_for_tests:Viewed"}
    write_plugin(tmp_path / "plugins", "rankzero-viewed", entry_points, viewed_for_tests=VIEWED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "plugins"))
    done = demo("--logger", "csv", "--logger", "viewed", "--epochs", "1", hidden="torch")
    assert (done.returncode, done.stderr) == (0, "")
    run = run_below(tmp_path / "rankzero-runs")
    assert {key: each.closed for key, each in run.deliveries.items()} == {"csv": True, "viewed": True}
    assert "Loggers: csv, viewed." in done.stdout
    look = done.stdout.split("View it:\n")[1].split("\nNext:")[0]
    assert look == f"  viewer --path '{run.dir}' {'x' * 80}\n      in viewed\n"


@pytest.mark.slow
def test_without_torch_scikit_learn_trains_and_the_next_commands_can_be_typed(demo, tmp_path):
    # Neptune is asked first, and cannot be used without a login.
    done = demo("--epochs", "3", "--dir", "here", hidden="torch", trackers="comet,mlflow,wandb")
    assert (done.returncode, done.stderr) == (0, "")
    assert "with scikit-learn" in done.stdout
    assert "PyTorch is not installed" in done.stdout
    run = run_below(tmp_path / "here")
    check_what_was_logged(run, 3)
    assert run.params["model"]["library"] == "scikit-learn"
    commands = [line.strip() for line in done.stdout.splitlines() if line.startswith("  rankzero ")]
    assert len(commands) == 4
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in commands:
        subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "BROWSER": "true"},
            check=True,
            capture_output=True,
        )
    assert (tmp_path / "metrics.csv").exists()
    assert len([*tmp_path.glob("*.html")]) == 1


@pytest.mark.slow
def test_without_plotext_and_pillow(demo, tmp_path):
    done = demo("--epochs", "1", hidden="torch,plotext,PIL")
    assert (done.returncode, done.stderr) == (0, "")
    assert "┤" not in done.stdout
    assert "▁" in done.stdout  # the sparklines of the table
    assert run_below(tmp_path).media == {}


def test_without_scikit_learn_one_line_says_what_to_install(demo):
    done = demo(hidden="sklearn")
    assert (done.returncode, done.stdout) == (1, "")
    assert 'pip install "rankzero[demo]"' in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_logger_that_does_not_exist(demo, tmp_path):
    done = demo("--logger", "cvs", hidden="torch")
    assert done.returncode == 2
    assert "Did you mean 'csv'?" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_logger_that_is_not_installed(demo, tmp_path):
    missing = sorted(known_loggers())[0]
    done = demo("--logger", "csv", "--logger", missing, hidden=f"torch,{missing}")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{missing!r}" in done.stderr
    assert f"is not installed. Run: {known_loggers()[missing]}" in done.stderr
    assert list(tmp_path.iterdir()) == []
