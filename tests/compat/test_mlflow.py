"""MLflow's own functions and servers with the tracking URI ``rankzero:``."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import urllib.request
from decimal import Decimal
from pathlib import Path

import mlflow
import numpy as np
import pytest
from integrations.reading import points
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from servers.mlflow_server import MlflowServer
from waiting import A_WHILE, until

import rankzero
from rankzero.compat.mlflow import tracking_store, writing
from rankzero.compat.mlflow.state import State, path_of, uri_of
from rankzero.rundir.finding import find_runs
from rankzero.rundir.layout import JOURNAL

URI = "rankzero:runs"


@pytest.fixture(autouse=True)
def here(undelivered, tmp_path, monkeypatch):
    """Log to an empty directory."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow.set_tracking_uri(f"rankzero:{tmp_path}/runs")
    yield
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


def run_of(run_id, project="default"):
    return rankzero.read_run(Path("runs", project, run_id))


def script(text, **environment):
    """Run a script in another process; return it when it has ended."""
    return subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, "MLFLOW_TRACKING_URI": URI, **environment},
        capture_output=True,
        text=True,
        timeout=A_WHILE,
        check=False,
    )


def test_data_of_mlflow_is_in_the_journal():
    tags = {"team": "vision", "best": "true"}
    experiment_id = mlflow.create_experiment("group/vision")
    with mlflow.start_run(None, experiment_id, "first", tags=tags, description="a note") as run:
        mlflow.log_params({"lr": 0.1, "depth": 3, "name": "007"})
        mlflow.log_metric("loss", 0.5, step=1, timestamp=1_700_000_000_123)
        mlflow.log_metrics({"loss": float("nan"), "acc": 1}, step=2)
        mlflow.log_text("hello", "notes/a.txt")
        mlflow.set_tag("late", 1)
    data = run_of(run.info.run_id, "group/vision")
    assert (data.status, data.info.name, data.info.notes) == ("success", "first", "a note")
    assert data.params == {"lr": 0.1, "depth": 3, "name": "007"}
    assert repr(points(data)) == "{'loss': [(1, 0.5), (2, nan)], 'acc': [(2, 1.0)]}"
    assert data.metrics["loss"].time[0] == 1_700_000_000.123
    assert data.tags == ["team=vision", "best", "late=1"]
    assert [(each.name, Path(each.path).read_text()) for each in data.artifacts] == [("notes/a.txt", "hello")]


def test_a_damaged_run_is_an_error_of_mlflow(tmp_path):
    run = MlflowClient().create_run(MlflowClient().create_experiment("e"))
    (tmp_path / "runs" / "e" / run.info.run_id / JOURNAL).write_text("damaged\n")
    mlflow.set_tracking_uri(f"rankzero:{tmp_path}/runs/")  # another store, which does not know the run
    with pytest.raises(MlflowException, match="no readable event"):
        MlflowClient().log_param(run.info.run_id, "lr", 0.1)
    with pytest.raises(MlflowException, match="no readable event"):
        MlflowClient().get_metric_history(run.info.run_id, "loss")


def test_steps_and_times_of_any_type_of_number_are_kept_as_ints():
    numbers = [3.0, 2.5, True, np.float32(4), np.int64(5), Decimal(6), math.nan]
    with mlflow.start_run() as run:
        for value, number in enumerate(numbers):
            mlflow.log_metric("step", value, step=number)
            mlflow.log_metric("time", value, timestamp=number if number == number else 1e18)
    history = MlflowClient().get_metric_history
    assert [each.step for each in history(run.info.run_id, "step")] == [3, 2, 1, 4, 5, 6, 0]
    times = [each.timestamp for each in history(run.info.run_id, "time")]
    assert times[:-1] == [3, 2, 1, 4, 5, 6]
    assert len(times) == len(numbers)


@pytest.mark.parametrize("number", [np.int64, np.float64, Decimal])
def test_a_run_begins_and_ends_at_times_of_any_type_of_number(number):
    client = MlflowClient()
    run_id = client.create_run("0", start_time=number(1_700_000_000_000)).info.run_id
    client.set_terminated(run_id, end_time=number(1_700_000_060_000))
    info = client.get_run(run_id).info
    assert (info.start_time, info.end_time) == (1_700_000_000_000, 1_700_000_060_000)
    assert type(info.start_time) is type(info.end_time) is int


