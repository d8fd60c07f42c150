"""Exports are read back with the tools that people use, value by value; only changed runs are written again."""

import csv
import json
import math
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset
import pyarrow.parquet
import pytest
from recorded import write

from rankzero.errors import PluginNotInstalledError, RunError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Finish, Metrics, Params, Rewind, Start, Tags, Text
from rankzero.reader.exporting import arrow
from rankzero.reader.exporting.base import Point, RunReader
from rankzero.reader.exporting.export import export_runs
from rankzero.reader.exporting.registry import make_exporter
from rankzero.rundir.writer_lock import WriterLock

NAMES = ["project", "run", *Point.__struct_fields__]
NAN, INF = math.nan, math.inf
PROJECT = "team/ärger 50% #?*:=[x]{y}^'\"&+"
ODD = 'a,"b"\n=\'1;{} ü'

POLARS = dict(zip(NAMES[2:], (pl.String, pl.Int64, pl.Float64, pl.Int64, pl.String, pl.Float64), strict=True))


def write_run(directory, project, id, *events, finish=True):
    run_dir = directory / project.partition("/")[0] / id
    info = RunInfo(id, f"name of {id}", project, str(run_dir), ("first",), "a\nnote", 100.0, "sweep", "0000")
    write(run_dir, Start(100.0, info), *events, *([Finish(200.5, "failed")] if finish else []))
    return run_dir


@pytest.fixture
def runs(tmp_path):
    """Three runs with odd names and odd values."""
    directory = tmp_path / "runs"
    write_run(
        directory, PROJECT, "0001",
        Params(100.5, {"lr": 0.1, "opt": {"name": "adam", "bad": NAN}}),
        Metrics(101.25, 1, {"loss": 0.1, "acc": 1}, 0, "train"),
        Metrics(102.0000001, 2, {"loss": NAN, "acc": True}, 1, "validate"),
        b'{"type":"metrics","time":1,"st\n',
        Metrics(103.0, 2**70, {"loss": INF, "acc": 2**60 + 1}, 1, "train"),
        Metrics(104.0, 1, {"loss": -INF}),
        Metrics(105.0, None, {ODD: 1e-320, " ": 2**1000}),
        Tags(106.0, ["second, with comma"]),
        Params(107.0, {"opt": {"lr": 2}, "none": None}),
    )  # fmt: skip
    write_run(directory, "digits", "20251122", *(Metrics(1.0 + n, n, {"loss": n / 3}) for n in range(1000)))
    write_run(directory, "digits", "empty", Text(1.0, "t", ["x"], [["y"]]), finish=False)
    return directory


EXPECTED = [
    (PROJECT, "0001", "loss", 1, 101.25, 0, "train", 0.1),
    (PROJECT, "0001", "acc", 1, 101.25, 0, "train", 1.0),
    (PROJECT, "0001", "loss", 2, 102.0000001, 1, "validate", NAN),
    (PROJECT, "0001", "acc", 2, 102.0000001, 1, "validate", 1.0),
    (PROJECT, "0001", "loss", None, 103.0, 1, "train", INF),
    (PROJECT, "0001", "acc", None, 103.0, 1, "train", float(2**60 + 1)),
    (PROJECT, "0001", "loss", 1, 104.0, None, None, -INF),
    (PROJECT, "0001", ODD, None, 105.0, None, None, 1e-320),
    (PROJECT, "0001", " ", None, 105.0, None, None, float(2**1000)),
    *(("digits", "20251122", "loss", n, 1.0 + n, None, None, n / 3) for n in range(1000)),
]


def export(runs, name, output):
    return export_runs(sorted(path.parent for path in runs.rglob("journal.jsonl")), make_exporter(name, output))


def in_order(rows):
    """Rows that can be compared: sorted, and with a NaN that is equal to itself."""
    return sorted((tuple("NaN" if value != value else value for value in row) for row in rows), key=repr)


def read_rows(name, output):
    """Read an export with a tool that people use for it."""
    columns = ", ".join(NAMES)
    if name == "duckdb":
        with duckdb.connect(str(output), read_only=True) as database:
            return database.sql(f"select {columns} from metrics").fetchall()
    files = sorted((output / "metrics").glob(f"*/*/metrics.{name}"))
    types = "{metric: 'VARCHAR', step: 'BIGINT', time: 'DOUBLE', epoch: 'BIGINT', stage: 'VARCHAR', value: 'DOUBLE'}"
    source = {
        "parquet": "read_parquet(?, hive_partitioning=true)",
        "csv": f"read_csv(?, hive_partitioning=true, columns={types}, quote='\"', escape='\"')",
        "jsonl": f"read_json(?, hive_partitioning=true, columns={types})",
    }[name]
    return duckdb.execute(f"select {columns} from {source}", [list(map(str, files))]).fetchall()


