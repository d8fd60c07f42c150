"""Import the Parquet files of neptune-exporter, and the files that it downloaded."""

import shutil
import sys
from datetime import UTC, datetime

import pytest
from plugins.neptune import rescue_logs as logs
from plugins.neptune import rescue_samples as samples
from plugins.neptune.rescue_exports import export, row

from rankzero.cli import app as cli
from rankzero.reader.run_data import read_run

PROJECT = "team_digits_0a1b2c3d"
"""The exporter's directory of the project team/digits, beside the Parquet files and in files/; paths begin below it."""
CREATED = datetime(2024, 5, 1, 12, tzinfo=UTC)
FRACTIONS = [round(7919 * number / 1_000_003, 6) for number in range(1_000_010, 1_000_040)]
HISTOGRAM = {"type": "COUNTING", "edges": [0.0, 1.0, 3.0], "values": [3.0, 4.0]}
DENSITIES = {"type": "DENSITY", "edges": [0.0, 1.0, 3.0], "values": [0.5, 0.25]}


def rows():
    """A run as the exporter writes it: attributes, then series, then files."""
    yield row("sys/name", "string", "exp")
    yield row("sys/description", "string", "why not")
    yield row("sys/tags", "string_set", ["b", "a"])
    yield row("sys/creation_time", "datetime", CREATED)
    yield row("sys/failed", "bool", True)
    yield row("sys/id", "string", "DIG-1")
    yield row("params/lr", "float", 0.1 + 0.2)
    yield row("params/n", "int", 2**60)
    yield row("params/amp", "bool", True)
    yield row("params/since", "datetime", samples.DAY)
    yield row("params/colours", "string_set", ["red", "blue"])
    yield row("params/of another run", "int", None)
    for name, sign in (("loss", 1), ("neg", -1)):
        for step, time, value in samples.LOSS:
            yield row(f"train/{name}", "float_series", sign * value, step, time)
    for step, value in samples.HALVES:
        yield row("halves", "float_series", value, step, 1_700_000_000.0)
    for step in FRACTIONS:
        yield row("fractions", "float_series", 1.0, step, 1_700_000_000.0)
    yield row("odd", "float_series", float("nan"), 123_456, 1_700_000_000.0)
    for step, time, text in samples.NOTES:
        yield row("notes", "string_series", text, step, time)
    yield row("counts", "histogram_series", HISTOGRAM, 1, 1_700_000_001.0)
    yield row("densities", "histogram_series", DENSITIES, 1, 1_700_000_001.0)
    yield row("model", "file", {"path": "team/digits/DIG-1/model.ckpt"})
    yield row("pictures", "file_series", {"path": "team/digits/DIG-1/pictures/2.png"}, 2)
    yield row("code", "file_set", {"path": "team/digits/DIG-1/code"})


@pytest.fixture
def exports(tmp_path):
    """The exporter's output directory; the run is in two parts, the second one numbered 10."""
    directory = tmp_path / "exports"
    everything = list(rows())
    export(directory / "data" / PROJECT / "DIG-1_part_2.parquet", everything[:30])
    export(directory / "data" / PROJECT / "DIG-1_part_10.parquet", everything[30:])
    files = directory / "files" / PROJECT / "team/digits/DIG-1"
    for name, content in {
        "model.ckpt": samples.CHECKPOINT, "pictures/2.png": samples.PICTURE, "code/a.py": b"# a", "code/b/c.py": b"# c",
    }.items():  # fmt: skip
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_bytes(content)
    return directory


@pytest.fixture
def take(tmp_path, capsys):
    def take(*arguments, run="*"):
        capsys.readouterr()
        status = cli.main(["import", "neptune", *map(str, arguments), "--dir", str(tmp_path / "runs")])
        runs = [read_run(path) for path in sorted((tmp_path / "runs").rglob("journal.jsonl"))]
        return status, runs, capsys.readouterr().err

    return take


def points(run, name):
    series = run.metrics[name]
    return list(zip(series.step.tolist(), series.time.tolist(), series.value.tolist(), strict=True))


def test_every_kind_of_value(exports, take):
    status, (run,), err = take(exports)
    assert (status, err) == (0, "")
    assert (run.info.name, run.info.notes, run.info.project) == ("exp", "why not", "team/digits")
    assert (run.tags, run.status, run.started) == (["b", "a"], "failed", CREATED.timestamp())
    assert run.params["params"] == {
        "lr": 0.1 + 0.2, "n": 2**60, "amp": True, "since": samples.DAY.isoformat(), "colours": ["red", "blue"],
    }  # fmt: skip
    assert run.params["sys"] == {"id": "DIG-1", "creation_time": CREATED.isoformat()}
    assert points(run, "train/loss") == samples.LOSS
    assert points(run, "train/neg") == [(step, time, -value) for step, time, value in samples.LOSS]
    assert [(step, value) for step, _, value in points(run, "halves/step")] == [(0, 0.5), (1, 1.5)]
    assert [value for *_, value in points(run, "fractions/step")] == FRACTIONS
    assert repr(points(run, "odd")) == "[(123456, 1700000000.0, nan)]"
    assert [(text.step, text.time, text.data[0][0]) for text in run.texts["notes"]] == samples.NOTES
    assert run.histograms["counts"][0].values.counts == [3.0, 4.0]
    assert run.histograms["densities"][0].values.counts == [0.5, 0.5]