def test_the_state_keeps_numbers_of_any_type(tmp_path):
    State(tmp_path).set("outputs", {"model": np.int64(3)})
    assert State(tmp_path)["outputs"] == {"model": 3}


def test_runs_are_delivered_to_the_configured_loggers(monkeypatch):
    monkeypatch.setenv("RANKZERO_DELIVERY", "process")
    monkeypatch.setenv("RANKZERO_LOGGERS", "csv")
    Path("model").mkdir()
    Path("model/weights.txt").write_text("1 2 3")
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 0.5, step=3)
        mlflow.log_artifacts("model", "kept/model")
        mlflow.log_artifacts("model")
    run_dir = Path("runs/default", run.info.run_id)
    with open(run_dir / "metrics.csv") as metrics, open(run_dir / "files.csv") as files:
        assert [(row["step"], row["loss"]) for row in csv.DictReader(metrics)] == [("3", "0.5")]
        assert [row["key"] for row in csv.DictReader(files)] == ["kept/model", "weights.txt"]


def test_params_that_name_secrets_are_masked_and_can_be_logged_again():
    with mlflow.start_run() as run:
        for _ in range(2):
            mlflow.log_param("api_key", "abc")
    assert run_of(run.info.run_id).params == {"api_key": "***"}
    tracking_store(mlflow.get_tracking_uri()).log_batch(
        run.info.run_id, [], [mlflow.entities.Param("api_key", "x")], []
    )


def test_artifacts_are_listed_loaded_and_downloaded(tmp_path):
    mlflow.set_tracking_uri(f"rankzero:{tmp_path}/odd%20name%20%231")
    with mlflow.start_run() as run:
        mlflow.log_dict({"a": 1}, "a b/config.json")
    client = MlflowClient()
    assert [each.path for each in client.list_artifacts(run.info.run_id)] == ["a b"]
    copied = client.download_artifacts(run.info.run_id, "a b", ".")
    assert json.loads(Path(copied, "config.json").read_text()) == {"a": 1}
    for uri in (run.info.artifact_uri, f"runs:/{run.info.run_id}"):
        assert mlflow.artifacts.load_dict(f"{uri}/a b/config.json") == {"a": 1}
    assert path_of(run.info.artifact_uri) == tmp_path / "odd name #1/default" / run.info.run_id / "artifacts"


def test_experiments_with_their_own_place_for_artifacts():
    experiment_id = mlflow.create_experiment("elsewhere", artifact_location=str(Path("files").absolute()))
    with mlflow.start_run(experiment_id=experiment_id) as run:
        mlflow.log_text("hello", "a.txt")
    assert Path("files", run.info.run_id, "artifacts/a.txt").read_text() == "hello"


