"""The Comet server of the tests, with the real SDK: what it stores is what was logged, and its faults are felt."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import requests
from PIL import Image
from servers.comet_mock.faults import refused
from servers.comet_server import CometServer
from waiting import A_WHILE

from rankzero.testing.loopback import dies, dropped, late, lost, stalled, status, truncated

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
EVERYTHING = """
    from PIL import Image
    with open("file.bin", "wb") as file:
        file.write(bytes(range(256)) * 3 + b"\\r\\n--\\r\\n")
    experiment = begin(auto_output_logging="simple", log_env_details=True, name="named", tags=["a", "b"])
    experiment.log_parameters({"lr": 0.1, "layers": [1, 2], "none": None, "nested": {"depth": 3}})
    for step, loss in enumerate([1 / 3, float("nan"), float("-inf"), float("inf")]):
        experiment.log_metric("loss", loss, step=step * 10, epoch=step)
    with experiment.validate():
        experiment.log_metric("loss", 7, step=5)
    experiment.log_other("note", "why")
    experiment.log_html("<b>one</b>")
    experiment.log_html("<i>two</i>")
    experiment.set_model_graph("a graph")
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    experiment.log_image(Image.fromarray(pixels), name="picture", step=4, metadata={"caption": "gray"})
    experiment.log_asset("file.bin", "folder/file.bin", step=7, metadata={"k": [1, "v"]})
    experiment.log_text("hello", step=8)
    experiment.log_table("table.csv", [[1, "x"], [2, "y"]], headers=["a", "b"])
    experiment.log_histogram_3d([1.0, 2.0], name="histogram", step=2)
    print("to the terminal")
    experiment.send_notification("Loss is NaN", "failed", {"look": "here"})
    experiment.end()
