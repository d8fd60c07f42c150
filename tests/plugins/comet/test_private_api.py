"""Private parts of Comet's client that the plugin uses: a test fails if a new version changes them.

Only `rankzero_comet.server` uses them.
"""

import inspect
import json
import os
import re
import traceback
from contextlib import closing
from importlib.metadata import version
from pkgutil import resolve_name

import pytest
from plugins.comet.journals import log_everything
from servers.comet_mock.faults import refused

import rankzero
import rankzero_comet.server as ours
from rankzero.errors import AccessError, TrackerUnavailableError
from rankzero.events.run_info import LogContext
from rankzero.testing.faults import status
from rankzero_comet import courier
from rankzero_comet.options import CometOptions
from rankzero_comet.server import ASSET, Server, Upload, Value

CHANGED = f"comet_ml {version('comet_ml')} differs from what rankzero_comet/server.py was written for: "
CALLS = {
    "connection_factory:get_rest_server_connection": ["api_key", "experiment_key", "server_address"],
    "connection_factory:get_rest_api_client": ["version", "server_address", "api_key", "check_version"],
    "connection_upload:send_file_like": [
        "post_endpoint",
        "file_like",
        "params",
        "headers",
        "timeout",
        "session",
        "metadata",
    ],
    "config:get_api_key": ["api_key", "config"],
    "config:get_backend_address": ["config"],
    "messages:MetricMessage": ["timestamp"],
    "messages:MetricMessage.set_metric": ["name", "value", "step", "epoch"],
    "messages:ParameterMessage": ["timestamp"],
    "messages:ParameterMessage.set_param": ["name", "value", "step", "source"],
    "messages:ParameterMessage.set_params": ["name", "values", "step", "source"],
    "batch_utils:MessageBatchItem": ["message"],
    "connection_api:RestServerConnection.add_run": ["project_name", "workspace", "get_or_create_mode"],
    "connection_api:RestServerConnection.get_run": ["previous_experiment"],
    "connection_api:RestServerConnection.update_experiment_status": ["run_id", "project_id", "is_alive"],
    "connection_api:RestServerConnection.log_metrics_batch": ["items"],
    "connection_api:RestServerConnection.log_parameters_batch": ["items"],
    "connection_api:RestServerConnection.get_upload_url": ["upload_type"],
    "connection_api:RestServerConnection.send_notification": ["title", "status", "experiment_name", "experiment_link"],
    "connection_api:RestApiClient.get_experiment_others_summaries": ["experiment_key"],
    "connection_api:RestApiClient.get_experiment_parameters_summaries": ["experiment_key"],
    "connection_api:RestApiClient.get_experiment_metrics_summaries": ["experiment_key"],
    "connection_api:RestApiClient.get_experiment_metric": ["experiment_key", "metric"],
    "connection_api:RestApiClient.get_experiment_asset_list": ["experiment_key", "asset_type"],
    "connection_api:RestApiClient.log_experiment_other": ["experiment_key", "key", "value", "timestamp"],
    "connection_api:RestApiClient.log_experiment_html": ["experiment_key", "html", "timestamp"],
    "connection_api:RestApiClient.log_experiment_output": ["experiment_key", "output", "stderr", "timestamp"],
    "connection_api:RestApiClient.set_experiment_state": ["experiment_key", "state"],
    "connection_api:RestApiClient.update_experiment_error_status": ["is_alive", "error_value", "has_crashed"],
    "connection_api:RestApiClient.set_experiment_start_end": ["experiment_key", "start_time", "end_time"],
    "connection_api:RestApiClient.upsert_artifact": ["artifact_name", "artifact_type", "experiment_key", "aliases"],
    "connection_api:RestApiClient.get_artifact_version_details": ["name", "version_or_alias", "experiment_key"],
    "connection_api:RestApiClient.get_artifact_files": ["workspace", "name", "version"],
    "connection_api:RestApiClient.post_from_endpoint": ["endpoint", "payload"],
    "connection_api:RestApiClient.set_experiment_git_metadata": ["user", "root", "branch", "parent", "origin"],
    "connection_api:RestApiClient.set_experiment_git_patch": ["git_patch"],
}  # fmt: skip
METHODS = [
    "add_experiment_tags", "set_experiment_model_graph", "get_experiment_asset", "set_experiment_hostname",
    "set_experiment_user", "set_experiment_command", "set_experiment_executable", "set_experiment_python_version",
    "set_experiment_pid", "set_experiment_installed_packages", "set_experiment_filename", "set_experiment_code",
]  # fmt: skip
SENT = {
    "POST /clientlib/logger/add/run": {"experimentKey", "projectName", "teamName", "getOrCreateEnabled"},
    "POST /clientlib/batch/logger/experiment/metric": {"experimentKey", "values"},
    "POST /clientlib/batch/logger/experiment/parameter": {"experimentKey", "values"},
    "POST /clientlib/status-report/update": {"experimentKey", "runId", "projectId", "is_alive"},
    "POST /clientlib/notification/experiment": {"experiment_key", "title", "additional_data"},
    "POST /api/rest/v2/write/experiment/log-other": {"experimentKey", "key", "value", "timestamp"},
    "POST /api/rest/v2/write/experiment/html": {"experimentKey", "html", "timestamp"},
    "POST /api/rest/v2/write/experiment/tags": {"experimentKey", "addedTags"},
    "POST /api/rest/v2/write/experiment/set-start-end-time": {"experimentKey", "startTimeMillis", "endTimeMillis"},
    "POST /api/rest/v2/write/experiment/update-status": {"experimentKey", "isAlive", "hasCrashed"},
    "POST /api/rest/v2/write/artifacts/upsert": {"experimentKey", "artifactName", "artifactType", "alias"},
    "POST /api/rest/v2/write/artifacts/state": {"experimentKey", "artifactVersionId", "state"},
}


