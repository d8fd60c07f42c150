"""Import the offline data of neptune-scale, value by value, and damaged files."""

import hashlib
import os
import shutil
import sqlite3

import pytest
from plugins.neptune import rescue_samples as samples

from rankzero.cli import app as cli
from rankzero.importers.base import Report
from rankzero.reader.run_data import read_run
from rankzero_neptune.importing.scale_database import ScaleDatabase


@pytest.fixture(scope="module")
def logs(left_by_scale):
    return left_by_scale / "scale" / "logs"


def take(source, runs):
    status = cli.main(["import", "neptune", str(source), "--dir", str(runs)])
    (journal,) = runs.rglob("journal.jsonl")
    return status, read_run(journal)


@pytest.fixture(scope="module")
def imported(logs, tmp_path_factory):
    status, run = take(logs, tmp_path_factory.mktemp("runs"))
    assert status == 1  # the preview
    return run


def points(run, name):
    series = run.metrics[name]
    return list(zip(series.step.tolist(), series.time.tolist(), series.value.tolist(), strict=True))


def everything(directory):
    """Return the contents of the files, and the times of changes of the directories."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else path.stat().st_mtime_ns
        for path in [directory, *directory.rglob("*")]
    }


def test_header_of_the_run(imported):
    assert (imported.info.name, imported.info.project, imported.tags) == ("exp", "team/digits", ["kept"])
    assert imported.status == "success"
    assert imported.info.started > 1_700_000_000


def test_params(imported):
    params = {key: value for key, value in imported.params.items() if key != "sys"}
    assert params == {
        "lr": 0.1 + 0.2, "n": 3, "amp": True, "s": "späte", "since": samples.DAY.isoformat(), "deep": {"x": 1},
        "set": ["a", "b"],
    }  # fmt: skip
    assert isinstance(params["n"], int)


def test_series(imported):
    assert points(imported, "train/loss") == samples.LOSS
    assert points(imported, "train/neg") == [(step, time, -value) for step, time, value in samples.LOSS]
    assert [value for *_, value in points(imported, "halves")] == [1.0, 2.0, 3.0]
    assert [value for *_, value in points(imported, "halves/step")] == [0.5, 1.5]
    assert repr([points(imported, name)[0][2] for name in ("inf", "nan")]) == "[inf, nan]"
    assert "soon" not in imported.metrics


def test_texts_and_console(imported):
    assert [(text.step, text.time, text.data[0][0]) for text in imported.texts["notes"]] == samples.NOTES
    assert "a line" in [line for each in imported.console for line in each.text.split("\n")]


def test_histograms(imported):
    (counts,), (densities,) = imported.histograms["counts"], imported.histograms["densities"]
    assert (counts.step, counts.values.counts, counts.values.edges) == (1, [3, 4], [0.0, 1.0, 3.0])
    assert densities.values.counts == [0.5, 0.5]


def test_files(imported):
    found = {}
    for each in imported.artifacts:
        with open(each.path, "rb") as file:
            found[each.name] = file.read()
    assert found == {"model": samples.CHECKPOINT, "bytes": b"raw"}
    (picture,) = imported.media["pictures"]
    assert (picture.step, picture.path.read_bytes()) == (2, samples.PICTURE)


def test_data_that_is_left_out_is_named(logs, tmp_path, capsys):
    take(logs, tmp_path)
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert said == ["exp: left out: soon: it is a preview of a value that was still being computed"]


def test_a_database_in_use_is_read_with_its_log_and_not_changed(logs, tmp_path):
    shutil.copytree(logs, tmp_path / "logs")
    (database,) = tmp_path.rglob("*.sqlite3")
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        connection.execute("DELETE FROM run_operations WHERE sequence_id > 20")
        connection.commit()
        before = everything(tmp_path / "logs")
        assert any(name.endswith("-wal") for name in before)
        _, run = take(tmp_path / "logs", tmp_path / "runs")
        assert everything(tmp_path / "logs") == before
    connection.close()
    assert 0 < len(points(run, "train/loss")) < len(samples.LOSS)


def test_files_beside_a_database_that_was_moved(logs, tmp_path):
    shutil.copytree(logs, tmp_path / "logs")
    logs.rename(logs.with_name("elsewhere"))
    try:
        _, run = take(tmp_path / "logs", tmp_path / "runs")
    finally:
        logs.with_name("elsewhere").rename(logs)
    assert {each.name for each in run.artifacts} == {"model", "bytes"}


def make_long(path, rows=3000):
    """Repeat the metrics of a database until it has many pages."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute(
            "INSERT INTO run_operations (timestamp, operation_type, operation, operation_size_bytes) "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "SELECT timestamp, operation_type, operation, operation_size_bytes FROM n, run_operations "
            "WHERE sequence_id = 4",
            (rows,),
        )
    connection.close()


