"""``rankzero import trackio``: projects that Trackio itself wrote."""

import json
import math
import shutil
import sqlite3
import subprocess
import sys
import wave
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from importers.reading import import_all, import_one, points, texts

from rankzero.errors import RunNotFoundError
from rankzero.importers.sources.trackio import TrackioImporter
from rankzero.media.encoders import Histogram
from rankzero.testing import ImporterContract

pytestmark = pytest.mark.usefixtures("undelivered")

RUN = """
import trackio, numpy as np
config = {"lr": 0.1, "optim": {"name": "adam"}}
run = trackio.init(project="my digits", name="first", group="night", config=config, embed=False)
for step in range(20):
    loss = [0.1 * step, float("nan"), float("-inf")][step % 3]
    run.log({"loss": loss, "val": {"acc": step / 7}, "good": step > 3, "note": f"step {step}"}, step=step)
pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
run.log({
    "sample": trackio.Image(pixels, caption="a dot"),
    "sound": trackio.Audio(np.arange(100, dtype=np.int16), sample_rate=8000, format="wav"),
    "errors": trackio.Table(columns=["n", "picture"], data=[[1, trackio.Image(pixels)], [2.5, "none"]]),
    "weights": trackio.Histogram(np_histogram=([1, 2], [0.0, 0.5, 1.0])),
    "page": trackio.Html("<b>hi</b>"),
    "text": trackio.Markdown("# hi"),
    "list": [1, 2],
}, step=30)
trackio.log_system({"cpu": 12.5})
trackio.alert("Careful", "loss is high", level=trackio.AlertLevel.ERROR)
open("weights.txt", "w").write("w")
artifact = trackio.Artifact("model", type="model", metadata={"size": 1})
artifact.add_file("weights.txt")
run.log_artifact(artifact)
trackio.finish()
"""
AGAIN = """
import trackio
config = {"lr": 0.1, "optim": {"name": "sgd"}}
run = trackio.init(project="my digits", name="first", resume="must", config=config, embed=False)
for step in range(40, 45):
    run.log({"loss": step}, step=step)
trackio.finish()
trackio.init(project="my digits", name="second", embed=False)
trackio.log({"loss": 1})
trackio.finish()
"""


def trackio(directory, code):
    """Run code with Trackio in a new process, because Trackio reads TRACKIO_DIR when it is imported."""
    environment = {"TRACKIO_DIR": str(directory / "trackio"), "HF_HUB_OFFLINE": "1", "HOME": str(directory)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=directory, stdout=subprocess.DEVNULL)


class TestTrackio(ImporterContract):
    def make_importer(self):
        return TrackioImporter()

    def make_source(self, directory):
        trackio(directory, RUN)
        return "trackio"

    def grow_source(self, directory):
        trackio(directory, AGAIN)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    directory = tmp_path_factory.mktemp("trackio")
    trackio(directory, RUN)
    return directory / "trackio"


@pytest.fixture
def project(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "trackio"), "mydigits.db")


def test_metrics(project):
    run, left_out = import_one(TrackioImporter(), project)
    steps = range(20)
    values = [[0.1 * step, "nan", -math.inf][step % 3] for step in steps]
    assert points(run) == {
        "loss": list(zip(steps, values, strict=True)),
        "val/acc": [(step, step / 7) for step in steps],
        "good": [(step, step > 3) for step in steps],
        "system/cpu": [(None, 12.5)],
    }
    assert texts(run)["note"] == [(step, f"step {step}") for step in steps]
    assert left_out == {}


def test_the_id_name_params_and_start(project):
    run, _ = import_one(TrackioImporter(), project.parent)
    with sqlite3.connect(project) as database:
        ((run_id, config),) = database.execute("SELECT run_id, config FROM configs").fetchall()
    assert (run.info.id, run.info.name, run.info.group) == (run_id, "first", "night")
    assert run.params == {"lr": 0.1, "optim": {"name": "adam"}}
    assert abs(datetime.fromisoformat(json.loads(config)["_Created"]).timestamp() - run.started) < 60


