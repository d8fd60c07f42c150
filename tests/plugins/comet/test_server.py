"""The Comet server of the tests, with the real SDK: what it stores is what was logged, and its faults are felt."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import requests
from servers.comet_server import CometServer
from waiting import A_WHILE

from rankzero.testing.faults import lost

KEY = "a" * 40
OTHER_KEY = "b" * 40
METRICS = "POST /clientlib/batch/logger/experiment/metric"
QUIET = ("log_code", "log_env_details", "log_git_metadata", "log_git_patch", "parse_args", "auto_output_logging")
BEGIN = f"""
    import comet_ml, json, numpy as np, sys
    def begin(key="{KEY}", mode="get_or_create", **options):
        config = comet_ml.ExperimentConfig(**{{**dict.fromkeys({QUIET}, False), **options}})
        return comet_ml.start(
            project_name="p", workspace="w", experiment_key=key, mode=mode, experiment_config=config
        )
"""


@pytest.fixture
def sdk(server, tmp_path):
    """Run code that logs with the SDK in a process of its own; return what it printed."""

    def run(code):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COMET_")}
        environment |= {**server.environment(tmp_path), "HOME": str(tmp_path)}
        command = [sys.executable, "-c", textwrap.dedent(BEGIN) + textwrap.dedent(code)]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=A_WHILE)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


@pytest.fixture
def connection(here, monkeypatch):
    """The client's own synchronous connection, in this process; it asks once and waits a second."""
    monkeypatch.setenv("COMET_HTTP_SESSION_RETRY_TOTAL", "0")
    monkeypatch.setenv("COMET_GET_OR_ADD_EXPERIMENT_RETRY_TOTAL", "0")
    monkeypatch.setenv("COMET_TIMEOUT_HTTP", "1")
    connection = connected()
    connection.add_run("p", "w", get_or_create_mode=True)
    yield connection
    connection.close()


def connected(key=KEY):
    from comet_ml.connection.connection_factory import get_rest_server_connection

    return get_rest_server_connection(os.environ["COMET_API_KEY"], key)


def send_metrics(connection, *values, step=0, time=1_234_567_890_123):
    """Send values of ``loss`` at consecutive steps."""
    from comet_ml.batch_utils import MessageBatchItem
    from comet_ml.messages import MetricMessage

    messages = [MetricMessage(timestamp=time) for _ in values]
    for number, (message, value) in enumerate(zip(messages, values, strict=True)):
        message.set_metric("loss", value, step + number)
    connection.log_metrics_batch([MessageBatchItem(message) for message in messages])


def rest_client():
    from comet_ml.connection.connection_factory import get_rest_api_client

    return get_rest_api_client("v2", api_key=os.environ["COMET_API_KEY"], check_version=False)


def test_an_experiment_that_is_there_or_not_is_refused_by_its_code(server, connection):
    from comet_ml.exceptions import ExperimentAlreadyUploaded, ExperimentNotFound

    with pytest.raises(ExperimentAlreadyUploaded, match=KEY):
        connection.add_run("p", "w")
    assert connection.add_run("p", "w", get_or_create_mode=True) == connection.get_run(KEY)
    with pytest.raises(ExperimentNotFound, match=OTHER_KEY):
        connection.get_run(OTHER_KEY)
    assert list(server.store.experiments) == [KEY]


def test_only_a_known_key_is_accepted(server, here, connection, monkeypatch):
    from comet_ml.exceptions import CometRestApiException, InvalidAPIKey, Unauthorized

    send_metrics(connection, 1.0)
    server.api_keys = {"another"}
    with pytest.raises(InvalidAPIKey):
        connection.add_run("p", "w", get_or_create_mode=True)
    with pytest.raises(CometRestApiException) as refusal:
        send_metrics(connection, 2.0)
    assert refusal.value.sdk_error_code == 90212
    with pytest.raises(Unauthorized):
        rest_client().get_experiment_tags(KEY)
    monkeypatch.setenv("COMET_API_KEY", "another")
    assert rest_client().get_experiment_tags(KEY) == {"tags": []}
    assert len(server.experiment(KEY).metrics) == 1


