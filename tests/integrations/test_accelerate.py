"""Accelerate with rankzero's tracker, beside its own TensorBoardTracker."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from integrations.reading import only_run, points
from waiting import A_WHILE

import rankzero
from rankzero.errors import ConfigError

pytest.importorskip("accelerate")
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from servers.event_files import scalars

from rankzero.integrations.accelerate import RankzeroTracker

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(autouse=True)
def here(undelivered):
    """Train in an empty directory, with an Accelerator of its own."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def accelerator(log_with, project="p", config=None, **settings):
    made = Accelerator(cpu=True, log_with=log_with, project_dir="logs")
    made.init_trackers(project, config, {"rankzero": settings})
    return made


def ended(run):
    run.finish()
    return rankzero.read_run(run.dir)


def test_by_name_metrics_are_those_that_tensorboard_gets():
    made = accelerator(["rankzero", "tensorboard"], config={"lr": 0.1})
    for step in range(3):
        made.log({"loss": 1 / (step + 1), "ok": step % 2}, step=step)
    run = made.get_tracker("rankzero", unwrap=True)
    made.end_training()
    data = rankzero.read_run(run.dir)
    theirs = scalars("logs/p")
    for name, expected in theirs.items():
        assert [step for step, _ in points(data)[name]] == [step for step, _ in expected]
        np.testing.assert_allclose([v for _, v in points(data)[name]], [v for _, v in expected], rtol=1e-6)
    assert theirs.keys() == points(data).keys()
    assert (data.status, data.info.project, data.params) == ("success", "p", {"lr": 0.1})


def test_nested_values_texts_and_no_step():
    made = accelerator(RankzeroTracker("p"))
    made.log({"a": {"b": 1.0, "c": True}, "note": "hello"})
    made.log({"a": {"b": np.float32(2.0)}}, log_kwargs={"rankzero": {"epoch": 3, "stage": "train"}})
    made.log({"only": "text"}, step=7)
    data = ended(made.get_tracker("rankzero").run)
    assert points(data) == {"a/b": [(0, 1.0), (1, 2.0)], "a/c": [(0, 1.0)]}
    assert {key: [(each.step, each.data) for each in texts] for key, texts in data.texts.items()} == {
        "note": [(0, [["hello"]])],
        "only": [(7, [["text"]])],
    }


def test_the_configuration_is_stored_whole_and_not_changed():
    config = {"model": {"depth": 3, "sizes": [1, 2]}, "seed": None}
    made = accelerator("rankzero", config=config)
    assert config == {"model": {"depth": 3, "sizes": [1, 2]}, "seed": None}
    assert ended(made.get_tracker("rankzero").run).params == config


def test_images_tables_figures_files_and_checkpoints(tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    tracker = RankzeroTracker("p")
    made = accelerator(tracker)
    pictures = np.random.default_rng(0).integers(0, 255, (3, 4, 4, 3), dtype=np.uint8)
    tracker.log_images({"batch": pictures}, step=2, caption=["x", "y", "z"])
    tracker.log_images({"list": [pictures[0]], "one": pictures[0], "gray": pictures[0, :, :, 0]})
    tracker.log_table("t", ["a", "b"], [[1, 2]], step=3)
    tracker.log_figure(plt.figure(), "plot.png", step=4)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "file.txt").write_text("content")
    tracker.log_artifact("files/file.txt", artifact_path="texts")
    tracker.log_artifacts(local_dir="files", artifact_path="all")
    state = made.save_state("state")
    tracker.log_checkpoint(state, score=0.5, step=4, aliases=["best"])
    data = ended(tracker.run)
    assert [len(data.media[key]) for key in ("batch", "list", "one", "gray")] == [3, 1, 1, 1]
    assert {each.step for each in data.media["batch"]} == {2}
    assert data.tables["t"][0].read() == (["a", "b"], [[1, 2]])
    assert data.media["plot.png"][0].step == 4
    (file, directory) = data.artifacts
    assert (file.name, directory.name) == ("texts/file.txt", "all")
    assert [Path(file.path).read_text(), Path(directory.path, "file.txt").read_text()] == ["content", "content"]
    (saved,) = data.checkpoints
    assert (saved.score, saved.step, saved.aliases, saved.automatic) == (0.5, 4, ["best"], True)
    first = next(path for path in Path(saved.path).iterdir())
    assert os.path.samefile(first, Path("state", first.name))


def train(made, steps, value):
    for step in steps:
        made.log({"loss": value}, step=step)
    return made.get_tracker("rankzero", unwrap=True)