@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_a_truncated_database_is_imported_partly(logs, tmp_path, part, capsys):
    shutil.copytree(logs, tmp_path / "logs")
    (database,) = tmp_path.rglob("*.sqlite3")
    make_long(database)
    os.truncate(database, int(database.stat().st_size * part))
    status, run = take(tmp_path / "logs", tmp_path / "runs")
    err = capsys.readouterr().err
    assert status == 1
    assert f"left out: operations in {database.name}" in err
    assert "the file is damaged: database disk image is malformed" in err
    assert run.damaged == 0
    assert sum(map(len, run.metrics.values())) > 1000 * part


def test_a_damaged_page_loses_only_its_rows(logs, tmp_path, capsys):
    shutil.copytree(logs, tmp_path / "logs")
    (database,) = tmp_path.rglob("*.sqlite3")
    make_long(database)
    with open(database, "r+b") as file:
        file.seek(database.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))
    status, run = take(tmp_path / "logs", tmp_path / "runs")
    assert status == 1
    assert sum(map(len, run.metrics.values())) > 5000
    assert "the file is damaged" in capsys.readouterr().err


def test_a_damaged_message_is_counted(logs, tmp_path, capsys):
    shutil.copytree(logs, tmp_path / "logs")
    (database,) = tmp_path.rglob("*.sqlite3")
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("UPDATE run_operations SET operation = x'ff00ff' WHERE sequence_id = 4")
    connection.close()
    status, run = take(tmp_path / "logs", tmp_path / "runs")
    assert "left out: the operation 4: its content is damaged" in capsys.readouterr().err
    assert (status, len(points(run, "train/loss"))) == (1, len(samples.LOSS) - 1)


def test_an_impossible_time_is_counted(logs, tmp_path, capsys):
    change(logs, tmp_path, f"UPDATE run_operations SET timestamp = {1 << 60} WHERE sequence_id = 4")
    status, run = take(tmp_path / "logs", tmp_path / "runs")
    assert "the file is damaged: an operation is incomplete" in capsys.readouterr().err
    assert (status, len(points(run, "train/loss"))) == (1, len(samples.LOSS) - 1)


def test_a_damaged_upload_loses_only_its_file(logs, tmp_path, capsys):
    table = "file_upload_requests"
    change(
        logs, tmp_path,
        f"CREATE TABLE damaged AS SELECT destination, NULL AS source_path FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE damaged RENAME TO {table}",
    )  # fmt: skip
    status, run = take(tmp_path / "logs", tmp_path / "runs")
    assert "left out: model: the path of the file is unknown" in capsys.readouterr().err
    assert (status, run.artifacts, len(points(run, "train/loss"))) == (1, [], len(samples.LOSS))


def test_a_file_that_is_not_a_database_is_named(tmp_path, capsys):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "run_operations.sqlite3").write_bytes(b"SQLite format 3\0" + b"\0" * 50)
    assert cli.main(["import", "neptune", str(tmp_path / "logs"), "--dir", str(tmp_path / "runs")]) == 1
    assert "run_operations.sqlite3: not imported: nothing in it can be read" in capsys.readouterr().err
    assert not list((tmp_path / "runs").rglob("journal*"))


@pytest.mark.parametrize("number", [1 << 62, -(1 << 62)])
def test_large_gaps_in_numbers_are_skipped_quickly(logs, tmp_path, number):
    change(logs, tmp_path, f"UPDATE run_operations SET sequence_id = {number} WHERE sequence_id = 1")
    _, run = take(tmp_path / "logs", tmp_path / "runs")
    assert len(points(run, "train/loss")) == len(samples.LOSS)


def test_text_that_is_not_utf_8_is_imported(logs, tmp_path):
    change(logs, tmp_path, "UPDATE metadata SET project = CAST(x'ff41' AS TEXT)")
    _, run = take(tmp_path / "logs", tmp_path / "runs")
    assert len(points(run, "train/loss")) == len(samples.LOSS)


def test_a_view_is_not_read(logs, tmp_path):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i AS project, i AS run_id FROM n"
    change(logs, tmp_path, "DROP TABLE metadata", f"CREATE VIEW metadata AS {endless} WHERE i > 1")
    assert cli.main(["import", "neptune", str(tmp_path / "logs"), "--dir", str(tmp_path / "runs")]) == 0
    assert not list((tmp_path / "runs").rglob("journal*"))