def test_what_is_no_json_is_refused(server, connection):
    from comet_ml.exceptions import CometRestApiException

    with pytest.raises(CometRestApiException, match="NaN is not JSON"):
        rest_client().log_experiment_metric(KEY, "loss", math.nan)
    assert server.experiment(KEY).metrics == []


def test_the_last_state_counts(server, connection):
    rest, experiment = rest_client(), server.experiment(KEY)
    connection.update_experiment_status(connection.run_id, connection.project_id, True)
    assert experiment.state == "running"
    rest.update_experiment_error_status(KEY, is_alive=False, error_value="killed", has_crashed=True)
    assert (experiment.state, experiment.errors) == ("crashed", ["killed"])
    rest.set_experiment_state(KEY, "finished")
    assert experiment.state == "finished"


def test_what_is_sent_twice_is_there_twice_unless_it_is_to_overwrite(server, connection, tmp_path):
    rest, experiment = rest_client(), server.experiment(KEY)
    for content in ("one", "two"):
        send_metrics(connection, 0.5)
        (tmp_path / "file").write_text(content)
        rest.log_experiment_asset(KEY, str(tmp_path / "file"), file_name="kept", ftype="asset")
        rest.log_experiment_asset(KEY, str(tmp_path / "file"), file_name="replaced", ftype="asset", overwrite=True)
    assert len(experiment.metrics) == 2
    assert [asset.content for asset in experiment.files("kept")] == [b"one", b"two"]
    assert [asset.content for asset in experiment.files("replaced")] == [b"two"]


def test_an_alias_moves_to_the_version_that_had_it_last(server, sdk, tmp_path):
    code = """
        experiment = begin()
        for number, aliases in enumerate([["latest", "best"], ["latest"]], start=1):
            with open("model", "w") as file:
                file.write(f"weights {number}")
            artifact = comet_ml.Artifact("model a", "model", aliases=aliases, metadata={"n": number})
            artifact.add("model", logical_path="folder/model", metadata={"of": number})
            artifact.add_remote("https://example.org/data", logical_path="data")
            experiment.log_artifact(artifact)
            experiment.flush()
        for alias in ("best", "latest"):
            experiment.get_artifact("model a", version_or_alias=alias).download(alias)
        found = experiment.get_artifact("model a:latest")
        (file,) = [asset for asset in found.assets if not asset.remote]
        print(json.dumps([str(found.version), sorted(found.aliases), found.metadata["n"], file.metadata]))
        experiment.end()
    """
    assert json.loads(sdk(code)) == ["2.0.0", ["latest"], 2, {"of": 2}]
    assert (tmp_path / "best" / "folder" / "model").read_text() == "weights 1"
    assert (tmp_path / "latest" / "folder" / "model").read_text() == "weights 2"
    version = server.artifact_version("model a:best", "w")
    assert (version.version, version.aliases, version.state) == ("1.0.0", ["best"], "CLOSED")
    assert version.files == {"folder/model": b"weights 1"}
    assert [(asset.name, asset.link) for asset in version.assets if asset.link] == [
        ("data", "https://example.org/data")
    ]


def test_an_artifact_that_is_not_complete_is_not_given_out(server, connection):
    from comet_ml.exceptions import CometRestApiException

    rest = rest_client()
    sent = rest.upsert_artifact("model", "model", experiment_key=KEY, aliases=["best"], version_tags=["t"]).json()
    wanted = {"name": "model", "version_or_alias": "best", "experiment_key": KEY}
    with pytest.raises(CometRestApiException) as refusal:
        rest.get_artifact_version_details(**wanted)
    assert refusal.value.sdk_error_code == 90403
    state = {"artifactVersionId": sent["artifactVersionId"], "experimentKey": KEY, "state": "CLOSED"}
    rest.post_from_endpoint("write/artifacts/state", state)
    assert rest.get_artifact_version_details(**wanted)["tags"] == ["t"]
    with pytest.raises(CometRestApiException) as refusal:
        rest.upsert_artifact("model", "model", experiment_key=KEY, version="1.0.0")
    assert refusal.value.sdk_error_code == 90399
    with pytest.raises(CometRestApiException) as refusal:
        rest.get_artifact_version_details(**{**wanted, "version_or_alias": "worst"})
    assert refusal.value.sdk_error_code == 624523