@pytest.mark.slow
def test_sklearn_autolog_logs_the_same_as_to_mlflow(tmp_path, monkeypatch):
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    # MLflow loads each model in a new process, to list what it imports.
    monkeypatch.setattr(mlflow.models, "infer_pip_requirements", lambda *_, **__: ["scikit-learn"])
    x, y = load_iris(return_X_y=True)
    found = {}
    mlflow.sklearn.autolog(silent=True)
    try:
        for uri in (f"file:{tmp_path}/theirs", f"rankzero:{tmp_path}/runs"):
            mlflow.set_tracking_uri(uri)
            LogisticRegression(max_iter=200).fit(x, y).score(x, y)
            GridSearchCV(LogisticRegression(max_iter=200), {"C": [0.1, 1.0]}, cv=2).fit(x, y)
            runs = mlflow.search_runs(output_format="list", order_by=["attributes.start_time", "params.C"])
            found[uri.partition(":")[0]] = [
                (
                    {key: value for key, value in run.data.metrics.items() if not key.endswith("_time")},
                    run.data.params,
                    {key for key in run.data.tags if key != "mlflow.log-model.history"},
                    [(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs],
                    sorted(mlflow.get_logged_model(each.model_id).name for each in run.outputs.model_outputs),
                    sorted(each.path for each in MlflowClient().list_artifacts(run.info.run_id)),
                    run.info.status,
                )
                for run in runs
            ]
    finally:
        mlflow.sklearn.autolog(disable=True)
    assert len(found["rankzero"]) == 4
    assert found["rankzero"] == found["file"]
    (model,) = mlflow.search_logged_models(filter_string="name = 'best_estimator'", output_format="list")
    assert mlflow.sklearn.load_model(model.model_uri).predict(x[:2]).tolist() == [0, 0]
    assert [each.name for each in run_of(model.source_run_id).artifacts if each.kind == "model"] == [
        "model",
        "best_estimator",
    ]


def test_nested_runs_know_their_parent():
    with mlflow.start_run() as parent, mlflow.start_run(nested=True) as child:
        mlflow.log_metric("loss", 1)
    assert run_of(child.info.run_id).info.parent == parent.info.run_id
    query = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    assert [each.info.run_id for each in mlflow.search_runs(filter_string=query, output_format="list")] == [
        child.info.run_id
    ]


# Runs of several processes


@pytest.mark.slow
def test_a_killed_process_leaves_all_that_it_logged():
    killed = script(
        "import mlflow, os\n"
        "mlflow.start_run(run_name='killed')\n"
        "mlflow.log_param('lr', 0.1)\n"
        "for step in range(100): mlflow.log_metric('loss', step, step=step)\n"
        "mlflow.set_tag('team', 'vision')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (run,) = mlflow.search_runs(output_format="list")
    assert (run.info.status, run.data.params, run.data.tags["team"]) == ("FAILED", {"lr": "0.1"}, "vision")
    history = MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [each.step for each in history] == list(range(100))
    with mlflow.start_run(run_id=run.info.run_id):
        assert MlflowClient().get_run(run.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("loss", 100, step=100)
    (run,) = mlflow.search_runs(output_format="list")
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 100.0})
    assert len(run_of(run.info.run_id).metrics["loss"]) == 101


@pytest.mark.slow
def test_an_exception_that_ends_the_script_ends_the_run_as_failed():
    """MLflow would say FINISHED."""
    failed = script("import mlflow\nmlflow.start_run()\nmlflow.log_metric('loss', 1)\nraise ValueError")
    assert "ValueError" in failed.stderr
    (run,) = mlflow.search_runs(output_format="list")
    assert (run.info.status, run_of(run.info.run_id).status) == ("FAILED", "failed")


@pytest.mark.slow
def test_a_run_that_another_process_writes_can_be_tagged_and_renamed_and_gets_artifacts_but_no_metrics():
    writing = "import mlflow\nrun = mlflow.start_run()\nprint(run.info.run_id, flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", writing],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MLFLOW_TRACKING_URI": URI},
    ) as process:
        try:
            run_id, client = process.stdout.readline().strip(), MlflowClient()
            client.set_tag(run_id, "note", "seen")
            client.update_run(run_id, name="renamed")
            run = client.get_run(run_id)
            assert (run.info.status, run.info.run_name, run.data.tags["note"]) == ("RUNNING", "renamed", "seen")
            with pytest.raises(MlflowException, match="is being written by process"):
                client.log_metric(run_id, "loss", 1)
            client.log_text(run_id, "hello", "notes/a.txt")
            assert [(each.name, Path(each.path).read_text()) for each in run_of(run_id).artifacts] == [
                ("notes/a.txt", "hello")
            ]
        finally:
            process.communicate("\n")
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_client_without_an_active_run_logs_until_the_run_is_terminated():
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id
    client.log_metric(run_id, "loss", 1.0, step=4)
    assert run_of(run_id).status == "running"
    client.set_terminated(run_id, "FAILED")
    assert run_of(run_id).status == "failed"
    client.log_metric(run_id, "late", 2.0)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.metrics) == ("FAILED", {"loss": 1.0, "late": 2.0})
    client.set_terminated(run_id, "KILLED")
    assert (client.get_run(run_id).info.status, run_of(run_id).status) == ("KILLED", "aborted")


@pytest.mark.slow
def test_logging_after_the_end_of_a_run_keeps_its_status_and_is_delivered():
    ended = script(
        "import mlflow\n"
        "with mlflow.start_run() as run: mlflow.log_metric('loss', 1)\n"
        "ended = mlflow.get_run(run.info.run_id).info.end_time\n"
        "client = mlflow.MlflowClient()\n"
        "for step in range(3):\n"
        "    client.log_metric(run.info.run_id, 'late', step, step=step)\n"
        "    client.log_text(run.info.run_id, 'hello', f'{step}.txt')\n"
        "client.log_param(run.info.run_id, 'late', 1)\n"
        "assert client.get_run(run.info.run_id).info.end_time == ended\n"
        "raise ValueError",
        RANKZERO_DELIVERY="process",
        RANKZERO_LOGGERS="csv",
    )
    assert "ValueError" in ended.stderr
    assert "AssertionError" not in ended.stderr
    (run,) = mlflow.search_runs(output_format="list")
    data = run_of(run.info.run_id)
    assert (run.info.status, data.status, data.params) == ("FINISHED", "success", {"late": 1})
    assert len(data.artifacts) == 3
    with open(data.dir / "metrics.csv") as metrics, open(data.dir / "files.csv") as files:
        assert [row["late"] for row in csv.DictReader(metrics)] == ["", "0.0", "1.0", "2.0"]
        assert [row["key"] for row in csv.DictReader(files)] == ["0.txt", "1.txt", "2.txt"]