def change(logs, tmp_path, *statements):
    """Change a copy of a database."""
    shutil.copytree(logs, tmp_path / "logs")
    (database,) = tmp_path.rglob("*.sqlite3")
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_other_databases_are_ignored(logs, tmp_path):
    shutil.copytree(logs, tmp_path / "logs")
    with sqlite3.connect(tmp_path / "logs" / "other.sqlite3") as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    connection.close()
    _, run = take(tmp_path / "logs", tmp_path / "runs")
    assert points(run, "train/loss") == samples.LOSS


def test_rows_are_read_in_order(logs):
    (database,) = logs.rglob("*.sqlite3")
    report = Report()
    numbers = [row.number for row in ScaleDatabase(database).rows(report.leave_out)]
    assert numbers == sorted(numbers)
    assert report.left_out == {}


def test_a_name_that_is_a_value_and_a_namespace_keeps_both(left_by_scale, tmp_path):
    status, run = take(left_by_scale / "scale_conflicts", tmp_path / "runs")
    assert status == 0
    params = {key: value for key, value in run.params.items() if key != "sys"}
    assert params.pop("k") is True
    assert params == {
        "bar": {"x": 1}, "bar.value": 4, "bar.value.value": 3, "foo": 1, "foo/y/z": 2, "foo/y": 3, "set": ["c"],
    }  # fmt: skip


def test_a_fork_names_its_parent(left_by_scale, tmp_path):
    assert cli.main(["import", "neptune", str(left_by_scale / "scale_forked"), "--dir", str(tmp_path)]) == 0
    forked, fork = sorted(map(read_run, tmp_path.rglob("journal.jsonl")), key=lambda run: run.info.name)
    assert "forked_from" not in forked.params
    assert fork.params["forked_from"] == {"run": forked.info.id, "step": 2}


@pytest.fixture(scope="module")
def resumed(left_by_scale):
    logs = left_by_scale / "scale_resumed" / "logs"
    assert len(list(logs.rglob("*.sqlite3"))) == 2
    return logs


def steps(run):
    return [(step, value) for step, _, value in points(run, "loss")]


def test_a_run_that_was_resumed(resumed, tmp_path):
    status, run = take(resumed, tmp_path)
    assert (status, run.info.name) == (0, "r-2")
    assert steps(run) == [(step, step / 3) for step in range(20)]


@pytest.mark.parametrize("is_partial", [False, True])
def test_a_copy_of_a_database_is_imported_once(resumed, tmp_path, capsys, is_partial):
    shutil.copytree(resumed, tmp_path / "project" / "a")
    shutil.copytree(resumed, tmp_path / "project" / "b")
    if is_partial:
        for database in (tmp_path / "project" / "a").rglob("*.sqlite3"):
            with sqlite3.connect(database) as connection:
                connection.execute("DELETE FROM run_operations WHERE sequence_id > 5")
            connection.close()
    status, run = take(tmp_path / "project", tmp_path / "runs")
    assert (status, steps(run)) == (0, [(step, step / 3) for step in range(20)])
    assert capsys.readouterr().out.count("skipped: it is a copy of ") == 2


def in_use(database):
    """Leave the log of a database beside it, as a killed process does."""
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS more (name TEXT)")
        connection.commit()
        for path in (database, database.with_name(database.name + "-wal")):
            shutil.copy(path, path.with_name(f"{path.name}.kept"))
    connection.close()
    for path in (database, database.with_name(database.name + "-wal")):
        path.with_name(f"{path.name}.kept").rename(path)


def test_a_database_with_a_log_is_copied_once_to_find_it_and_once_to_read_it(resumed, tmp_path, monkeypatch):
    shutil.copytree(resumed, tmp_path / "logs")
    for database in (tmp_path / "logs").rglob("*.sqlite3"):
        in_use(database)
    copied = []
    real = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", lambda *paths: copied.append(paths) or real(*paths))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    status, run = take(tmp_path / "logs", tmp_path / "runs")
    assert (status, len(steps(run))) == (0, 20)
    assert len([source for source, _ in copied if source.suffix == ".sqlite3"]) == 2 * 2
    assert not list(tmp_path.glob("rankzero-import-*"))


def test_a_database_that_changes_while_it_is_copied_is_copied_again(resumed, tmp_path, monkeypatch):
    shutil.copytree(resumed, tmp_path / "logs")
    first, _ = sorted((tmp_path / "logs").rglob("*.sqlite3"))
    in_use(first)
    copied = []
    real = shutil.copyfile

    def copy_while_it_is_written(source, target):
        real(source, target)
        copied.append(source.name)
        if len(copied) == 1:
            os.utime(source, ns=(1, 1))

    monkeypatch.setattr(shutil, "copyfile", copy_while_it_is_written)
    database = ScaleDatabase(first)
    assert database.runs()
    database.release()
    assert copied == [first.name, f"{first.name}-wal"] * 2
