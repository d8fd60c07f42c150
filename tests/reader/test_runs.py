"""Many runs as a table."""

import math
import sys

import pytest
import recorded

import rankzero
from rankzero.errors import PluginNotInstalledError, RunNotFoundError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Finish, Metrics, Params, Start
from rankzero.reader.exporting.base import ExportedRun


def write(directory, id, params, losses, group=None):
    run_dir = directory / "digits" / id
    start = Start(1.0, RunInfo(id, f"run-{id}", "digits", str(run_dir), ("tag",), group=group, started=float(len(id))))
    rows = [Metrics(2.0, step, {"val/loss": loss}) for step, loss in enumerate(losses)]
    recorded.write(run_dir, start, Params(1.0, params), *rows, Finish(9.0, "success"))


@pytest.fixture
def runs(tmp_path):
    write(tmp_path, "bb", {"lr": 0.1, "opt": {"name": "sgd"}, "mixed": 1, "large": 2**70}, [3, 1.5, 2], group="sweep")
    write(tmp_path, "a", {"lr": math.nan, "mixed": [1, "b"]}, [math.nan, 5])
    write(tmp_path, "ccc", {}, [])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "journal.jsonl").write_bytes(b"nonsense\n")
    return rankzero.read_runs(tmp_path)


def test_runs_are_in_the_order_of_their_starts_and_broken_ones_are_named(runs, tmp_path):
    assert [run.info.id for run in runs] == ["a", "bb", "ccc"]
    assert [run.info.id for run in runs[1:]] == ["bb", "ccc"]
    assert list(runs[1:].to_pandas()["run"]) == ["bb", "ccc"]
    assert len(repr(runs[0])) < 200
    assert [*runs.unreadable] == [tmp_path / "broken"]
    assert repr(runs) == "Runs(3 runs)"


def test_the_best_run_is_found(runs):
    best = min((run for run in runs if "val/loss" in run.metrics), key=lambda run: run.metrics["val/loss"].min)
    assert (best.info.name, best.metrics["val/loss"].min_step, best.params["opt"]) == ("run-bb", 1, {"name": "sgd"})


def test_curves_are_those_of_the_runs_that_have_the_metric(runs):
    curves = {run.info.id: curve.value.tolist()[-1] for run, curve in runs.curves("val/loss")}
    assert curves == {"a": 5, "bb": 2}


def test_the_table_has_the_columns_of_exports_and_params_and_metrics(runs):
    table = runs.to_arrow()
    params, summaries = ["params.lr", "params.mixed", "params.opt/name", "params.large"], ["last", "min", "max"]
    assert table.column_names == [*ExportedRun.__struct_fields__, *params, *(f"{each}.val/loss" for each in summaries)]
    found = {name: table[name].to_pylist() for name in table.column_names}
    assert found["group"] == [None, "sweep", None]
    assert found["tags"] == [["tag"]] * 3
    assert found["points"] == [2, 3, 0]
    assert found["params.mixed"] == ['[1,"b"]', "1", None]
    assert found["params.opt/name"] == [None, "sgd", None]
    assert [found[f"{each}.val/loss"] for each in summaries] == [[5, 2, None], [5, 1.5, None], [5, 3, None]]


def test_pandas_and_polars_get_the_same_table(runs):
    frame, polars = runs.to_pandas(), runs.to_polars()
    assert list(frame.columns) == polars.columns == runs.to_arrow().column_names
    assert frame.sort_values("min.val/loss")["run"].tolist() == ["bb", "a", "ccc"]
    assert polars["max.val/loss"].to_list() == [5, 3, None]


def test_no_runs_are_an_empty_table(tmp_path):
    runs = rankzero.read_runs(tmp_path)
    assert (len(runs), runs.to_arrow().num_rows, len(runs.to_pandas())) == (0, 0, 0)


def test_a_missing_directory_is_reported(tmp_path):
    with pytest.raises(RunNotFoundError, match="there is no directory"):
        rankzero.read_runs(tmp_path / "none")


def test_the_directory_of_runs_is_the_default(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKZERO_DIR", str(tmp_path))
    assert len(rankzero.read_runs()) == 3


def test_a_library_that_is_missing_is_named(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(PluginNotInstalledError, match="pip install 'polars'"):
        runs.to_polars()
