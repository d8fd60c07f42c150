"""Exporting runs in the layout of neptune-exporter, and importing them again."""

import math
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet
import pytest
from plugins.neptune.rescue_exports import SCHEMA

from rankzero.cli import app as cli
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Finish, Metrics, Params, Start, Tags, encode
from rankzero.journal.append import Journal
from rankzero.plugins.registry import get_plugins
from rankzero.reader.run_data import read_run

PARAMS = {"lr": 0.1, "n": 2**60, "huge": 2**70, "amp": True, "none": None, "nan": math.nan, "opt": {"name": "adam"}}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    get_plugins.cache_clear()
    yield
    get_plugins.cache_clear()


def write_run(id="a" * 32, status="failed"):
    run_dir = Path("runs/team/digits", id)
    run_dir.mkdir(parents=True)
    info = RunInfo(id, "amber-otter", "team/digits", str(run_dir), ("b",), "why not", 1.7e9, "sweep")
    metrics = [Metrics(1.7e9 + n + 0.1234, n, {"train/loss": n / 3, "acc": n}, 0, "train") for n in range(1000)]
    odd = [Metrics(1.7e9, 5, {"train/loss": math.nan, "late": -math.inf}), Metrics(1.7e9, 10**13, {"far": 1.0})]
    journal = Journal(run_dir / "journal.jsonl")
    about = (Start(1.7e9, info), Params(1.7e9, PARAMS), Tags(1.7e9, ["a"]))
    for event in (*about, *metrics, *odd, Finish(1.7e9 + 2000, status)):
        journal.append(encode(event))
    return run_dir


def export():
    assert cli.main(["export", "runs", "--format", "neptune-parquet", "--output", "exports"]) == 0


def test_files_have_the_layout_of_the_exporter():
    write_run()
    export()
    (path,) = Path("exports/data").glob("*/*.parquet")
    # The names that neptune-exporter gives to this project and this run
    assert path.parent.name == "team_digits-9e949b7053981f8c"
    assert path.name == f"{'a' * 32}-d51aa37609bb10df_part_0.parquet"
    table = pyarrow.parquet.read_table(path)
    assert table.schema.equals(SCHEMA)
    rows = {(row["attribute_path"], row["attribute_type"]): row for row in table.to_pylist()}
    assert rows["sys/creation_time", "datetime"]["datetime_value"] == datetime.fromtimestamp(1.7e9, UTC)
    assert rows["sys/group_tags", "string_set"]["string_set_value"] == ["sweep"]
    assert rows["huge", "string"]["string_value"] == str(2**70)
    assert rows["far", "float_series"]["step"] is None  # it does not fit into the exporter's decimals
    assert {(row["project_id"], row["run_id"]) for row in rows.values()} == {("team/digits", "a" * 32)}


def test_the_importer_reads_back_what_was_exported():
    original = read_run(write_run())
    export()
    assert cli.main(["import", "neptune", "exports", "--dir", "again"]) == 0
    (journal,) = Path("again").rglob("journal.jsonl")
    run = read_run(journal)
    about = (run.info.name, run.info.project, run.info.notes, run.info.started, run.status, sorted(run.tags))
    assert about == ("amber-otter", "team/digits", "why not", 1.7e9, "failed", ["a", "b"])
    params = {name: value for name, value in run.params.items() if name != "sys"}
    assert repr(params) == repr({**PARAMS, "huge": str(2**70), "none": "None"})
    assert run.metrics.keys() == original.metrics.keys()
    for name, series in original.metrics.items():
        again = run.metrics[name]
        assert repr(again.value.astype(float).tolist()) == repr(series.value.astype(float).tolist())
        assert again.time.tolist() == pytest.approx(series.time.tolist(), abs=0.0006)
        if name != "far":
            assert again.step.tolist() == series.step.tolist()


@pytest.mark.parametrize(("status", "failed"), [("success", False), ("aborted", True), ("failed", True)])
def test_status_is_whether_the_run_failed(status, failed):
    write_run(status=status)
    export()
    table = pyarrow.parquet.read_table(next(Path("exports").rglob("*.parquet")))
    (row,) = (row for row in table.to_pylist() if row["attribute_path"] == "sys/failed")
    assert row["bool_value"] is failed
