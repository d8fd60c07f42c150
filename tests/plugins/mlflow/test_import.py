"""Import runs of MLflow from file stores, databases and servers, with the same data that MLflow's client reads."""

import math
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from plugins.mlflow import left
from plugins.mlflow.arrived import journal_of_everything, points_logged

import rankzero
from rankzero.errors import RankzeroError, RunNotFoundError
from rankzero.events.structs import Artifact, Table
from rankzero.importers.base import Report, SkipRun
from rankzero.importers.writing import Outcome, import_run
from rankzero.journal.tail import read_events
from rankzero.media.store import MediaStore
from rankzero.reader.run_data import LoggedFile, LoggedTable, LoggedText, read_run
from rankzero.rundir.layout import JOURNAL
from rankzero.testing import ImporterContract
from rankzero.testing.faults import dropped
from rankzero.testing.proxy import FaultyProxy
from rankzero_mlflow import MLFlowLogger
from rankzero_mlflow.importing.importer import MlflowImporter
from rankzero_mlflow.importing.run import parsed


class _Contract(ImporterContract):
    uri = ""

    def make_importer(self):
        return MlflowImporter()

    def make_source(self, directory):
        shutil.copytree(left.left_in(self.uri), directory, dirs_exist_ok=True)
        return "."

    def grow_source(self, directory):
        left.go_on(self.uri.replace("///", f"///{directory}/") if "///" in self.uri else directory / self.uri)


class TestFileStore(_Contract):
    uri = "mlruns"


class TestDatabase(_Contract):
    uri = "sqlite:///mlflow.db"


@pytest.fixture(scope="module")
def file_store():
    return left.left_in("mlruns") / "mlruns"


@pytest.fixture(scope="module")
def database():
    return left.left_in("sqlite:///mlflow.db") / "mlflow.db"


@pytest.fixture(scope="module")
def on_server(mlflow_server, tmp_path_factory):
    left.left_at(mlflow_server.uri, tmp_path_factory.mktemp("client"))
    return mlflow_server.uri


