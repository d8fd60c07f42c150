"""`rankzero clean`: which runs are cleaned, what is deleted, and that the runs stay readable."""

import csv
import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import rankzero
from rankzero.cli import app as cli
from rankzero.delivery.cleaning import plan
from rankzero.errors import RunInUseError
from rankzero.rundir.layout import CHECKPOINTS, COMPRESSED, JOURNAL, MEDIA
from rankzero.rundir.positions import load_position, save_position
from rankzero.testing.samples import png

pytest.importorskip("pyzstd")


@pytest.fixture
def logged(tmp_path):
    """Log a run that is delivered to a CSV file, or to nothing; return its directory."""

    def log(logged=range(50), loggers=("csv",), **options):
        (tmp_path / "image.png").write_bytes(png())
        options = {"dir": tmp_path / "runs", "project": "project", "run_id": "first-run", **options}
        run = rankzero.start([rankzero.CSVLogger(save_dir=tmp_path / "csv") for _ in loggers], **options)
        for step in logged:
            run.log_metrics({"loss": step / 7}, step=step)
        run.log_image("picture", [tmp_path / "image.png"])
        run.finish()
        return run.dir

    return log


def steps(directory):
    (table,) = directory.rglob("metrics.csv")
    with table.open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def clean(runs, *options):
    return cli.main(["clean", str(runs), "--older-than", "0h", *options])


def test_a_dry_run_changes_nothing_and_prints_the_plan(logged, tmp_path, capsys):
    run_dir = logged()
    assert cli.main(["ls", str(tmp_path / "runs")]) == 0  # which makes the index
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    assert clean(tmp_path / "runs", "--media", "--checkpoints") == 0
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before
    out = capsys.readouterr().out
    assert "delete media" in out
    assert "Nothing was changed. To do it, add --yes" in out


def test_json_of_the_results(logged, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rankzero.CSVLogger, "keeps_files", True)
    waiting, run_dir = logged(run_id="waiting-run", delivery="off"), logged()
    size = (run_dir / JOURNAL).stat().st_size
    for options in ((), ("--yes",)):
        assert clean(tmp_path / "runs", "--media", "--json", *options) == 0
        first, second = json.loads(capsys.readouterr().out)
        assert (first["dir"], first["compress_bytes"], first["in_no_tracker"]) == (str(run_dir), size, [])
        assert first["delete_bytes"] == {MEDIA: len(png())}
        assert first["unchanged_because"] is None
        assert (second["dir"], second["compress_bytes"]) == (str(waiting), 0)
        assert "not delivered" in second["unchanged_because"]
        assert (run_dir / MEDIA).exists() == (options == ())