FORMATS = ["csv", "jsonl", "parquet", "duckdb"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_value_is_read_back(runs, tmp_path, name):
    result = export(runs, name, tmp_path / "out")
    assert (result.written, result.points, result.failed) == (3, len(EXPECTED), {})
    assert in_order(read_rows(name, tmp_path / "out")) == in_order(EXPECTED)


@pytest.mark.parametrize(
    "read",
    [
        lambda path: pl.scan_parquet(path / "metrics", hive_partitioning=True).collect().to_dicts(),
        lambda path: pyarrow.dataset.dataset(path / "metrics", partitioning="hive").to_table().to_pylist(),
        lambda path: pd.read_parquet(path / "metrics").to_dict("records"),
    ],
    ids=["polars", "pyarrow", "pandas"],
)
def test_tools_read_the_parquet_dataset(runs, tmp_path, read):
    shutil.rmtree(runs / "digits")  # the other id is a number, and these tools convert it unless they are told not to
    export(runs, "parquet", tmp_path / "out")
    rows = read(tmp_path / "out")
    for row in rows:
        # pandas has floats there, and NaN for what is missing
        row.update({key: None if row[key] != row[key] else row[key] and int(row[key]) for key in ("step", "epoch")})
        row["stage"] = row["stage"] if isinstance(row["stage"], str) else None
    expected = [(project, 1, *rest) for project, run, *rest in EXPECTED if run == "0001"]
    assert in_order([row[name] for name in NAMES] for row in rows) == in_order(expected)


@pytest.mark.parametrize("name", FORMATS)
def test_table_of_runs(runs, tmp_path, name):
    export(runs, name, tmp_path / "out")
    path = tmp_path / "out" / f"runs.{name}"
    if name == "duckdb":
        with duckdb.connect(str(tmp_path / "out"), read_only=True) as database:
            found = database.sql("select * from runs order by points").pl().to_dicts()
    else:
        read = {"csv": csv_rows, "jsonl": jsonl_rows, "parquet": lambda path: pl.read_parquet(path).to_dicts()}
        found = sorted(read[name](path), key=lambda row: int(row["points"]))
    empty, odd, digits = found
    assert (odd["project"], odd["run"], odd["name"]) == (PROJECT, "0001", "name of 0001")
    assert (odd["group"], odd["parent"]) == ("sweep", "0000")
    assert (odd["status"], float(odd["started"]), float(odd["finished"])) == ("failed", 100.0, 200.5)
    assert (odd["notes"], odd["directory"]) == ("a\nnote", str(next(runs.rglob("0001"))))
    parsed = {key: json.loads(odd[key]) if isinstance(odd[key], str) else odd[key] for key in ("tags", "params")}
    assert parsed["tags"] == ["first", "second, with comma"]
    assert parsed["params"] == {"lr": 0.1, "opt": {"name": "adam", "bad": "NaN", "lr": 2}, "none": None}
    assert (empty["status"], empty["finished"] or None, int(digits["points"])) == ("crashed", None, 1000)


def csv_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def jsonl_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", FORMATS)
def test_only_changed_runs_are_written_again(runs, tmp_path, name):
    output = tmp_path / "out"
    export(runs, name, output)
    files = {path: path.stat().st_ino for path in output.rglob("metrics.*")}
    result = export(runs, name, output)
    assert (result.written, result.unchanged) == (0, 3)
    write_run(runs, "digits", "20251122", Metrics(9.0, 2000, {"loss": 0.5}))
    result = export(runs, name, output)
    assert (result.written, result.unchanged, result.points) == (1, 2, 1001)
    assert [path.parent.name for path, inode in files.items() if path.stat().st_ino != inode] == (
        [] if name == "duckdb" else ["run=20251122"]
    )
    new = ("digits", "20251122", "loss", 2000, 9.0, None, None, 0.5)
    assert in_order(read_rows(name, output)) == in_order([*EXPECTED, new])


def test_a_run_is_written_again_if_its_status_file_or_directory_changed(runs, tmp_path):
    output = tmp_path / "out"
    lock = WriterLock(runs / "digits" / "empty")
    export(runs, "parquet", output)
    assert "running" in set(pl.read_parquet(output / "runs.parquet")["status"])
    lock.release()
    assert export(runs, "parquet", output).written == 1
    assert "running" not in set(pl.read_parquet(output / "runs.parquet")["status"])
    next(output.rglob("run=20251122/metrics.parquet")).unlink()
    assert export(runs, "parquet", output).written == 1
    runs.rename(tmp_path / "moved")
    assert export(tmp_path / "moved", "parquet", output).written == 3
    assert {Path(each).parents[1].name for each in pl.read_parquet(output / "runs.parquet")["directory"]} == {"moved"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_that_is_gone_stays_exported(runs, tmp_path, name):
    export(runs, name, tmp_path / "out")
    shutil.rmtree(runs / "digits")
    assert export(runs, name, tmp_path / "out").unchanged == 1
    assert in_order(read_rows(name, tmp_path / "out")) == in_order(EXPECTED)


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_a_run_without_points_has_no_file_of_metrics(runs, tmp_path, name):
    output = tmp_path / "out"
    export(runs, name, output)
    (empty,) = output.glob("metrics/*/run=empty")
    assert list(empty.iterdir()) == []
    (empty / f"metrics.{name}").touch()  # as left by a process that was killed
    assert export(runs, name, output).written == 1
    assert list(empty.iterdir()) == []
    read = {"csv": "read_csv", "jsonl": "read_json", "parquet": "read_parquet"}[name]
    types = duckdb.execute(f"select * from {read}('{output}/metrics/*/*/*.{name}')").description
    assert {column[0]: str(column[1]) for column in types}["step"] == "BIGINT"
    write_run(runs, "digits", "empty", Metrics(9.0, 2000, {"loss": 0.5}))
    assert export(runs, name, output).points == 1
    assert (empty / f"metrics.{name}").is_file()


@pytest.mark.parametrize(
    "scan",
    [
        lambda path: pl.scan_csv(path / "metrics/**/*.csv", schema=POLARS),
        lambda path: pl.scan_ndjson(path / "metrics/**/*.jsonl", schema={**POLARS, "value": pl.String}).with_columns(
            pl.col("value").cast(pl.Float64)
        ),
    ],
    ids=["csv", "jsonl"],
)
def test_polars_reads_text_with_the_schema_of_the_docs(tmp_path, request, scan):
    runs = tmp_path / "runs"
    write_run(runs, "p", "a", *(Metrics(1.0, n, {"loss": 0.5}) for n in range(200)))
    write_run(runs, "p", "b", Metrics(2.0, 1, {"loss": NAN, "acc": INF}, 3, "train"))
    write_run(runs, "p", "empty", Text(1.0, "t", ["x"], [["y"]]))
    export(runs, request.node.callspec.id, tmp_path / "out")
    rows = scan(tmp_path / "out").collect().select(NAMES[2:]).rows()
    odd = [("loss", 1, 2.0, 3, "train", NAN), ("acc", 1, 2.0, 3, "train", INF)]
    assert in_order(rows) == in_order([*(("loss", n, 1.0, None, None, 0.5) for n in range(200)), *odd])


def test_a_run_whose_file_was_deleted_is_taken_out_of_the_table_of_runs(runs, tmp_path):
    export(runs, "jsonl", tmp_path / "out")
    shutil.rmtree(runs / "digits" / "empty")
    shutil.rmtree(next(tmp_path.glob("out/metrics/*/run=empty")))
    export(runs, "jsonl", tmp_path / "out")
    assert {row["run"] for row in jsonl_rows(tmp_path / "out" / "runs.jsonl")} == {"0001", "20251122"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_that_fails_keeps_its_last_export_and_stops_no_other(runs, tmp_path, monkeypatch, name):
    export(runs, name, tmp_path / "out")
    write_run(runs, "digits", "20251122", Metrics(9.0, 2000, {"loss": 0.5}))
    write_run(runs, "digits", "new", Metrics(9.0, 0, {"loss": 0.5}))
    rows = RunReader.rows

    def fail_in_the_middle(self):
        for part in rows(self):
            yield part
            if self.key[1] == "20251122":
                raise OverflowError("no more")

    monkeypatch.setattr(RunReader, "rows", fail_in_the_middle)
    result = export(runs, name, tmp_path / "out")
    assert (result.written, [path.name for path in result.failed]) == (1, ["20251122"])
    new = ("digits", "new", "loss", 0, 9.0, None, None, 0.5)
    assert in_order(read_rows(name, tmp_path / "out")) == in_order([*EXPECTED, new])
    assert not list(tmp_path.rglob("*.part"))
    monkeypatch.undo()
    assert export(runs, name, tmp_path / "out").written == 1


@pytest.mark.parametrize("name", FORMATS)
def test_ctrl_c_ends_the_export_and_keeps_complete_runs(runs, tmp_path, monkeypatch, name):
    export(runs, name, tmp_path / "out")
    write_run(runs, "digits", "20251122", Metrics(9.0, 2000, {"loss": 0.5}))
    write_run(runs, "digits", "new", Metrics(9.0, 0, {"loss": 0.5}))
    rows = RunReader.rows

    def interrupted(self):
        yield from rows(self)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    monkeypatch.setattr(RunReader, "rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(runs, name, tmp_path / "out")
    assert in_order(read_rows(name, tmp_path / "out")) == in_order(EXPECTED)
    monkeypatch.undo()
    assert export(runs, name, tmp_path / "out").written == 2


def test_of_two_runs_with_one_id_the_first_is_exported(runs, tmp_path):
    shutil.copytree(runs / "digits" / "20251122", runs / "digits" / "copy")
    result = export(runs, "parquet", tmp_path / "out")
    assert result.written == 3
    assert "20251122 has the same project and id" in str(result.failed[runs / "digits" / "copy"])


def test_what_a_rewind_superseded_is_left_out(tmp_path):
    steps = [*range(10), Rewind(1.0, 6), *range(7, 9), Rewind(1.0, 3), 4, None]
    events = (each if isinstance(each, Rewind) else Metrics(1.0, each, {"loss": 1}) for each in steps)
    write_run(tmp_path / "runs", "p", "r", Params(1.0, {"rewind": "rewind"}), *events)
    export(tmp_path / "runs", "parquet", tmp_path / "out")
    assert [row[3] for row in read_rows("parquet", tmp_path / "out")] == [0, 1, 2, 3, 4, None]


def test_a_line_that_is_being_written_is_left_for_the_next_export(runs, tmp_path):
    journal = next(runs.rglob("20251122")) / "journal.jsonl"
    with open(journal, "ab") as file:
        file.write(b'{"type":"metrics","time":7.0,')
    export(runs, "jsonl", tmp_path / "out")
    assert export(runs, "jsonl", tmp_path / "out").unchanged == 3
    with open(journal, "ab") as file:
        file.write(b'"step":5,"values":{"loss":1}}\n')
    assert export(runs, "jsonl", tmp_path / "out").points == 1001


def test_a_parquet_file_has_row_groups_of_limited_size_with_each_metric_in_one_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow, "_POINTS_IN_TABLE", 1000)
    monkeypatch.setattr(arrow, "_POINTS_AT_ONCE", 100)
    values = {f"m{number}": 0.5 for number in range(4)}
    write_run(tmp_path / "runs", "p", "r", *(Metrics(1.0, n, values, None, "train") for n in range(20_000)))
    export(tmp_path / "runs", "parquet", tmp_path / "out")
    file = pyarrow.parquet.ParquetFile(next(tmp_path.rglob("metrics.parquet")))
    sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sum(sizes) == 80_000
    assert max(sizes) < 10_000
    first = file.read_row_group(0)
    assert first["metric"].to_pylist() == sorted(first["metric"].to_pylist())
    assert file.metadata.metadata[b"rankzero.schema"] == b"2"
    assert b"ARROW:schema" not in file.metadata.metadata


def test_a_directory_has_one_format(runs, tmp_path):
    export(runs, "csv", tmp_path / "out")
    with pytest.raises(RunError, match="has runs in the format csv"):
        export(runs, "parquet", tmp_path / "out")


def test_a_file_that_is_no_database_of_ours_is_refused(runs, tmp_path):
    (tmp_path / "text.duckdb").write_text("text" * 5000)
    with pytest.raises(RunError, match=r"text\.duckdb: "):
        export(runs, "duckdb", tmp_path / "text.duckdb")
    export(runs, "duckdb", tmp_path / "out")
    with duckdb.connect(str(tmp_path / "out")) as database:
        database.execute("update rankzero_schema set version = 99")
    with pytest.raises(RunError, match="another version of rankzero"):
        export(runs, "duckdb", tmp_path / "out")
    assert (tmp_path / "text.duckdb").read_text() == "text" * 5000


@pytest.mark.parametrize(("name", "package"), [("duckdb", "duckdb"), ("parquet", "pyarrow")])
def test_a_missing_package_is_named_with_its_extra(runs, tmp_path, monkeypatch, name, package):
    for module in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PluginNotInstalledError, match=rf"needs {package}: pip install 'rankzero\[data\]'"):
        raise (list(export(runs, name, tmp_path / "out").failed.values()) or [AssertionError])[0]