def test_media(project):
    run, left_out = import_one(TrackioImporter(), project)
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    image, sound = run.media["sample"][0], run.media["sound"][0]
    assert (image.kind, image.step, image.caption, sound.kind) == ("image", 30, "a dot", "audio")
    assert np.array_equal(np.asarray(image.file)[..., :3], pixels)
    with wave.open(str(sound.path)) as file:
        assert np.frombuffer(file.readframes(100), np.int16).tolist() == list(range(100))
    columns, ((first, picture), last) = run.tables["errors"][0].read()
    assert (columns, first, last) == (["n", "picture"], 1, [2.5, "none"])
    assert np.array_equal(np.asarray(picture)[..., :3], pixels)
    assert run.histograms["weights"][0].values == Histogram([1, 2], [0.0, 0.5, 1.0])
    assert (texts(run)["text"], texts(run)["list"]) == ([(30, "# hi")], [(30, "[1,2]")])
    assert left_out == {}


def test_alerts_and_artifacts(project):
    run, _ = import_one(TrackioImporter(), project)
    assert [(each.title, each.text, each.level) for each in run.alerts] == [("Careful", "loss is high", "ERROR")]
    page, model = run.artifacts
    assert "<b>hi</b>" in Path(page.path).read_text()
    assert (model.name, model.kind, model.aliases, model.metadata) == ("model", "model", ["latest"], {"size": 1})
    assert Path(model.path, "weights.txt").read_text() == "w"


def test_a_project_of_an_older_version_has_no_ids(project):
    tables = ("metrics", "configs", "system_metrics", "alerts")
    with closing(sqlite3.connect(project)) as database:
        for table in tables:  # a copy has no indices
            database.execute(f"CREATE TABLE new AS SELECT * FROM {table}")
            database.execute("ALTER TABLE new DROP COLUMN run_id")
            database.execute(f"DROP TABLE {table}")
            database.execute(f"ALTER TABLE new RENAME TO {table}")
        for table in ("artifacts", "artifact_versions", "artifact_aliases", "run_artifact_links"):
            database.execute(f"DROP TABLE {table}")
        database.commit()
    run, left_out = import_one(TrackioImporter(), project)
    assert (run.info.name, len(run.metrics["loss"]), run.params["lr"], left_out) == ("first", 20, 0.1, {})


def test_files_that_are_missing_or_elsewhere_are_left_out(project):
    outside = project.parent.parent / "secret.png"
    outside.write_bytes(b"secret")
    with closing(sqlite3.connect(project)) as database:
        for path in ("../../secret.png", str(outside), "mydigits/none.png", None):
            value = json.dumps({"bad": {"_type": "trackio.image", "file_path": path}})
            database.execute("UPDATE metrics SET metrics = ? WHERE step = 30", (value,))
            database.commit()
            (imported,) = import_all(TrackioImporter(), project, runs=f"runs {path}".replace("/", "_"))
            assert [what for what, _ in imported.report.left_out] == ["bad"]
            assert not any(
                file.read_bytes() == b"secret" for file in Path(imported.info.dir).rglob("*") if file.is_file()
            )


def test_other_databases_are_not_projects(tmp_path):
    with closing(sqlite3.connect("other.db")) as database:
        database.execute("CREATE TABLE metrics (a)")
        database.execute("CREATE VIEW configs AS SELECT 1")
    Path("text.db").write_text("text")
    for source in (".", "other.db", "text.db"):
        with pytest.raises(
            RunNotFoundError, match=r"has no runs of Trackio\. They are in SQLite files with the tables "
        ):
            list(TrackioImporter().find([source]))


def test_a_named_file_must_be_a_project(project):
    Path("text.db").write_text("text")
    with pytest.raises(RunNotFoundError, match=r"text\.db has no runs of Trackio"):
        list(TrackioImporter().find([str(project), "text.db"]))
    assert len(list(TrackioImporter().find([str(project), "."]))) == 1