def test_files(exports, take):
    _, (run,), _ = take(exports / "data")
    found = {}
    for each in run.artifacts:
        with open(each.path, "rb") as file:
            found[each.name] = file.read()
    assert found == {"model": samples.CHECKPOINT, "code/a.py": b"# a", "code/b/c.py": b"# c"}
    assert [(file.step, file.path.read_bytes()) for file in run.media["pictures"]] == [(2, samples.PICTURE)]


def test_files_in_another_directory(exports, take, tmp_path):
    (exports / "files").rename(tmp_path / "cold storage")
    status, (run,), err = take(exports)
    assert (status, run.artifacts) == (1, [])
    assert "left out: model: the file team/digits/DIG-1/model.ckpt is not in " in err
    assert "-o files=DIR" in err
    shutil.rmtree(tmp_path / "runs")
    status, (run,), _ = take(exports, "-o", f"files={tmp_path / 'cold storage'}")
    assert (status, len(run.artifacts)) == (0, 3)


def test_a_table_cannot_import_files_outside_of_the_export(take, tmp_path):
    (tmp_path / "secret").write_text("key")
    (tmp_path / "e" / "files").mkdir(parents=True)
    for number, path in enumerate(["../../secret", str(tmp_path / "secret")]):
        file = row("f", "file", {"path": path}, run=str(number))
        export(tmp_path / "e" / "data" / f"{number}_part_0.parquet", [file])
    status, runs, err = take(tmp_path / "e" / "data")
    assert (status, [run.artifacts for run in runs]) == (1, [[], []])
    assert err.count("left out: f:") == 2


def test_an_invalid_row_does_not_affect_others(take, tmp_path):
    (tmp_path / "secret").write_text("key")
    (tmp_path / "e" / "files").mkdir(parents=True)
    (tmp_path / "e" / "files" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "e" / "files" / "mine").write_text("mine")
    histogram = {"type": "COUNTING", "edges": None, "values": [1.0]}
    rows = [
        row("all", "file", {"path": "."}),
        row("nul", "file", {"path": "a\0b"}),
        row(None, "float_series", 1.0, 1, 1_700_000_000.0),
        row("h", "histogram_series", histogram, 1, 1_700_000_000.0),
        row("loss", "float_series", 0.5, 1, 1_700_000_000.0),
        row("early", "float_series", 0.5, 1, -1.0),
    ]
    export(tmp_path / "e" / "data" / "1_part_0.parquet", rows)
    status, (run,), err = take(tmp_path / "e" / "data")
    assert (status, points(run, "loss"), run.started) == (1, [(1, 1_700_000_000.0, 0.5)], 1_700_000_000.0)
    assert [each.name for each in run.artifacts] == ["all/mine"]
    for name in ("all/link", "nul", "an attribute", "h", "early"):
        assert f"left out: {name}: " in err


def test_several_runs_in_a_file(take, tmp_path):
    table = [row("loss", "float_series", float(step), step, 1e9 + step, run=f"R-{step % 3}") for step in range(30)]
    export(tmp_path / "e" / "part_0.parquet", table[:20], row_group_size=7)
    export(tmp_path / "e" / "part_1.parquet", table[20:])
    status, runs, _ = take(tmp_path / "e")
    assert status == 0
    assert {run.info.name: [step for step, *_ in points(run, "loss")] for run in runs} == {
        f"R-{number}": list(range(number, 30, 3)) for number in range(3)
    }
    assert {run.started for run in runs} == {1e9, 1e9 + 1, 1e9 + 2}


def test_an_incomplete_file_does_not_affect_others(exports, take):
    torn = export(exports / "data" / PROJECT / "DIG-2_part_0.parquet", [row("a", "int", 1, run="DIG-2")])
    torn.write_bytes(torn.read_bytes()[:-30])
    status, (run,), err = take(exports)
    assert (status, run.info.name) == (1, "exp")
    assert f"{torn}: not imported: it cannot be read" in err


def test_a_damaged_row_group_does_not_affect_others(take, tmp_path):
    table = [row("loss", "float_series", step / 7, step, 1e9 + step) for step in range(3000)]
    path = export(tmp_path / "e" / "part_0.parquet", table, row_group_size=1000)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle - 300 : middle + 300] = b"\xff" * 600
    path.write_bytes(data)
    status, (run,), err = take(tmp_path / "e")
    assert status == 1
    assert len(points(run, "loss")) in (1000, 2000)
    assert "left out: a part of part_0.parquet: the file is damaged" in err


def test_other_parquet_files_are_ignored(exports, take):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"cat": [1]}), exports / "data" / "cats.parquet")
    status, runs, _ = take(exports)
    assert (status, len(runs)) == (0, 1)


def test_an_unknown_kind_is_named(take, tmp_path):
    export(tmp_path / "e" / "part_0.parquet", [row("x", "int", 1), {**row("y", "int", 1), "attribute_type": "smell"}])
    status, (run,), err = take(tmp_path / "e")
    assert (status, run.params) == (1, {"x": 1})
    assert "left out: y: the type smell is unknown" in err