"""


@pytest.fixture
def sdk(server, tmp_path):
    """Run code that logs with the SDK in a process of its own; return what it printed."""

    def run(code, **more):
        return output_of(started(server, tmp_path, code, **more))

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


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """An experiment with all that can be logged, and when it was, in milliseconds."""
    directory, began = tmp_path_factory.mktemp("everything"), time.time()
    with CometServer() as server:
        output_of(started(server, directory, EVERYTHING))
        assert server.problems == []
        yield server.experiment(KEY), range(int(began * 1000), int(time.time() * 1000) + 1)


def started(server, directory, code, **more):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COMET_")}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BEGIN) + textwrap.dedent(code)],
        cwd=directory,
        env={**environment, "HOME": str(directory), **server.environment(directory), **more},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(process, returns=0):
    with process:
        output, errors = process.communicate(timeout=A_WHILE)
    assert process.returncode == returns, errors
    return output


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


def test_numbers_arrive_with_step_epoch_context_and_what_is_not_finite(everything):
    experiment, logged = everything
    *found, in_context = [metric for metric in experiment.metrics if metric.name == "loss"]
    assert [(metric.step, metric.epoch) for metric in found] == [(0, 0), (10, 1), (20, 2), (30, 3)]
    assert [metric.sent for metric in found] == [1 / 3, "NaN", "-Infinity", "Infinity"]
    assert math.isnan(found[1].value)
    assert (found[0].value, found[2].value, found[3].value) == (1 / 3, -math.inf, math.inf)
    assert all(metric.time in logged for metric in found)
    assert (in_context.context, in_context.step, in_context.value) == ("validate", 5, 7)


def test_params_tags_name_and_others_arrive(everything):
    experiment, _ = everything
    logged = {"lr": 0.1, "layers": [1, 2], "none": None, "nested|depth": 3}
    assert {name: experiment.params[name] for name in logged} == logged
    assert (experiment.name, experiment.others["note"]) == ("named", "why")
    assert sorted(experiment.tags) == ["a", "b"]
    assert (experiment.workspace, experiment.project) == ("w", "p")


def test_html_graph_and_output_arrive(everything):
    experiment, _ = everything
    assert experiment.html == "<b>one</b><i>two</i>"
    assert experiment.graph == "a graph"
    assert "to the terminal" in "".join(line.text for line in experiment.output if not line.stderr)


def test_an_image_arrives_with_its_pixels(everything):
    (image,) = everything[0].images
    assert Image.open(io.BytesIO(image.content)).tobytes() == bytes(range(48))
    assert (image.name, image.step, image.metadata) == ("picture", 4, {"caption": "gray"})


def test_files_arrive_byte_by_byte(everything):
    experiment, _ = everything
    (file,) = experiment.files("folder/file.bin")
    assert file.content == bytes(range(256)) * 3 + b"\r\n--\r\n"
    assert (file.type, file.step, file.metadata, file.overwrite) == ("asset", 7, {"k": [1, "v"]}, False)
    (table,) = experiment.files("table.csv")
    assert table.content.decode().split() == ["a,b", "1,x", "2,y"]
    by_type = {asset.type: asset for asset in experiment.assets}
    assert (by_type["text-sample"].content, by_type["text-sample"].step) == (b"hello", 8)
    assert json.loads(by_type["histogram3d"].content)["version"] == 2


def test_the_end_and_what_people_are_told_arrive(everything):
    experiment, _ = everything
    assert experiment.state == "finished"
    assert [beat.alive for beat in experiment.beats][:: len(experiment.beats) - 1] == [True, False]
    told = [(sent["title"], sent["status"]) for sent in experiment.notifications]
    assert told[0] == ("Loss is NaN", "failed")
    assert experiment.system_details["pythonVersion"] == sys.version.split()[0]


def test_a_killed_process_leaves_the_experiment_running(server, tmp_path):
    with started(server, tmp_path, "begin().log_metric('loss', 1, step=0); sys.stdin.read()") as process:
        server.until(lambda server: server.experiment(KEY).beats)
        process.send_signal(signal.SIGKILL)
    assert server.experiment(KEY).state == "running"


def test_another_process_goes_on_with_an_experiment(server, sdk):
    log = "experiment.log_metric('loss', {0}, step={0}); experiment.log_parameter('lr', {0}); experiment.end()"
    sdk("experiment = begin(mode='create');" + log.format(1))
    goes_on = "experiment = begin(mode='{}');"
    sdk(goes_on.format("get_or_create") + log.format(2) + "\n" + goes_on.format("get") + log.format(3))
    experiment = server.experiment(KEY)
    assert [(step, value) for step, value, _ in experiment.series("loss")] == [(1, 1), (2, 2), (3, 3)]
    assert [param.value for param in experiment.param_history if param.name == "lr"] == [1, 2, 3]
    assert experiment.params["lr"] == 3
    assert len(server.store.experiments) == 1


def test_an_experiment_that_is_there_or_not_is_refused_by_its_code(server, connection):
    from comet_ml.exceptions import ExperimentAlreadyUploaded, ExperimentNotFound

    with pytest.raises(ExperimentAlreadyUploaded, match=KEY):
        connection.add_run("p", "w")
    assert connection.add_run("p", "w", get_or_create_mode=True) == connection.get_run(KEY)
    with pytest.raises(ExperimentNotFound, match=OTHER_KEY):
        connection.get_run(OTHER_KEY)
    assert list(server.store.experiments) == [KEY]


def test_start_says_that_an_experiment_is_not_there(server, sdk):
    code = """
        try:
            begin(mode="get")
        except comet_ml.exceptions.ExperimentNotFound as error:
            print(error)
    """
    assert KEY in sdk(code)
    assert server.store.experiments == {}


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


def test_times_are_those_that_were_given(server, connection):
    send_metrics(connection, 0.5, math.nan, -math.inf, step=3, time=1_000_000_000_001)
    rest = rest_client()
    rest.log_experiment_other(KEY, "note", 1, timestamp=1.5)
    rest.log_experiment_html(KEY, "<b>", timestamp=2.5)
    rest.log_experiment_output(KEY, "one\ntwo\n", timestamp=3.5)
    rest.set_experiment_start_end(KEY, 4_000, 5_000)
    experiment = server.experiment(KEY)
    assert [(step, time) for step, _, time in experiment.series("loss")] == [
        (step, 1_000_000_000_001) for step in (3, 4, 5)
    ]
    assert [metric.sent for metric in experiment.metrics] == [0.5, "NaN", "-Infinity"]
    assert experiment.other_history[-1].time == 1_500
    assert experiment.pages[-1].time == 2_500
    assert [(line.text, line.time) for line in experiment.output] == [("one\n", 3_500), ("two\n", 3_500)]
    assert (experiment.started, experiment.ended) == (4_000, 5_000)


def test_what_is_no_json_is_refused(server, connection):
    from comet_ml.exceptions import CometRestApiException

    with pytest.raises(CometRestApiException, match="NaN is not JSON"):
        rest_client().log_experiment_metric(KEY, "loss", math.nan)
    assert server.experiment(KEY).metrics == []


def test_the_state_is_the_last_that_was_said(server, connection):
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


def test_the_public_api_tells_what_the_server_holds(server, sdk):
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


def test_many_threads_lose_nothing(server, here, connection):
    def work(number):
        own = connected()
        for _ in range(10):
            send_metrics(own, *[float(number)] * 25)
        own.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=A_WHILE)
    values = [metric.value for metric in server.experiment(KEY).metrics]
    assert {number: values.count(number) for number in range(4)} == dict.fromkeys(range(4), 250)


@pytest.mark.parametrize(
    ("fault", "felt", "stored"),
    [
        (status(500), "status code 500", 0),
        (status(429, retry_after="7"), "status code 429", 0),
        (refused(90210), "status code 400: refused", 0),
        (dropped, "Connection aborted", 0),
        (dies, "Connection aborted", 0),
        (stalled(60), "Read timed out", 0),
        (late(60), "Read timed out", 1),
        (lost, "Connection aborted", 1),
        (truncated, "Connection broken", 1),
    ],
    ids=["status", "throttled", "refused", "dropped", "dies", "stalled", "late", "lost", "truncated"],
)
def test_a_fault_is_felt_once_and_then_all_is_well(fault, felt, stored, server, connection):
    from comet_ml.exceptions import CometRestApiException

    server.fail(METRICS, fault, times=1)
    with pytest.raises((CometRestApiException, requests.RequestException), match=felt):
        send_metrics(connection, 1.0)
    assert len(server.experiment(KEY).metrics) == stored
    server.heal()
    if not server.is_running:
        server.start()
    send_metrics(connection, 2.0)
    assert [value for _, value, _ in server.experiment(KEY).series("loss")] == [1.0] * stored + [2.0]


def test_what_a_fault_says_reaches_the_client(server, connection):
    from comet_ml.exceptions import CometRestApiException

    server.fail(METRICS, status(429, "slow down", retry_after="7"))
    with pytest.raises(CometRestApiException, match="slow down") as failure:
        send_metrics(connection, 1.0)
    assert (failure.value.response.status_code, failure.value.response.headers["Retry-After"]) == (429, "7")
    server.heal()
    server.fail(METRICS, refused(7000020, "too many"))
    with pytest.raises(CometRestApiException, match="too many") as failure:
        send_metrics(connection, 1.0)
    assert failure.value.sdk_error_code == 7000020


def test_a_fault_strikes_only_the_requests_that_it_is_for(server, connection):
    server.fail(METRICS, status(500), times=1, body='"metricValue": 2.0')
    server.fail("log-other", status(500))
    send_metrics(connection, 1.0)
    with pytest.raises(Exception, match="500"):
        send_metrics(connection, 2.0)
    send_metrics(connection, 2.0)
    assert [metric.value for metric in server.experiment(KEY).metrics] == [1.0, 2.0]


def test_a_server_that_was_down_is_back_on_its_port_with_all_it_had(server, connection):
    send_metrics(connection, 1.0)
    url = server.url
    server.stop()
    with pytest.raises(requests.ConnectionError):
        send_metrics(connection, 2.0)
    server.start()
    assert server.url == url
    send_metrics(connection, 3.0)
    assert [metric.value for metric in server.experiment(KEY).metrics] == [1.0, 3.0]


def test_the_client_sends_twice_what_was_lost(server, connection, monkeypatch):
    """Not the server's doing: the client's own retries do not know that the first was kept."""
    monkeypatch.setenv("COMET_HTTP_SESSION_RETRY_TOTAL", "1")
    server.fail(METRICS, lost, times=1)
    send_metrics(connected(), 1.0)
    assert len(server.experiment(KEY).metrics) == 2


def test_every_request_is_recorded(server, connection):
    began = time.time()
    send_metrics(connection, *[1.0] * 1000)
    request = server.requests[-1]
    assert request.name == METRICS
    assert began <= request.time <= time.time()
    assert 100 < request.size < 100_000, "as it is on the wire, which is packed"
    assert (server.count(METRICS), server.count("logger/add/run")) == (1, 1)


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
