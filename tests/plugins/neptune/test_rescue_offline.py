"""Import the offline data of a Neptune 1.x client, value by value, and deliver it."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from plugins.neptune import rescue_samples as samples

import rankzero
from rankzero.cli import app as cli
from rankzero.reader.run_data import read_run


@pytest.fixture(scope="module")
def project(left_offline):
    """A project's directory in which a client logged offline."""
    return left_offline / "offline"


@pytest.fixture(scope="module")
def imported(project, tmp_path_factory):
    """The imported run."""
    runs = tmp_path_factory.mktemp("runs")
    assert cli.main(["import", "neptune", str(project), "--dir", str(runs)]) == 0
    return read_run(next((runs / "neptune").iterdir()))


def points(run, name):
    series = run.metrics[name]
    return list(zip(series.step.tolist(), series.time.tolist(), series.value.tolist(), strict=True))


def artifacts(run):
    return {each.name: Path(each.path).read_bytes() for each in run.artifacts}


def test_header_of_the_run(imported, project):
    (directory,) = (project / ".neptune" / "offline").iterdir()
    identity = json.loads((directory / "metadata.json").read_text())["containerId"]
    assert imported.info.id == identity.replace("-", "")
    assert (imported.info.name, imported.info.notes, imported.info.project) == ("brave try", "why not", "neptune")
    assert sorted(imported.tags) == ["kept", "late"]
    assert imported.status == "failed"
    assert imported.damaged == 0


def test_params(imported):
    since = samples.DAY.isoformat()
    assert imported.params["params"] == {**samples.PARAMS, "since": since}
    assert isinstance(imported.params["params"]["layers"], int)
    assert imported.params["params"]["deep"]["amp"] is True
    assert (imported.params["epoch"], imported.params["colours"]) == (2, ["blue"])
    assert "tags" not in imported.params["sys"]


def test_series(imported):
    assert points(imported, "training/loss") == samples.LOSS
    assert points(imported, "training/acc") == samples.ACC
    assert [(step, value) for step, _, value in points(imported, "auto")] == [(0, 5.0), (1, 6.0), (2, 7.0)]
    assert points(imported, "extended") == [(7, 1_700_000_007.0, 1.5), (9, 1_700_000_009.0, 2.5)]
    assert "erased" not in imported.metrics


def test_values_of_one_step_and_time_are_one_row(imported):
    rows = [json.loads(line) for line in (imported.dir / "journal.jsonl").read_bytes().splitlines()]
    losses = [row["values"] for row in rows if "training/loss" in row.get("values", {})]
    assert [sorted(row) for row in losses[:3]] == [["training/acc", "training/loss"]] * 2 + [["training/loss"]]


def test_fractions_of_steps_are_kept_beside_the_values(imported):
    assert [value for *_, value in points(imported, "halves")] == [1.0, 2.0, 3.0]
    assert [step for step, *_ in points(imported, "halves")] == [0, 1, 1]
    assert [value for *_, value in points(imported, "halves/step")] == [0.5, 1.5]


def test_texts(imported):
    got = [(text.step, text.time, text.data[0][0]) for text in imported.texts["notes"]]
    assert got == samples.NOTES


def test_many_texts_become_few_tables(imported):
    single, table = imported.texts["lines"][:100], imported.texts["lines"][100:]
    rows = [(text.step, text.data[0][0]) for text in single]
    rows += [(step, text) for each in table for step, _, text in each.data]
    assert rows == list(enumerate(samples.LINES))
    assert len(table) == 1


def test_console(imported):
    lines = [line for each in imported.console for line in each.text.split("\n")]
    assert lines[0].startswith("[neptune]") or lines[0] == "out one"
    assert [line for line in lines if not line.startswith("[neptune]")] == ["out one", "30%"]
    assert {each.stream for each in imported.console} == {"stdout"}


def test_files(imported):
    assert artifacts(imported) == {
        "model/checkpoint": samples.CHECKPOINT,
        "readme": "hällo".encode(),
        "code/a.py": b"# code/a.py\n",
        "code/sub/b.py": b"# code/sub/b.py\n",
    }


def test_pictures(imported):
    assert [file.path.read_bytes() for file in imported.media["picture"]] == [samples.PICTURE]
    (picture,) = imported.media["pictures"]
    assert (picture.step, picture.caption) == (3, "cat: a cat")
    numpy = pytest.importorskip("numpy")
    pixels = numpy.asarray(picture.file)
    assert (pixels == numpy.asarray(samples.picture())).all()


@pytest.mark.parametrize("where", ["project", ".neptune", "offline", "run", "file"])
def test_paths_that_can_be_imported(project, where, tmp_path):
    (directory,) = (project / ".neptune" / "offline").iterdir()
    paths = {
        "project": project, ".neptune": project / ".neptune", "offline": project / ".neptune" / "offline",
        "run": directory, "file": directory / "data-1.log",
    }  # fmt: skip
    # Twice the same is once.
    assert cli.main(["import", "neptune", str(paths[where]), str(project), "--dir", str(tmp_path)]) == 0
    (run_dir,) = (tmp_path / "neptune").iterdir()
    assert points(read_run(run_dir), "training/loss") == samples.LOSS


@pytest.mark.filterwarnings("ignore:CSVLogger has no tags")
def test_it_can_be_delivered(imported, tmp_path):
    copy = tmp_path / "runs" / imported.info.id
    shutil.copytree(imported.dir, copy)
    rankzero.deliver(copy, rankzero.CSVLogger(tmp_path / "csv"))
    (metrics,) = (tmp_path / "csv").rglob("metrics.csv")
    with open(metrics, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["training/loss"]]
    assert [(int(row["step"]), float(row["time"]), float(row["training/loss"])) for row in rows] == samples.LOSS


def test_data_that_cannot_be_imported_is_named(left_offline, tmp_path, capsys):
    project = left_offline / "what_cannot_be_taken"
    assert cli.main(["import", "neptune", str(project), "--dir", str(tmp_path / "runs")]) == 1
    err = capsys.readouterr().err
    assert "left out: data set: Neptune stores the paths of these files, not the files: data.csv" in err
    assert f"left out: lost: {project / 'lost.bin'}: No such file or directory" in err
    assert err.count("left out") == 2
    (run_dir,) = (tmp_path / "runs" / "neptune").iterdir()
    assert [value for *_, value in points(read_run(run_dir), "loss")] == [0.5]


@pytest.mark.parametrize("what", ["nothing", "empty"])
def test_no_data_is_wrong_usage(tmp_path, capsys, what):
    if what == "empty":
        (tmp_path / what).mkdir()
    assert cli.main(["import", "neptune", str(tmp_path / what)]) == 2
    assert str(tmp_path / what) in capsys.readouterr().err


def test_the_hook_imports_nothing_heavy():
    code = (
        "import sys, rankzero_neptune.importing\n"
        "heavy = {'neptune', 'neptune_api', 'pyarrow', 'sqlite3', 'rankzero_neptune.importing.importer'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