def test_the_directory_of_the_project_is_searched_first(take, tmp_path):
    """Files are searched in the project's directory in files/, then in files/, and nowhere else."""
    for place, content in ((PROJECT, b"right"), ("", b"wrong"), ("other_0a1b2c3d", b"other")):
        path = tmp_path / "e" / "files" / place / "team/digits/DIG-1/model"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    file = row("model", "file", {"path": "team/digits/DIG-1/model"})
    export(tmp_path / "e" / "data" / PROJECT / "DIG-1_part_0.parquet", [file])
    _, (run,), _ = take(tmp_path / "e")
    with open(run.artifacts[0].path, "rb") as stored:
        assert stored.read() == b"right"


def test_null_instead_of_a_point(take, tmp_path):
    """Pandas writes NaN as null."""
    points_of = [row("loss", "float_series", value, step, 1e9 + step) for step, value in enumerate([0.5, None, 0.25])]
    table = [
        *points_of,
        row("untimed", "float_series", None, 4),
        row("absent", "float_series", None),
        row("absent", "float", None),
        row("text", "string_series", None, 1, 1e9),
        row("pictures", "file_series", None, 1),
    ]
    export(tmp_path / "e" / "p" / "DIG-1_part_0.parquet", table)
    status, (run,), err = take(tmp_path / "e")
    assert repr([value for *_, value in points(run, "loss")]) == "[0.5, nan, 0.25]"
    assert sorted(run.metrics) == ["loss", "untimed"]
    assert (status, err.count("left out")) == (1, 2)
    for name in ("text", "pictures"):
        assert f"left out: {name}: the export contains a point without a value" in err


def losses(count):
    return [row("loss", "float_series", step / 3, step, 1e9 + step) for step in range(count)]


@pytest.mark.parametrize("grown", [0, 5])
def test_an_export_that_was_made_twice_is_imported_once(take, tmp_path, grown):
    one = export(tmp_path / "e" / "data" / PROJECT / "DIG-1_part_0.parquet", losses(20))
    two = export(tmp_path / "e" / "later" / PROJECT / "DIG-1_part_0.parquet", losses(20 + grown), row_group_size=7)
    if not grown:
        two.write_bytes(one.read_bytes())
    capture = take(tmp_path / "e")
    status, (run,), err = capture
    assert (status, err) == (0, "")
    assert [step for step, *_ in points(run, "loss")] == list(range(20 + grown))


def test_an_export_with_other_data_is_named(take, tmp_path):
    export(tmp_path / "e" / "data" / PROJECT / "DIG-1_part_0.parquet", losses(2000))
    other = export(tmp_path / "e" / "later" / PROJECT / "DIG-1_part_0.parquet", [row("acc", "float_series", 1.0, 1)])
    status, (run,), err = take(tmp_path / "e")
    assert (status, sorted(run.metrics), len(points(run, "loss"))) == (1, ["loss"], 2000)
    assert f"{other}: not imported: " in err
    assert "has the same name and is larger, but has other data" in err


def test_runs_of_two_projects_in_one_file(take, tmp_path):
    table = [row("n", "int", number, project=project) for number, project in enumerate(["a/b", "c/d", None])]
    export(tmp_path / "e" / "part_0.parquet", table)
    status, runs, _ = take(tmp_path / "e")
    assert status == 0
    assert sorted((run.info.project, run.params["n"]) for run in runs) == [("a/b", 0), ("c/d", 1), ("neptune", 2)]


def test_a_repeated_set_of_strings_is_replaced(take, tmp_path):
    table = [row("colours", "string_set", colours) for colours in (["red", "blue"], ["green"])]
    export(tmp_path / "e" / "part_0.parquet", table)
    assert take(tmp_path / "e")[1][0].params["colours"] == ["green"]


def test_a_copied_run_without_times_stays_the_same(take, tmp_path):
    path = export(tmp_path / "e" / "part_0.parquet", [row("n", "int", 1)])
    _, (run,), _ = take(path)
    path.touch()
    status, (again,), _ = take(path)
    assert (status, again.started) == (0, run.started)


def test_many_files_need_few_open_files(tmp_path, capsys, few_files):
    for number in range(120):
        export(tmp_path / "e" / f"R-{number}_part_0.parquet", [row("n", "int", number, run=f"R-{number}")])
    assert cli.main(["import", "neptune", str(tmp_path / "e"), "--dir", str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out.count("imported: 1 value") == 120


def test_a_parquet_file_without_pyarrow_does_not_affect_other_runs(take, tmp_path, monkeypatch):
    logs.write_log(tmp_path / "p", [logs.value("loss", 0.5, 1, 1e9, 1)], created=1e9)
    stray = export(tmp_path / "p" / "cats.parquet", [])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    status, (run,), err = take(tmp_path / "p")
    assert (status, list(run.metrics)) == (1, ["loss"])
    assert f"{stray}: not imported: files of neptune-exporter are read with pyarrow. Run: pip install" in err