@pytest.fixture(scope="module", params=["file_store", "database", "on_server"])
def source(request):
    """The store with all runs, which tests must not change."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def imported(source, tmp_path_factory):
    """Name → run."""
    return {run.info.name: run for run in take(source, tmp_path_factory.mktemp("runs"))}


def take(source, runs, outcome=Outcome.NEW, left_out=(), **options):
    """Import the runs of the experiment; return the written runs."""
    taken = []
    for found in MlflowImporter(**options).find([str(source)]):
        if found.project == "digits":
            result = import_run(found, runs, "digits")
            assert result.outcome is outcome
            assert [what for what, _ in result.report.left_out] == list(left_out)
            taken.append(read_run(result.info.dir))
    return taken


def points(run):
    return sorted(
        (name, round(time * 1000), step, repr(value))
        for name, series in run.metrics.items()
        for time, step, value in zip(*(each.tolist() for each in (series.time, series.step, series.value)), strict=True)
    )


def as_text(logged):
    return sorted((name, time, step, repr(value)) for name, time, step, value in logged)


def uri_of(source):
    return f"sqlite:///{source}" if str(source).endswith(".db") else source


@pytest.mark.slow
def test_metrics_are_those_that_the_client_reads(source, imported):
    run = imported["brave try"]
    with left.client_of(uri_of(source)) as client:
        there = client.get_run(run.info.id)
        read = [each for name in there.data.metrics for each in client.get_metric_history(run.info.id, name)]
    largest = sys.float_info.max  # stands for infinity in databases
    values = [math.copysign(math.inf, each.value) if abs(each.value) == largest else each.value for each in read]
    assert points(run) == sorted(
        (each.key, each.timestamp, each.step, repr(value)) for each, value in zip(read, values, strict=True)
    )
    assert set(points(run)) == set(as_text(left.POINTS + left.SAME + left.ODD))
    assert run.info.started == there.info.start_time / 1000


def test_points_of_one_step_and_time_are_one_event(imported):
    lines = (imported["child"].dir / "journal.jsonl").read_text().splitlines()
    assert sum('"type":"metrics"' in line for line in lines) == len(left.POINTS)
    assert (imported["child"].metrics["loss"].step == range(len(left.POINTS))).all()


def test_params_tags_notes_and_datasets_arrive(imported):
    run = imported["brave try"]
    about = run.params.pop("mlflow")
    assert run.params == {"lr": 0.1, "layers": [64, 10], "model": {"name": "net"}, "text": "1e-3"}
    assert about["tags"]["team"] == "a"
    assert "mlflow.user" in about["tags"]
    (dataset,) = about["datasets"].values()
    assert (dataset["name"], dataset["context"]) == ("data", "train")
    assert (run.tags, run.info.notes, run.info.project) == (["kept"], "why not", "digits")


def test_a_nested_run_has_a_parent(imported):
    parent, child = imported["brave try"], imported["child"]
    assert (child.info.parent, child.info.group, parent.info.parent) == (parent.info.id, None, None)
    assert (parent.status, child.status) == ("success", "aborted")


def test_artifacts_become_media_models_and_files(imported):
    run = imported["brave try"]
    (picture,) = run.media["pictures/cat"]
    assert (picture.step, picture.path.read_bytes()[:4]) == (2, b"\x89PNG")
    assert run.tables["tables/some"][0].read() == (["a", "b"], [[1, "x"], [2, None]])
    text, model = sorted(run.artifacts, key=lambda each: each.kind or "")
    assert (text.name, Path(text.path).read_text()) == ("notes/hello.txt", "hello")
    assert (model.name, model.kind, model.aliases) == ("echo", "model", ["champion"])
    (version,) = model.metadata["versions"]
    assert (version["name"].partition("-")[0], version["version"]) == ("echoes", "1")
    assert {"MLmodel", "python_model.pkl"} <= {each.name for each in Path(model.path).iterdir()}


def test_deleted_runs_are_left_out_and_counted(source):
    with pytest.raises(SkipRun, match=r"^\d deleted run"):
        MlflowImporter().find([source])[-1].header()


def test_later_points_with_earlier_times_are_imported_from_a_server(on_server, tmp_path):
    with left.client_of(on_server) as client:
        experiment = client.create_experiment("later")
        run = client.create_run(experiment).info.run_id
        left.log_points(client, run, left.POINTS + left.ODD)
        take_it(on_server, tmp_path, "later", Outcome.NEW)
        left.log_points(client, run, left.LATE)
        client.log_text(run, "later", "later.txt")
        client.set_terminated(run)
    whole = take_it(on_server, tmp_path, "later", Outcome.APPENDED)
    assert points(whole) == as_text(left.POINTS + left.ODD + left.LATE)
    assert ([each.name for each in whole.artifacts], whole.status) == (["later.txt"], "success")
    take_it(on_server, tmp_path, "later", Outcome.UNCHANGED)


def take_it(source, runs, project, outcome):
    (found,) = [each for each in MlflowImporter().find([str(source)]) if each.project == project]
    result = import_run(found, runs, project)
    assert result.outcome is outcome
    return read_run(result.info.dir)


def test_the_next_import_retries_a_server_that_failed(on_server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with FaultyProxy(on_server) as proxy:
        found = [each for each in MlflowImporter().find([proxy.url]) if each.project == "digits"]
        done = import_run(found[0], tmp_path / "runs", "digits")
        proxy.fail("", dropped)
        with pytest.raises(RankzeroError):
            import_run(found[1], tmp_path / "runs", "digits")
        proxy.heal()
        again = [each for each in MlflowImporter().find([proxy.url]) if each.project == "digits"]
        outcomes = [import_run(each, tmp_path / "runs", "digits").outcome for each in again]
    assert done.outcome is Outcome.NEW
    assert outcomes == [Outcome.UNCHANGED, Outcome.NEW]


def content(logged):
    """Return the fields that a logged item and its import have in common."""
    match logged:
        case LoggedFile():
            return logged.kind, logged.step, logged.path.read_bytes()
        case LoggedTable():
            return logged.step, logged.read()
        case LoggedText():
            return logged.step, logged.columns, logged.data
    return logged.step, logged.values


@pytest.mark.filterwarnings("ignore:MLflow refuses the name", "ignore:the param 'long' is whole in")
def test_a_run_that_rankzero_delivered_gives_the_logged_data(store, tmp_path):
    original = journal_of_everything(tmp_path)
    rankzero.deliver(original, MLFlowLogger(save_dir=store))
    (found,) = MlflowImporter().find([str(store)])
    run = read_run(import_run(found, tmp_path / "back", "back").info.dir)
    before = read_run(original)
    names = {name: name.replace(":5B:", "[").replace(":5D:", "]") for name, *_ in points_logged(original)}
    logged = [(names[name], time, step, value) for name, step, time, value in points_logged(original)]
    assert points(run) == as_text(logged)
    assert run.params.pop("mlflow")["tags"]["rankzero.run_id"] == before.info.id
    assert run.params == {**before.params, "long": "x" * 6000}
    assert (sorted(run.tags), run.info.name, run.status) == (["early", "late"], before.info.name, before.status)
    assert run.definitions["val/loss"].summary == "min"
    for kind in ("media", "tables", "texts", "histograms"):
        ours, theirs = ({key: [*map(content, each)] for key, each in getattr(of, kind).items()} for of in (before, run))
        assert ours == theirs


@pytest.fixture
def damaged(file_store, tmp_path):
    """A copy of the file store."""
    store = tmp_path / "mlruns"
    shutil.copytree(file_store, store)
    return store


def directory_of(store, name):
    (found,) = (path.parents[1] for path in store.glob("*/*/tags/mlflow.runName") if path.read_text() == name)
    return found


def test_a_run_without_its_description_is_imported(damaged, tmp_path):
    parent, child = (directory_of(damaged, name) for name in ("brave try", "child"))
    (parent / "meta.yaml").unlink()
    (child / "meta.yaml").write_text("start_time: !!python/object/apply:os.abort []")
    for name in ("0", "1"):
        (parent.parent / (name * 32) / "metrics").mkdir(parents=True)
    runs = {run.info.name: run for run in take(damaged, tmp_path / "runs", left_out=["meta.yaml"])}
    assert set(points(runs["brave try"])) == set(as_text(left.POINTS + left.SAME + left.ODD))
    assert points(runs["child"]) == as_text(left.POINTS + left.SAME)
    assert [run.info.started for run in runs.values()] == [left.POINTS[0][1] / 1000] * 2
    assert [run.status for run in runs.values()] == ["aborted"] * 2


@pytest.mark.parametrize("before", ["status", "000", "run_name"])
def test_a_truncated_description_is_ignored(damaged, tmp_path, before):
    run = directory_of(damaged, "brave try")
    shutil.rmtree(run / "metrics")
    for path in filter(Path.is_file, run.rglob("*")):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    meta = run / "meta.yaml"
    meta.write_text("run_name: brave t\nstart_time: 1700000000000\nstatus: 3\n".partition(before)[0])
    (found,) = MlflowImporter().find([str(run)])
    result = import_run(found, tmp_path / "runs", "digits")
    assert list(result.report.left_out) == [
        ("meta.yaml", "it is damaged, so it is not known how and when the run ended")
    ]
    logged = read_run(result.info.dir)
    assert (logged.info.name, logged.info.started, logged.status) == ("brave try", 1_700_000_000, "aborted")


def test_artifacts_have_times_within_those_of_the_run(damaged, tmp_path):
    run = directory_of(damaged, "brave try")
    meta = run / "meta.yaml"
    lines = [line for line in meta.read_text().splitlines() if not line.startswith(("start_time", "end_time"))]
    meta.write_text("\n".join([*lines, "start_time: 1700000000000", "end_time: 1900000000000", ""]))
    for modified in (1_600_000_000, 2_000_000_000):
        for path in filter(Path.is_file, damaged.rglob("*")):
            os.utime(path, (modified, modified))
        (found,) = MlflowImporter().find([str(run)])
        result = import_run(found, tmp_path / str(modified), "digits")
        events = [event for _, event in read_events(Path(result.info.dir, JOURNAL))]
        times = {event.time for event in events if isinstance(event, Artifact | Table)}
        assert times == {min(max(modified, 1_700_000_000), 1_900_000_000)}


def test_lines_that_are_not_points_are_left_out(damaged, tmp_path):
    child = directory_of(damaged, "child")
    with open(child / "metrics" / "loss", "a") as file:
        file.write("no point\n99999999999999999 1.0 1\n1700000100000 0.5 4")
    (found,) = MlflowImporter().find([str(child)])
    result = import_run(found, tmp_path / "runs", "digits")
    assert points(read_run(result.info.dir)) == as_text(left.POINTS + left.SAME)
    assert len(result.report.left_out) == 3
    with open(child / "metrics" / "loss", "a") as file:
        file.write("2\n")
    (found,) = MlflowImporter().find([str(child)])
    again = import_run(found, tmp_path / "runs", "digits")
    assert (again.outcome, again.values) == (Outcome.APPENDED, 1)


def test_links_do_not_lead_out_of_a_run(damaged, tmp_path):
    child = directory_of(damaged, "child")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("s3cr3t")
    (child / "params" / "a").symlink_to(secret / "key")
    (child / "artifacts" / "b").symlink_to(secret)
    (child / "artifacts" / "c").symlink_to(secret / "key")
    (child / "tags" / "d").symlink_to(secret / "key")
    (found,) = MlflowImporter().find([str(child)])
    result = import_run(found, tmp_path / "runs", "digits")
    assert {what for what, _ in result.report.left_out} == {"params/a", "tags/d", "b", "c"}
    assert not any(b"s3cr3t" in path.read_bytes() for path in Path(result.info.dir).rglob("*") if path.is_file())


@pytest.fixture
def changed(database, tmp_path):
    """Execute SQL in a copy of the database; return its path."""

    def change(*statements):
        path = tmp_path / "changed" / "mlflow.db"
        path.parent.mkdir()
        shutil.copy(database, path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for each in statements:
                connection.execute(each)
        return path

    return change


@pytest.mark.parametrize(
    ("uri", "why"),
    [("'/etc'", "not a directory of this run"), ("'s3://b/' || run_uuid || '/artifacts'", "from the address of the")],
)
def test_artifacts_that_are_elsewhere_are_named(changed, tmp_path, uri, why):
    path = changed(f"UPDATE runs SET artifact_uri = {uri}")
    for found in MlflowImporter().find([str(path)])[:2]:
        result = import_run(found, tmp_path / "runs", "digits")
        ((what, reason),) = result.report.left_out
        assert what == "artifacts"
        assert why in reason


def test_artifacts_that_were_moved_are_found(changed, database, tmp_path):
    path = changed("UPDATE runs SET artifact_uri = replace(artifact_uri, 'mlruns', 'gone')")
    shutil.copytree(database.parent / "mlruns", tmp_path / "moved")
    run = take(path, tmp_path / "runs", artifacts=str(tmp_path / "moved"))[0]
    assert "notes/hello.txt" in [each.name for each in run.artifacts]


def test_a_database_of_an_old_mlflow_is_refused_with_instructions(changed, tmp_path):
    path = changed("DROP TABLE metrics", "CREATE TABLE metrics (key, value, timestamp, run_uuid)")
    before = path.read_bytes()
    (found,) = MlflowImporter().find([str(path)])
    with pytest.raises(RankzeroError, match="mlflow db upgrade sqlite:///COPY"):
        import_run(found, tmp_path / "runs", "digits")
    assert path.read_bytes() == before


def test_a_process_that_writes_to_the_database_does_not_wait(changed, tmp_path):
    path = changed()
    found = MlflowImporter().find([f"sqlite:///{path}"])[0]
    found.header()
    for _ in found.events(MediaStore(tmp_path), Report()):
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
            connection.execute("UPDATE experiments SET last_update_time = 1")


def test_sources_without_runs_are_refused(tmp_path):
    for source in (tmp_path / "gone", tmp_path):
        with pytest.raises(RunNotFoundError):
            MlflowImporter().find([str(source)])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1), ("3", 3), ("-2", -2), ("1e-05", 1e-05), ("1e-5", "1e-5"), ("007", "007"), ("True", True),
        ("None", None), ("[1, 'a']", [1, "a"]), ("{'a': None}", {"a": None}), ("{1: 2}", "{1: 2}"), ("[1,2]", "[1,2]"),
        ("adam", "adam"), ("", ""), ("9" * 30, int("9" * 30)), ("[" * 1000, "[" * 1000), ("[__import__('os')]",) * 2,
    ],
)  # fmt: skip
def test_the_text_of_a_param_becomes_a_value_that_has_this_text(text, value):
    assert (parsed(text), type(parsed(text))) == (value, type(value))