def test_a_run_that_is_resumed_just_after_something_was_logged_to_it_stays_open():
    with mlflow.start_run() as run:
        pass
    MlflowClient().log_metric(run.info.run_id, "late", 1)
    ending = writing._ending[path_of(run.info.artifact_uri).parent]
    with mlflow.start_run(run_id=run.info.run_id):
        ending.join()
        assert run_of(run.info.run_id).status == "running"


def test_an_incomplete_line_of_the_state_is_ignored(tmp_path):
    State(tmp_path).set("tags", {"a": "1", "b": "2"})
    with open(tmp_path / "mlflow.jsonl", "a") as file:
        file.write('["tags", "a", "br')
    State(tmp_path).set("tags", {"b": None, "c": "3"})
    assert State(tmp_path)["tags"] == {"a": "1", "c": "3"}


# Runs that MLflow did not start


def test_runs_of_rankzero_are_shown():
    with rankzero.start(
        project="p", name="ours", group="g", tags=["a"], notes="n", dir="runs", config={"x": {"y": 1}}
    ) as ours:
        ours.log_metrics({"loss": 0.5}, step=1)
        Path("file.txt").write_text("hello")
        ours.log_artifact("file.txt")
    client = MlflowClient()
    (run,) = mlflow.search_runs(experiment_names=["p"], output_format="list")
    assert (run.info.run_id, run.info.run_name, run.info.status) == (ours.id, "ours", "FINISHED")
    assert (run.data.metrics, run.data.params) == ({"loss": 0.5}, {"x/y": "1"})
    assert (
        run.data.tags.items()
        >= {"a": "true", "group": "g", "mlflow.note.content": "n", "mlflow.runName": "ours"}.items()
    )
    assert {"journal.jsonl", "media"} <= {each.path for each in client.list_artifacts(ours.id)}
    with pytest.raises(MlflowException, match="MLflow did not start"):
        client.log_artifact(ours.id, "file.txt")
    client.set_tag(ours.id, "seen", "yes")
    client.delete_run(ours.id)
    assert mlflow.search_runs(experiment_names=["p"], output_format="list") == []
    assert run_of(ours.id, "p").status == "success"


def test_a_renamed_run_of_rankzero_is_running_when_it_is_resumed():
    client, ours = MlflowClient(), rankzero.start(dir="runs")
    ours.finish()
    client.update_run(ours.id, name="renamed")
    assert client.get_run(ours.id).info.status == "FINISHED"
    with rankzero.start(dir="runs", run_id=ours.id):
        info = client.get_run(ours.id).info
        assert (info.status, info.end_time, info.run_name) == ("RUNNING", None, "renamed")


def test_a_run_that_is_just_beginning_is_left_out():
    Path("runs/default/beginning").mkdir(parents=True)
    Path("runs/default/beginning", JOURNAL).touch()
    assert mlflow.search_runs(output_format="list") == []
    with pytest.raises(MlflowException, match="no readable event"):
        MlflowClient().get_run("beginning")


def test_an_open_run_of_rankzero_can_be_logged_to():
    with rankzero.start(dir="runs") as ours:
        MlflowClient().log_metric(ours.id, "loss", 1.0, step=2)
    assert points(run_of(ours.id)) == {"loss": [(2, 1.0)]}


# Ranks, refusals, addresses


def test_other_ranks_log_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with mlflow.start_run(run_name="r", tags={"a": "b"}) as run:
        mlflow.log_metric("loss", 1)
        mlflow.log_param("lr", 1)
        mlflow.log_text("hello", "a.txt")
        assert mlflow.get_run(run.info.run_id).data.tags["a"] == "b"
    assert find_runs(Path("runs")) == []
    assert not Path("runs").exists()


