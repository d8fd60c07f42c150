"""The MLflow run of a run: experiment, name, tags, script, parent."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from mlflow import MlflowClient
from plugins.mlflow.tracked import Held, runs_tagged
from waiting import A_WHILE

import rankzero
from rankzero.errors import AccessError, TrackerUnavailableError
from rankzero.testing.journals import JournalOf
from rankzero_mlflow import MLFlowLogger


@pytest.fixture
def client(store):
    return MlflowClient(f"sqlite:///{store}/mlflow.db")


def experiment_of(logger):
    return Held(logger).client.get_experiment(logger.experiment_id).name


# The experiment


def test_which_experiment(make_logger, run_info, monkeypatch):
    def experiment(*args, attached=False):
        logger = make_logger(*args)
        if attached:
            logger.attach(run_info)
        logger.log_metrics({"a": 1})
        return experiment_of(logger)

    assert experiment() == "lightning_logs"
    assert experiment(attached=True) == "p"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from-environment")
    assert experiment(attached=True) == "from-environment"
    assert experiment("given", attached=True) == "given"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    assert experiment("given") == "given"
    assert experiment() == "Default"


def test_a_sync_in_another_shell_has_the_same_destination(monkeypatch, mlflow_server, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the first shell")
    with rankzero.start("mlflow", dir=tmp_path, delivery="off") as run:
        run.log_metrics({"loss": 0.5}, 0)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    command = [sys.executable, "-m", "rankzero.cli.app", "sync", run.dir]
    subprocess.run(command, capture_output=True, timeout=A_WHILE, check=True)
    client = MlflowClient(mlflow_server.uri)
    (found,) = runs_tagged(client, run.id)
    assert client.get_experiment(found.info.experiment_id).name == "of the first shell"
    assert found.data.metrics == {"loss": 0.5}


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://me:secret@127.0.0.1:1", None),
        ("sqlite:///a.db", "sqlite:///{}/a.db"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
    ],
)
def test_which_address_of_the_environment_is_recorded(monkeypatch, tmp_path, uri, kept):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert MLFlowLogger().resolved_options().get("tracking_uri") == (kept and kept.format(tmp_path))


def test_the_environment_is_read_when_the_logger_is_made(monkeypatch, mlflow_server, make_logger, tmp_path):
    before = make_logger()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    assert before.tracking_uri.startswith("sqlite:///")
    logger = make_logger(save_dir=None, tracking_uri=None)
    assert (logger.tracking_uri, logger.save_dir) == (mlflow_server.uri, None)
    logger.log_metrics({"a": 1}, 0)
    assert Held(mlflow_server.uri, logger.run_id).metrics == {"a": 1.0}
    assert make_logger(tracking_uri="sqlite:///other.db").tracking_uri == "sqlite:///other.db"


def test_where_the_database_is(make_logger, run_info, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", str(tmp_path))
    options = {"tracking_uri": None}
    assert make_logger(**options).tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert make_logger(**options, save_dir="logs").tracking_uri == f"sqlite:///{tmp_path}/logs/mlflow.db"
    assert make_logger(**options, save_dir="$PLACE/x").save_dir == str(tmp_path / "x")
    assert make_logger(**options, save_dir="~/x").save_dir == str(Path("~/x").expanduser())
    attached = make_logger(**options)
    attached.attach(run_info)
    assert attached.tracking_uri == f"sqlite:///{tmp_path}/runs/mlflow.db"


def test_where_artifacts_are(make_logger, store, tmp_path, client):
    assert Path.cwd() == tmp_path != store
    logger = make_logger("elsewhere", artifact_location=str(tmp_path / "elsewhere"))
    logger.log_text("a", ["value"], [["x"]])
    (path,) = Held(logger).files()
    assert (tmp_path / "elsewhere" / logger.run_id / "artifacts" / path).read_text() == "x"
    default = make_logger("default", tracking_uri=f"sqlite:///{store}/mlflow.db")  # in any working directory
    default.log_text("a", ["value"], [["x"]])
    (path,) = Held(default).files()
    assert (store / "mlartifacts" / default.run_id / "artifacts" / path).read_text() == "x"
    assert not (tmp_path / "mlruns").exists()
    client.create_experiment("existing", artifact_location=str(tmp_path / "existing"))
    assert Held(make_logger("existing")).info.artifact_uri.startswith(str(tmp_path / "existing"))


# The run


def test_options_that_describe_a_run(make_logger, run_info):
    tags = {"team": "vision", "year": 2026, "odd [tag]": "x"}
    logger = make_logger("e", "my run", tags=tags, description="The *first* try")
    logger.attach(msgspec.structs.replace(run_info, tags=("baseline", "größe"), group="sweep", notes="not shown"))
    logger.log_tags(["late", "[x]"])
    held = Held(logger)
    assert held.info.run_name == "my run"
    assert {key: held.tags[key] for key in ("team", "year", "odd :5B:tag:5D:", "group")} == {
        "group": "sweep",
        "team": "vision",
        "year": "2026",
        "odd :5B:tag:5D:": "x",
    }
    assert {tag for tag, value in held.tags.items() if value == "true"} == {"baseline", "größe", "late", ":5B:x:5D:"}
    assert held.tags["mlflow.note.content"] == "The *first* try"
    assert logger.tags == tags


def test_tags_that_describe_a_run(make_logger, run_info):
    script = str(Path(__file__))
    logger = make_logger()
    logger.attach(msgspec.structs.replace(run_info, notes="Notes", program=script))
    held = Held(logger)
    commit = subprocess.run(
        ["git", "-C", Path(__file__).parent, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert held.tags["rankzero.run_id"] == run_info.id
    assert held.tags["mlflow.note.content"] == "Notes"
    assert held.tags["mlflow.source.name"] == script
    assert held.tags["mlflow.source.git.commit"] == commit.stdout.strip()
    assert held.tags["mlflow.user"]
    assert (held.info.run_name, held.info.start_time) == ("brave-owl", 1_700_000_000_000)


def test_a_description_that_is_too_long_for_a_tag(make_logger):
    text = "word " * 4000
    logger = make_logger(description=text)
    with pytest.warns(UserWarning, match=r"tags/mlflow\.note\.content\.txt"):
        assert logger.version
    held = Held(logger)
    assert held.tags["mlflow.note.content"] == text[:5000]
    assert held.read("tags/mlflow.note.content.txt").decode() == text


def test_a_given_run(make_logger):
    first = make_logger()
    first.log_metrics({"a": 1}, 0)
    second = make_logger("another experiment", run_id=first.run_id)
    second.log_metrics({"a": 2}, 1)
    assert (second.experiment_id, second.version) == (first.experiment_id, first.version)
    assert [point[:2] for point in Held(first).points("a")] == [(0, 1.0), (1, 2.0)]


# Parents


@pytest.mark.slow
def test_a_parent_by_either_id(make_logger, run_info, tmp_path):
    parent = make_logger("e")
    parent.attach(run_info)
    for index, parent_id in enumerate([parent.run_id, run_info.id]):
        child = make_logger("e", parent_run_id=parent_id)
        child.attach(msgspec.structs.replace(run_info, id=f"child{index}"))
        assert Held(child).tags["mlflow.parentRunId"] == parent.run_id


def test_the_parent_of_a_run_is_found_at_its_end_if_not_before(make_logger, run_info):
    child, orphan = make_logger("e"), make_logger("e")
    child.attach(msgspec.structs.replace(run_info, id="child", parent=run_info.id))
    orphan.attach(msgspec.structs.replace(run_info, id="orphan", parent="never delivered here"))
    child.log_metrics({"a": 1}, 0)
    parent = make_logger("e")
    parent.attach(run_info)
    parent.log_metrics({"a": 1}, 0)
    later = make_logger("e")
    later.attach(msgspec.structs.replace(run_info, id="later", parent=run_info.id))
    assert Held(later).tags["mlflow.parentRunId"] == parent.run_id
    for logger in (child, orphan):
        logger.finalize("success")
    assert Held(child).tags["mlflow.parentRunId"] == parent.run_id
    assert Held(child).tags["parent"] == run_info.id
    assert "mlflow.parentRunId" not in Held(orphan).tags
    assert Held(orphan).tags["parent"] == "never delivered here"


def test_a_parent_whose_courier_comes_later(make_logger, run_info):
    child = make_logger("e", parent_run_id=run_info.id)
    child.attach(msgspec.structs.replace(run_info, id="child"))
    with pytest.raises(TrackerUnavailableError, match=run_info.id):
        child.log_metrics({"a": 1}, 0)
    parent = make_logger("e")
    parent.attach(run_info)
    parent.log_metrics({"a": 1}, 0)
    child.log_metrics({"a": 1}, 0)
    assert Held(child).tags["mlflow.parentRunId"] == parent.run_id
    assert len(runs_tagged(Held(child).client, "child")) == 1


# Deleted


def test_a_deleted_run_waits_to_be_restored(make_logger, attach, run_info, client):
    journal = JournalOf(run_info)
    journal.log_all([(0, {"a": 1.5})])
    journal.deliver(make_logger)
    run_id = journal.last.run_id
    client.delete_run(run_id)
    journal.log_all([(1, {"a": 2.5})], first=1)
    with pytest.raises(TrackerUnavailableError, match=f"mlflow runs restore --run-id {run_id}"):
        attach().log_metrics({"a": 2.5}, 1)
    client.restore_run(run_id)
    journal.deliver(make_logger)
    assert [point[:2] for point in Held(journal.last).points("a")] == [(0, 1.5), (1, 2.5)]
    assert len(runs_tagged(client, run_info.id)) == 1


def test_a_permanently_deleted_run_is_not_created_again(make_logger, attach, run_info, client):
    journal = JournalOf(run_info)
    journal.log_all([(0, {"a": 1.5})])
    journal.deliver(make_logger)
    client._tracking_client.store._hard_delete_run(journal.last.run_id)
    with pytest.raises(AccessError, match=r"deleted permanently.*delete .*mlflow\.runs\.json and then: .* --again"):
        attach().log_metrics({"a": 2.5}, 1)
    assert runs_tagged(client, run_info.id) == []
    Path(run_info.dir, "mlflow.runs.json").unlink()  # as the message says
    attach().log_metrics({"a": 2.5}, 1)
    assert len(runs_tagged(client, run_info.id)) == 1


def test_a_run_missing_in_a_search_is_not_created_again(attach, client):
    first = attach()
    first.log_metrics({"a": 1.5}, 0)
    client.delete_tag(first.run_id, "rankzero.run_id")
    assert attach().run_id == first.run_id


def test_a_run_that_is_deleted_while_it_is_written(attach, client):
    logger = attach()
    logger.log_metrics({"a": 1.5}, 0)
    client.delete_run(logger.run_id)
    with pytest.raises(TrackerUnavailableError, match="deleted in MLflow; restore it there"):
        logger.log_metrics({"a": 2.5}, 1)
    client.restore_run(logger.run_id)
    logger.log_metrics({"a": 2.5}, 1)
    assert [point[:2] for point in Held(logger).points("a")] == [(0, 1.5), (1, 2.5)]


def test_a_deleted_experiment(attach, client):
    experiment_id = client.create_experiment("p")
    client.delete_experiment(experiment_id)
    logger = attach()
    with pytest.raises(TrackerUnavailableError, match=f"mlflow experiments restore --experiment-id {experiment_id}"):
        logger.log_metrics({"a": 1.5}, 0)
    client.restore_experiment(experiment_id)
    logger.log_metrics({"a": 1.5}, 0)
    assert Held(logger).metrics == {"a": 1.5}


# At once


def test_a_run_opened_twice_at_once_is_created_once(attach, run_info, client, monkeypatch):
    create_run, loggers = MlflowClient.create_run, [attach() for _ in range(2)]

    def create_slowly(*args, **kwargs):
        time.sleep(0.5)
        return create_run(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_run", create_slowly)
    threads = [threading.Thread(target=logger.log_metrics, args=({"a": 1.0}, 0)) for logger in loggers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (run,) = runs_tagged(client, run_info.id)
    assert [logger.run_id for logger in loggers] == [run.info.run_id] * 2


LOG = """
import sys
from rankzero_mlflow import MLFlowLogger
MLFlowLogger(save_dir=sys.argv[1]).log_metrics({sys.argv[2]: 1.0}, 0)
"""


@pytest.mark.slow
def test_two_processes_start_at_once_without_a_database(tmp_path):
    store = tmp_path / "new" / "store"
    processes = [subprocess.Popen([sys.executable, "-c", LOG, str(store), name]) for name in ("a", "b")]
    assert [process.wait(A_WHILE) for process in processes] == [0, 0]
    runs = MlflowClient(f"sqlite:///{store}/mlflow.db").search_runs(["1"], order_by=["metrics.a"])
    assert [run.data.metrics for run in runs] == [{"a": 1.0}, {"b": 1.0}]
