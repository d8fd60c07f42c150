"""A run that begins with the data of another run up to a step."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rankzero
from rankzero.errors import ConfigError, RunNotFoundError
from rankzero.events.structs import Metrics
from rankzero.media.store import MediaFile
from rankzero.testing import MemoryLogger


def picture(shade):
    return Image.fromarray(np.full((2, 2, 3), shade * 20, np.uint8))


@pytest.fixture
def begin(tmp_path):
    runs = []

    def begin(*loggers, **options):
        options = {"dir": tmp_path / "runs", "capture_environment": False, "delivery": "off", **options}
        runs.append(rankzero.start(list(loggers) or "csv", **options))
        return runs[-1]

    yield begin
    for run in runs:
        run.finish(timeout=5)


@pytest.fixture
def parent(begin):
    """A run that was rewound, with each kind of data at each step."""
    run = begin(run_id="parent", name="first", tags=["old"], config={"lr": 0.1, "opt": {"name": "adam", "decay": 0.5}})
    run.define_metric("loss", summary="min")
    for steps, scale in ((range(6), 1.0), (range(3, 8), 10.0)):
        for step in steps:
            run.log_metrics({"loss": step * scale}, step)
            run.log_image("digits", [np.full((2, 2, 3), step * scale / 80)], step)
            run.log_table("rows", ["x", "picture"], [[step, picture(step)]], step=step)
            run.log_text("notes", f"{step * scale}", step=step)
        if scale == 1.0:
            run.rewind(2)
    run.log_hyperparams({"late": True})
    checkpoint = run.dir.parent / "model.ckpt"
    checkpoint.write_bytes(b"weights")
    run.log_checkpoint(checkpoint, step=1)
    run.finish()
    return run


def steps(read):
    media = {"image": read.media["digits"], "table": read.tables["rows"], "text": read.texts["notes"]}
    return {"loss": read.metrics["loss"].step.tolist()} | {
        kind: [each.step for each in found] for kind, found in media.items()
    }


def test_a_fork_has_the_line_of_the_other_run_up_to_the_step(begin, parent):
    fork = begin(fork_from=parent, fork_step=4, config={"opt": {"name": "sgd"}})
    shutil.rmtree(parent.dir)
    assert (fork.step, fork.resumed) == (4, False)
    fork.log_metrics({"loss": -1.0})
    fork.finish()
    read = rankzero.read_run(fork.dir)
    assert read.metrics["loss"].value.tolist() == [0.0, 1.0, 2.0, 30.0, 40.0, -1.0]
    assert steps(read) == {"loss": [0, 1, 2, 3, 4, 5]} | {key: [0, 1, 2, 3, 4] for key in ("image", "table", "text")}
    assert read.params == {
        "lr": 0.1, "opt": {"name": "sgd", "decay": 0.5}, "late": True, "forked_from": {"run": "parent", "step": 4},
    }  # fmt: skip
    assert read.definitions["loss"].summary == "min"
    assert (read.tags, read.checkpoints, read.damaged) == ([], [], 0)
    assert (read.info.name, read.info.parent) != ("first", "parent")
    pictures = [each.path for each in read.media["digits"]]
    pictures += [cell.path for table in read.tables["rows"] for row in table.read()[1] for cell in row[1:]]
    assert len(pictures) == 10
    assert all(fork.dir in path.parents and path.exists() for path in map(Path, pictures))


def test_a_fork_without_a_step_or_with_a_later_one_has_all(begin, parent):
    for step in (None, 100):
        fork = begin(fork_from=str(parent.dir), fork_step=step)
        fork.finish()
        read = rankzero.read_run(fork.dir)
        assert read.metrics["loss"].step.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
        assert read.params["forked_from"] == {"run": "parent", "step": 7}


def test_trackers_get_the_line_as_well(begin, parent):
    calls = []
    fork = begin(MemoryLogger(calls), fork_from="parent", fork_step=1, delivery="thread")
    fork.log_metrics({"loss": 5.0})
    fork.finish(timeout=20)
    logger = MemoryLogger(calls)
    logger.run_info = rankzero.read_run(fork.dir).info
    assert [(point.step, point.value) for point in logger.metrics["loss"]] == [(0, 0.0), (1, 1.0), (2, 5.0)]
    assert logger.params["forked_from"] == {"run": "parent", "step": 1}
    assert [isinstance(each, MediaFile) for call in calls for each in call.arguments.get("images", ())] == [True, True]


def test_a_fork_that_is_resumed_is_not_forked_again(begin, parent):
    begin(run_id="fork", fork_from="parent", fork_step=1).finish()
    shutil.rmtree(parent.dir)
    again = begin(run_id="fork", fork_from="parent", fork_step=1)
    assert (again.resumed, again.step) == (True, 1)
    assert len(rankzero.read_run(again.dir).metrics["loss"]) == 2


def test_a_fork_of_a_fork_names_the_last_one(begin, parent):
    begin(run_id="fork", fork_from="parent", fork_step=3).finish()
    read = rankzero.read_run(begin(fork_from="fork", fork_step=2).dir)
    assert read.params["forked_from"] == {"run": "fork", "step": 2}
    assert read.metrics["loss"].value.tolist() == [0.0, 1.0, 2.0]


def test_files_outside_of_the_other_run_are_left_out(begin, parent, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    first, second = (each.path for each in rankzero.read_run(parent.dir).media["digits"][:2])
    first.unlink()
    first.symlink_to(secret)
    second.unlink()
    with pytest.warns(UserWarning, match="is left out of its fork"):
        fork = begin(fork_from=parent, fork_step=2)
    read = rankzero.read_run(fork.dir)
    assert [each.step for each in read.media["digits"]] == [2]
    assert not [each for each in fork.dir.rglob("*") if each.is_file() and each.read_bytes() == b"secret"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fork_from": "nowhere"}, RunNotFoundError, "there is no run 'nowhere'"),
        ({"fork_step": 3}, ConfigError, "give that run as fork_from, too"),
        ({"fork_from": "parent", "fork_step": 1.5}, ConfigError, "'fork_step' must be a whole number"),
        ({"fork_from": 5}, ConfigError, "'fork_from' must be a run, its id or its directory"),
    ],
)
def test_a_failed_fork_starts_no_run(begin, parent, options, error, message):
    before = sorted(parent.dir.parent.iterdir())
    with pytest.raises(error, match=message):
        begin(**options)
    assert sorted(parent.dir.parent.iterdir()) == before


def test_system_metrics_are_those_of_the_run_itself(begin):
    source = begin(run_id="source")
    source.log_metrics({"loss": 1.0}, 0)
    source.record(Metrics(time.time(), None, {"system/cpu_percent": 50.0}))
    source.finish()
    found = rankzero.read_run(begin(fork_from=source.dir).dir)
    assert [*found.metrics] == ["loss"]