@pytest.mark.parametrize("resumed", ["the same run", "another run"])
def test_restoring_a_checkpoint_rewinds_the_run(resumed):
    first = accelerator("rankzero", run_id="a")
    train(first, range(4), 1.0)
    first.save_state("state")
    train(first, range(4, 6), 2.0)
    first.end_training()
    second = accelerator(RankzeroTracker("p", run_id="a" if resumed == "the same run" else "b"))
    second.load_state("state")
    data = ended(train(second, range(4, 5), 3.0))
    before = [(step, 1.0) for step in range(4)] if resumed == "the same run" else []
    assert points(data)["loss"] == [*before, (4, 3.0)]
    rewinds = sum('"type":"rewind"' in line for line in (Path(data.dir) / "journal.jsonl").read_text().splitlines())
    assert rewinds == (resumed == "the same run")


@pytest.mark.parametrize("content", [None, "torn", "[]", '{"step": 1}'])
def test_a_checkpoint_without_a_readable_step_rewinds_nothing(content):
    made = accelerator("rankzero")
    run = train(made, range(4), 1.0)
    made.save_state("state")
    step_file = Path("state", "rankzero.json")
    step_file.unlink()
    if content is None:
        made.load_state("state")
    else:
        step_file.write_text(content)
        with pytest.warns(UserWarning, match="the run is not rewound"):
            made.load_state("state")
    assert len(points(ended(run))["loss"]) == 4


def test_nothing_begins_in_the_constructor():
    tracker = RankzeroTracker("p")
    assert not Path("rankzero-runs").exists()
    assert PartialState._shared_state == {}
    tracker.store_init_configuration({"lr": 1})  # also where start() was never called
    tracker.log({"a": 1.0}, step=0)
    assert points(ended(tracker.run)) == {"a": [(0, 1.0)]}


def test_a_run_that_is_given_is_not_ended():
    with rankzero.start() as run:
        for tracker in (RankzeroTracker(run), RankzeroTracker("project", run=run)):
            made = accelerator(tracker)
            made.log({"a": 1.0})
            made.end_training()
            tracker.finish()
        assert tracker.tracker is run
        run.log_metrics({"a": 2.0})
    assert points(rankzero.read_run(run.dir)) == {"a": [(0, 1.0), (1, 1.0), (2, 2.0)]}


def test_settings_of_start(swallowed_warnings):
    made = accelerator("rankzero", project="p", name="n", run_id="r", tags=["t"], loggers="csv")
    run = made.get_tracker("rankzero").run
    made.end_training()
    made.end_training()
    made.trackers[0].log({"after": 1.0})
    assert "the run n is finished" in swallowed_warnings.pop()
    assert (run.id, run.name, run.project) == ("r", "n", "p")
    again = accelerator(RankzeroTracker("p", run_id="r")).trackers[0]
    assert again.run.resumed
    again.finish()


def test_wrong_arguments_raise_at_once():
    with pytest.raises(ConfigError, match="no option 'projct'"):
        RankzeroTracker(projct="p")


SCRIPT = """
from accelerate import Accelerator
import numpy as np
{before}
accelerator = Accelerator(cpu=True, log_with={tracker})
accelerator.init_trackers("ranks", {{"lr": 0.1}})
for step in range(3):
    accelerator.log({{"rank": float(accelerator.process_index)}}, step=step)
{after}
accelerator.end_training()
"""


def run_script(*launcher, before="", tracker="'rankzero'", after="", **variables):
    """Run the script, and return what it has logged."""
    Path("train.py").write_text(SCRIPT.format(before=before, tracker=tracker, after=after))
    command, environment = [sys.executable, *launcher, "train.py"], {**os.environ, **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=A_WHILE, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return only_run("ranks")


@pytest.mark.slow
def test_a_script_names_rankzero_where_the_environment_asks_for_it():
    data = run_script(RANKZERO_INTEGRATIONS="transformers, accelerate")
    assert [step for step, _ in points(data)["rank"]] == [0, 1, 2]


@pytest.mark.slow
def test_ranks_have_one_run_and_each_may_log():
    data = run_script(
        "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        before="from rankzero.integrations.accelerate import RankzeroTracker\ntracker = RankzeroTracker('ranks')",
        tracker="tracker",
        after="assert accelerator.num_processes == 2\n"
        "tracker.log_images({'i': [np.zeros((2, 2, 3), 'uint8')]}, step=1)",
    )  # fmt: skip
    assert points(data)["rank"] == [(0, 0.0), (1, 0.0), (2, 0.0)]
    assert len(data.media["i"]) == 1
    assert (data.status, data.params) == ("success", {"lr": 0.1})