def test_a_run_that_was_cleaned_is_read_by_all_commands_and_can_be_resumed(logged, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rankzero.CSVLogger, "keeps_files", True)
    run_dir = logged()
    before = rankzero.read_run(run_dir)
    (run_dir / CHECKPOINTS / "1").mkdir(parents=True)
    (run_dir / CHECKPOINTS / "1" / "model.ckpt").write_bytes(bytes(1000))
    assert clean(tmp_path / "runs", "--media", "--yes") == 0
    assert "1 run cleaned" in capsys.readouterr().out
    assert (run_dir / (JOURNAL + COMPRESSED)).exists()
    assert not (run_dir / JOURNAL).exists()
    assert not (run_dir / MEDIA).exists()
    assert (run_dir / CHECKPOINTS).exists()
    assert clean(tmp_path / "runs", "--checkpoints", "--yes") == 0
    assert not (run_dir / CHECKPOINTS).exists()
    assert clean(tmp_path / "runs", "--media", "--checkpoints", "--yes") == 0
    assert "nothing to clean" in capsys.readouterr().out

    run = rankzero.read_run(run_dir)
    assert (repr(run), run.deliveries) == (repr(before), before.deliveries)
    for command in ("show", "export"):
        assert cli.main([command, str(run_dir)]) == 0
        assert "loss" in capsys.readouterr().out
    assert cli.main(["ls", str(tmp_path / "runs"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["step"] == 49
    other = tmp_path / "other"
    assert cli.main(["sync", str(run_dir), "--to", "csv", "-o", f"save_dir={other}"]) == 1
    assert "1 event could not be delivered" in capsys.readouterr().err  # its file is deleted
    assert steps(other) == [*range(50)]

    logged(range(50, 60))
    assert (run_dir / JOURNAL).exists()
    assert not (run_dir / (JOURNAL + COMPRESSED)).exists()
    assert rankzero.read_run(run_dir).metrics["loss"].step.tolist() == [*range(60)]
    assert steps(tmp_path / "csv") == [*range(60)]


def printed(*arguments):
    """Return what a command prints."""
    with redirect_stdout(io.StringIO()) as out:
        assert cli.main([*map(str, arguments)]) == 0
    return out.getvalue()


def in_mlflow(runs):
    client = pytest.importorskip("mlflow").MlflowClient(f"rankzero:{runs}")
    from rankzero.compat.mlflow import store

    store._metrics.cache_clear()
    found = client.search_runs([each.experiment_id for each in client.search_experiments()])
    history = [each.to_dictionary() for run in found for each in client.get_metric_history(run.info.run_id, "loss")]
    return [each.to_dictionary() for each in found], history


def in_browser(runs):
    testclient = pytest.importorskip("starlette.testclient")
    from rankzero.reader.view.server import make_app

    with testclient.TestClient(make_app(runs, "token"), base_url="http://127.0.0.1:8265") as client:
        return [client.get(f"/token/{part}").content for part in ("", "curves?name=loss", "details/0")][1:]


@pytest.mark.parametrize(
    "answer",
    [
        lambda runs: printed("compare", *sorted((runs / "project").iterdir())),
        lambda runs: printed("query", "select step, value from metrics", runs),
        lambda runs: printed("query", "select * from events", runs),
        lambda runs: rankzero.read_runs(runs).to_arrow().to_pylist(),
        lambda runs: printed("sync", runs / "project" / "first-run", "--verify"),
        in_mlflow,
        in_browser,
    ],
    ids=["compare", "query metrics", "query events", "read_runs", "sync --verify", "mlflow", "view"],
)
def test_a_compressed_journal_gives_the_same_answer(logged, tmp_path, answer):
    for run_id in ("first-run", "second-run"):
        run_dir = logged(run_id=run_id)
    before = answer(tmp_path / "runs")
    assert clean(tmp_path / "runs", "--yes") == 0
    assert not (run_dir / JOURNAL).exists()
    for index in (tmp_path / "runs").rglob("index.*"):
        index.unlink()
    assert answer(tmp_path / "runs") == before


def test_show_and_tables_say_that_files_were_deleted(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rankzero.CSVLogger, "keeps_files", True)
    (tmp_path / "model.ckpt").write_bytes(b"weights")
    with rankzero.start("csv", dir=tmp_path / "runs") as run:
        run.log_table("errors", ["a"], [[1]])
        run.log_checkpoint(tmp_path / "model.ckpt", aliases=["best"])
    (tmp_path / "model.ckpt").unlink()
    assert cli.main(["show", str(run.dir)]) == 0
    assert "deleted" not in capsys.readouterr().out
    assert clean(tmp_path / "runs", "--media", "--checkpoints", "--yes") == 0
    capsys.readouterr()
    assert cli.main(["show", str(run.dir)]) == 0
    out = capsys.readouterr().out
    assert "files of media deleted" in out
    assert "best: deleted" in out
    with pytest.raises(FileNotFoundError, match="rankzero clean --media"):
        rankzero.read_run(run.dir).tables["errors"][0].read()


def test_runs_that_may_still_be_needed_are_left_unchanged(logged, tmp_path):
    def why(run_dir, **changes):
        for name, value in changes.items():
            setattr(position := load_position(run_dir, "csv"), name, value)
            save_position(run_dir, "csv", position)
        return plan(run_dir, 0.0, [MEDIA]).why_not

    run_dir = logged()
    assert plan(run_dir, 3600.0, [MEDIA]).why_not == "too new"
    assert why(run_dir) == ""
    assert "rejected" in why(run_dir, rejected=1)
    assert plan(run_dir, 0.0, [MEDIA], rejected=True).is_needed
    assert "offline" in why(run_dir, rejected=0, offline=True)
    assert "not delivered" in why(run_dir, offline=False, closed=False)
    assert "not delivered" in why(logged(run_id="waiting-run", delivery="off"))
    crashed = tmp_path / "runs" / "project" / "crashed-run"
    shutil.copytree(run_dir, crashed)
    lines = (crashed / JOURNAL).read_bytes().splitlines(keepends=True)
    (crashed / JOURNAL).write_bytes(b"".join(lines[:-1]))
    assert "not delivered" in why(crashed)


def test_of_a_run_without_trackers_only_the_journal_is_compressed(logged):
    run_dir = logged(loggers=())
    found = plan(run_dir, 0.0, [MEDIA, CHECKPOINTS])
    assert found.journal
    assert found.deleted == {}
    found.clean()
    assert Path(rankzero.read_run(run_dir).media["picture"][0].file.path).exists()


def test_files_that_no_tracker_has_are_not_deleted(logged, tmp_path, capsys, monkeypatch):
    run_dir = logged()  # CSV files hold media, but no checkpoints
    (run_dir / CHECKPOINTS / "1").mkdir(parents=True)
    (run_dir / CHECKPOINTS / "1" / "model.ckpt").write_bytes(bytes(1000))
    assert plan(run_dir, 0.0, [CHECKPOINTS, MEDIA]).kept == (CHECKPOINTS,)
    assert clean(tmp_path / "runs", "--media", "--checkpoints") == 0
    assert "in no tracker" in capsys.readouterr().out
    assert cli.main(["clean", str(tmp_path / "runs"), "--older-than", "0m", "--media", "--checkpoints", "--yes"]) == 0
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert (first.startswith("1 run cleaned"), second, rest) == (
        True,
        "checkpoints of 1 run not deleted: in no tracker",
        [],
    )
    assert not (run_dir / MEDIA).exists()
    assert (run_dir / CHECKPOINTS / "1" / "model.ckpt").exists()
    assert clean(tmp_path / "runs", "--checkpoints") == 0
    assert "1 run left unchanged: checkpoints in no tracker" in capsys.readouterr().out

    monkeypatch.setattr(rankzero.CSVLogger, "keeps_files", True)
    assert plan(run_dir, 0.0, [CHECKPOINTS]).deleted
    monkeypatch.setattr(rankzero.CSVLogger, "log_model", False)
    assert plan(run_dir, 0.0, [CHECKPOINTS]).kept == (CHECKPOINTS,)


def test_a_copy_of_an_artifact_that_no_tracker_has_is_not_deleted(logged, tmp_path, monkeypatch):
    run = rankzero.start("csv", dir=tmp_path / "runs")
    (tmp_path / "data.bin").write_bytes(bytes(100))
    run.log_artifact(tmp_path / "data.bin")
    run.finish()
    assert plan(run.dir, 0.0, [MEDIA]).kept == (MEDIA,)
    monkeypatch.setattr(rankzero.CSVLogger, "keeps_files", True)
    assert plan(run.dir, 0.0, [MEDIA]).deleted


def test_a_destination_that_a_command_was_given_counts_as_a_tracker(logged, tmp_path, monkeypatch):
    run_dir = logged(loggers=())
    assert plan(run_dir, 0.0, [MEDIA]).kept == (MEDIA,)
    assert cli.main(["sync", str(run_dir), "--to", "csv", "-o", f"save_dir={tmp_path / 'other'}"]) == 0
    assert plan(run_dir, 0.0, [MEDIA]).deleted


def test_a_run_that_was_resumed_since_it_was_looked_at_is_left_unchanged(logged):
    run_dir = logged()
    found = plan(run_dir, 0.0, [MEDIA])
    logged(range(50, 60))
    with pytest.raises(RunInUseError, match="resumed"):
        found.clean()
    assert (run_dir / MEDIA).exists()
    assert (run_dir / JOURNAL).exists()


@pytest.mark.parametrize("age", ["30", "d", "-1d", "30y"])
def test_an_age_has_a_unit(age, capsys):
    assert cli.main(["clean", "--older-than", age]) == 2
    assert "is no age" in capsys.readouterr().err or age == "-1d"