def test_mlflow_as_a_logger_of_runs_in_mlflow_is_refused(monkeypatch):
    monkeypatch.setenv("RANKZERO_LOGGERS", "mlflow")
    monkeypatch.setenv("RANKZERO_DELIVERY", "process")
    with pytest.raises(MlflowException, match="cannot be delivered to it"):
        mlflow.start_run()
    assert find_runs(Path("runs")) == []


def test_unsupported_methods_are_refused():
    with pytest.raises(MlflowException, match=r"create_dataset\(\) needs a server of MLflow"):
        tracking_store(URI).create_dataset("d")
    assert mlflow.search_traces(return_type="list") == []


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("rankzero:///a/b", "/a/b"),
        ("rankzero:/a%20b", "/a b"),
        ("rankzero:runs/x", "runs/x"),
        ("rankzero:~/x", os.path.expanduser("~/x")),
        ("rankzero:", "rankzero-runs"),
    ],
)
def test_uris_name_directories(uri, path):
    assert path_of(uri) == Path(path).absolute()
    assert path_of(uri_of(path_of(uri))) == path_of(uri)


def test_uris_that_name_a_host_are_refused():
    with pytest.raises(MlflowException, match=r"names the host 'runs'.* write rankzero:runs/x or"):
        tracking_store("rankzero://runs/x")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose store is a directory of runs."""
    directory = tmp_path_factory.mktemp("server")
    server = MlflowServer(directory, backend=f"rankzero:{directory}/runs", RANKZERO_DELIVERY="off")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def with_server(server, monkeypatch):
    """Log to the directory of the server, without and with it."""
    monkeypatch.chdir(server.database.parent)
    mlflow.set_tracking_uri(f"rankzero:{server.database.parent}/runs")
    return server


@pytest.mark.slow
def test_a_server_answers_as_the_client_does(with_server):
    with mlflow.start_run(run_name="first") as run:
        mlflow.log_metrics({"loss": 0.5, "acc": 1.0}, step=2)
        mlflow.log_text("hello", "notes/a.txt")
    remote, local = MlflowClient(with_server.uri), MlflowClient()
    assert [dict(each) for each in remote.search_experiments()] == [dict(each) for each in local.search_experiments()]
    (found,) = remote.search_runs(["0"], "metrics.loss < 1")
    assert found.to_dictionary() == local.get_run(run.info.run_id).to_dictionary()
    assert [each.value for each in remote.get_metric_history(run.info.run_id, "loss")] == [0.5]
    assert [each.path for each in remote.list_artifacts(run.info.run_id)] == ["notes"]
    with urllib.request.urlopen(
        f"{with_server.uri}/get-artifact?run_uuid={run.info.run_id}&path=notes/a.txt", timeout=A_WHILE
    ) as answer:
        assert answer.read() == b"hello"
    remote.set_tag(run.info.run_id, "seen", "yes")
    assert local.get_run(run.info.run_id).data.tags["seen"] == "yes"
    assert (path_of(run.info.artifact_uri).parent / JOURNAL).exists()


@pytest.mark.slow
def test_a_client_logs_through_a_server_on_its_machine(with_server):
    ended = script(
        "import mlflow\n"
        "from sklearn.datasets import load_iris\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "mlflow.set_experiment('clients')\n"
        "mlflow.sklearn.autolog(silent=True)\n"
        "mlflow.models.infer_pip_requirements = lambda *_, **__: ['scikit-learn']\n"
        "x, y = load_iris(return_X_y=True)\n"
        "with mlflow.start_run(run_name='text'): mlflow.log_text('hello', 'a.txt')\n"
        "LogisticRegression(max_iter=200).fit(x, y).score(x, y)\n"
        "raise ValueError('the end')",
        MLFLOW_TRACKING_URI=with_server.uri,
    )
    assert "ValueError: the end" in ended.stderr
    fitted, text = mlflow.search_runs(experiment_names=["clients"], output_format="list")
    assert (fitted.info.status, text.info.status) == ("FINISHED", "FINISHED")
    assert [each.name for each in run_of(text.info.run_id, "clients").artifacts] == ["a.txt"]
    assert "LogisticRegression_score_x" in fitted.data.metrics
    names = {each.name for each in run_of(fitted.info.run_id, "clients").artifacts}
    assert names == {"estimator.html", "metric_info.json", "model", "training_confusion_matrix.png"}
    until(lambda: run_of(fitted.info.run_id, "clients").status == "success")