def in_client(name):
    return resolve_name(f"comet_ml.connection.{name}" if name.startswith("connection_") else f"comet_ml.{name}")


@pytest.mark.parametrize("call", CALLS)
def test_methods_accept_these_arguments(call):
    accepted = inspect.signature(in_client(call))
    missing = [name for name in CALLS[call] if name not in accepted.parameters]
    assert missing == [], f"{CHANGED}{call} takes no {missing}, but {accepted}"


@pytest.mark.parametrize("name", METHODS)
def test_methods_exist(name):
    assert hasattr(in_client("connection_api:RestApiClient"), name), f"{CHANGED}RestApiClient has no {name}"


def test_constants_and_exceptions():
    from comet_ml import exceptions, messages

    assert messages.ParameterMessage.source_manual, CHANGED
    assert issubclass(exceptions.CometRestApiException, exceptions.CometException), CHANGED
    for error in (exceptions.InvalidAPIKey, exceptions.InvalidWorkspace, exceptions.ExperimentNotFound):
        assert issubclass(error, exceptions.CometException), CHANGED


def test_nothing_else_is_used():
    """New uses in the files must be tested here."""
    tested = {re.split("[:.]", call)[-1] for call in CALLS} | {*METHODS}
    used = set(re.findall(r"self\._(?:logs|rest|life)\.(\w+)", inspect.getsource(ours)))
    used |= set(re.findall(r'"(\w+_experiment_\w+)"', inspect.getsource(ours) + inspect.getsource(courier)))
    used |= {f"set_experiment_{name}" for name in re.findall(r'yield "(\w+)"', inspect.getsource(courier))}
    assert used - tested == {"_low_level_http_client", "low_level_api_client"}


@pytest.fixture
def spoken(server, here):
    with closing(Server(CometOptions({}), "k" * 32, "p")) as spoken:
        yield spoken


def test_no_connection_retries_by_itself(spoken, server):
    """Also not after a response with Retry-After."""
    server.fail("/", status(503, retry_after="3600"))
    for ask in (
        spoken.others,
        spoken.beat,
        lambda: spoken.write("set_experiment_pid", 1),
        lambda: Server(CometOptions({}), "k" * 32, "p"),
        lambda: Server(CometOptions({"mode": "get"}), "k" * 32, "p"),
    ):
        asked = len(server.requests)
        with pytest.raises(TrackerUnavailableError):
            ask()
        assert len(server.requests) == asked + 1, CHANGED + "it tries again"


def test_no_traceback_shows_the_key(server, here):
    """The text of the error of Comet's client, which is our error's cause, contains the key."""
    server.fail("logger/add/run", refused(90212))
    with pytest.raises(AccessError, match="refuses the API key") as refusal:
        Server(CometOptions({}), "k" * 32, "p")
    assert os.environ["COMET_API_KEY"] not in "".join(traceback.format_exception(refusal.value))


def test_what_goes_over_the_wire(server, here, tmp_path):
    sent = {}
    take = server.fault_for

    def watch(name, body):
        if body.startswith(b"{"):
            sent.setdefault(name.partition("?")[0], []).append(json.loads(body))
        return take(name, body)

    server.fault_for = watch
    with rankzero.start("comet", project="p", tags=["a"], dir=tmp_path / "runs", delivery="thread") as run:
        log_everything(run, tmp_path)
    for endpoint, fields in SENT.items():
        assert endpoint in sent, f"{CHANGED}nothing came to {endpoint}"
        for body in sent[endpoint]:
            assert fields <= set(body), f"{CHANGED}{endpoint} got {sorted(body)}"
    (batch,) = sent["POST /clientlib/batch/logger/experiment/metric"][:1]
    assert batch["values"][0].keys() == {"metricName", "metricValue", "step", "epoch", "context", "timestamp"}, CHANGED


def test_a_metrics_time_is_in_milliseconds_and_packed(spoken, server):
    bodies = []
    take = server.fault_for
    server.fault_for = lambda name, body: bodies.append(body) or take(name, body)
    spoken.log_metrics([Value("a", 0.5, 1_700_000_000_250, 3, 1)])
    (body,) = bodies
    assert server.requests[-1].size != len(body), CHANGED
    (value,) = json.loads(body)["values"]
    assert value["timestamp"] == 1_700_000_000_250, CHANGED


def test_a_refused_file_returns_a_response(spoken, server):
    """Comet's own upload ignores a 429; the function that is used here returns the response."""
    server.fail("asset/upload", status(429), times=1)
    with pytest.raises(TrackerUnavailableError, match=r"the file 'a.txt' was not accepted: Comet answered 429"):
        spoken.upload(Upload(b"a", ASSET, "a.txt", LogContext(0.0)), "i" * 32)
