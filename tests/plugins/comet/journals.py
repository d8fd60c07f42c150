"""Journals to deliver, couriers that deliver them, and checks that Comet has everything."""

import uuid

import numpy as np

import rankzero
from rankzero.events.structs import Metrics
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL
from rankzero.testing import runs
from rankzero.testing.runs import EagerCourier
from rankzero_comet import CometLogger

ROWS = 30
FILES = [*["picture_0.png", "picture_1.png", "picture_2.png"] * 2, "table.csv", "text.txt", "page.html"]


def deliver(run_dir, grace_period=30.0, **options):
    """Deliver a run to the server in the environment."""
    EagerCourier(run_dir, "comet", lambda: CometLogger(**options), follow=False, grace_period=grace_period).run()


def journal_of_rows(directory, *rows, run_id=None, finish=True):
    """Write a run with metrics; return its directory."""
    run = rankzero.start(dir=directory / "runs", run_id=run_id or uuid.uuid4().hex, project="p", delivery="off")
    for step, row in enumerate(rows):
        run.log_metrics(row, step, epoch=step // 10)
    run.finish()
    return run.dir


def journal_of_everything(directory):
    """Write a run with data of each kind; return its directory."""
    run = rankzero.start(
        dir=directory / "runs", run_id=uuid.uuid4().hex, project="p", name="mine", tags=["first"], delivery="off"
    )
    log_everything(run, directory)
    run.finish()
    return run.dir


def log_everything(run, directory):
    """Log data of each kind, for each kind of request of Comet's client."""
    run.log_hyperparams({"lr": 0.1, "net": {"sizes": [1, 2]}})
    for step in range(ROWS):
        run.log_metrics({"loss": step / 3, "steps": step}, step, epoch=step // 10)
    for step in range(2):
        run.log_image("picture", [np.full((4, 4, 3), 50 + step + index, np.uint8) for index in range(3)], step=step)
    run.log_table("table", columns=["a"], data=[[1]], step=1)
    run.log_text("note", columns=["text"], data=[["said"]], step=2)
    (directory / "weights.bin").write_bytes(b"weights")
    (directory / "page.html").write_text("<b>page</b>")
    run.log_figure("page", directory / "page.html", step=3)
    run.log_artifact(directory / "weights.bin", name="weights", type="dataset", aliases=["best"])
    run.log_checkpoint(directory / "weights.bin", score=0.5, step=ROWS, aliases=["latest"])
    run.log_tags(["late"])
    run.alert("look", "here")


def check_everything(server, run_dir, state="finished"):
    """Check that Comet has all data of `log_everything` once, with time, step and epoch."""
    stored = server.experiment(run_dir.name)
    assert points_in(stored) == points_logged(run_dir)
    assert stored.params == {"lr": 0.1, "net|sizes": [1, 2]}
    assert sorted(stored.tags) == ["first", "late"]
    assert (stored.name, stored.state) == ("mine", state)
    files = [asset for asset in stored.assets if asset.artifact_version_id is None and asset.type != "git-patch"]
    assert sorted(file.name for file in files) == sorted(FILES)
    assert "<b>page</b>" in stored.html
    assert {each["additional_data"]["text"] for each in stored.notifications} == {"here"}
    for artifact in ("weights:best", f"model-{run_dir.name}:latest"):
        assert list(server.artifact_version(artifact).files.values()) == [b"weights"]
    assert rejected(run_dir) == []


def points_in(stored):
    """Return (name, value, step, epoch, milliseconds) of all metrics, in order of arrival."""
    return [(each.name, each.value, each.step, each.epoch, each.time) for each in stored.metrics]


def points_logged(run_dir):
    """Return the same for a journal."""
    rows = [event for _, event in read_events(run_dir / JOURNAL) if isinstance(event, Metrics)]
    return [
        (name, value, row.step, row.epoch, round(row.time * 1000))
        for row in rows
        for name, value in row.numbers().items()
    ]


def rejected(run_dir):
    """Return the entries of the reject list."""
    return runs.rejected(run_dir, "comet")
