"""The mock of Comet's server, with the real SDK."""

import math
import os

import pytest
import requests
from servers.comet_server import CometServer
from waiting import A_WHILE

from rankzero.testing.faults import lost

KEY = "a" * 40
OTHER_KEY = "b" * 40
METRICS = "POST /clientlib/batch/logger/experiment/metric"


@pytest.fixture
def connection(here, monkeypatch):
    """The client's synchronous connection, without retries and with a timeout of a second."""
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


def test_refusals_have_codes(server, connection):
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


def test_invalid_json_is_refused(server, connection):
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


def test_data_sent_twice_is_stored_twice_unless_overwritten(server, connection, tmp_path):
    rest, experiment = rest_client(), server.experiment(KEY)
    for content in ("one", "two"):
        send_metrics(connection, 0.5)
        (tmp_path / "file").write_text(content)
        rest.log_experiment_asset(KEY, str(tmp_path / "file"), file_name="kept", ftype="asset")
        rest.log_experiment_asset(KEY, str(tmp_path / "file"), file_name="replaced", ftype="asset", overwrite=True)
    assert len(experiment.metrics) == 2
    assert [asset.content for asset in experiment.files("kept")] == [b"one", b"two"]
    assert [asset.content for asset in experiment.files("replaced")] == [b"two"]


def test_an_incomplete_artifact_is_not_returned(server, connection):
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


def test_the_client_resends_after_a_lost_response(server, connection, monkeypatch):
    """The client's retries cannot know that the first request was stored."""
    monkeypatch.setenv("COMET_HTTP_SESSION_RETRY_TOTAL", "1")
    server.fail(METRICS, lost, times=1)
    send_metrics(connected(), 1.0)
    assert len(server.experiment(KEY).metrics) == 2


def test_an_unknown_request_is_a_problem():
    with CometServer() as server:
        answer = requests.post(server.url + "no/such", json={}, headers={"Authorization": "key"}, timeout=A_WHILE)
        assert answer.status_code == 404
        assert server.problems == ["POST /clientlib/no/such: no such endpoint"]