def test_the_public_api_reads_what_the_server_holds(server, sdk):
    code = """
        experiment = begin(name="named", tags=["a"])
        experiment.log_metrics({"loss": 0.5}, step=1, epoch=2)
        experiment.log_metrics({"loss": float("nan")}, step=2)
        experiment.log_parameters({"lr": 0.1})
        experiment.log_other("note", 1)
        with open("file", "wb") as file:
            file.write(bytes(range(256)))
        experiment.log_asset("file", "file.bin", metadata={"k": 1})
        experiment.end()
        found = comet_ml.API().get_experiment_by_key(experiment.id)
        (asset,) = [asset for asset in found.get_asset_list() if asset["fileName"] == "file.bin"]
        print(json.dumps({
            "name": found.name, "project": [found.workspace, found.project_name], "state": found.get_state(),
            "loss": [[row["metricValue"], row["step"], row["epoch"]] for row in found.get_metrics("loss")],
            "lr": found.get_parameters_summary("lr")["valueCurrent"], "tags": found.get_tags(),
            "note": found.get_others_summary("note"), "metadata": asset["metadata"],
            "bytes": list(found.get_asset(asset["assetId"])),
            "missing": comet_ml.API().get_experiment_by_key("c" * 40),
        }))
    """
    assert json.loads(sdk(code)) == {
        "name": "named",
        "project": ["w", "p"],
        "state": "finished",
        "loss": [["0.5", 1, 2], ["NaN", 2, 2]],
        "lr": "0.1",
        "tags": ["a"],
        "note": ["1"],
        "metadata": {"k": 1},
        "bytes": list(range(256)),
        "missing": None,
    }


def test_what_was_logged_offline_can_be_uploaded(server, sdk):
    code = f"""
        experiment = comet_ml.OfflineExperiment(project_name="p", experiment_key="{KEY}", display_summary_level=0)
        experiment.log_metric("loss", 0.5, step=3, epoch=1)
        experiment.log_parameter("lr", 0.1)
        with open("file", "w") as file:
            file.write("content")
        experiment.log_asset("file", "file.txt")
        experiment.end()
        from comet_ml.scripts import comet_upload
        comet_upload.main(["comet-offline/{KEY}.zip"])
    """
    sdk(code)
    experiment = server.experiment(KEY)
    assert [(metric.value, metric.step, metric.epoch) for metric in experiment.metrics if metric.name == "loss"] == [
        (0.5, 3, 1)
    ]
    assert (experiment.params["lr"], experiment.files("file.txt")[0].content) == (0.1, b"content")
    assert (experiment.offline, experiment.state) == (True, "finished")
    assert experiment.started <= experiment.metrics[0].time <= experiment.ended


def test_the_client_sends_twice_what_was_lost(server, connection, monkeypatch):
    """Not the server's doing: the client's own retries do not know that the first was kept."""
    monkeypatch.setenv("COMET_HTTP_SESSION_RETRY_TOTAL", "1")
    server.fail(METRICS, lost, times=1)
    send_metrics(connected(), 1.0)
    assert len(server.experiment(KEY).metrics) == 2


def test_what_the_server_does_not_understand_is_a_problem():
    with CometServer() as server:
        answer = requests.post(server.url + "no/such", json={}, headers={"Authorization": "key"}, timeout=A_WHILE)
        assert answer.status_code == 404
        assert server.problems == ["POST /clientlib/no/such: no such endpoint"]


def test_it_can_be_a_process_of_its_own(here, monkeypatch):
    command = [sys.executable, "-m", "servers.comet_server"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            monkeypatch.setenv("COMET_URL_OVERRIDE", process.stdout.readline().strip().partition("=")[2])
            connected().add_run("p", "w")
            assert rest_client().get_experiment_metadata(KEY)["projectName"] == "p"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=A_WHILE) == 0
        finally:
            process.kill()
