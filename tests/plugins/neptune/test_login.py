"""The login to a Neptune server: checked at start, never stored; and the end of the hosted service."""

import base64
import os
import re

import pytest
from servers.neptune_mock.sessions import api_token

import rankzero
from rankzero.cli import app as cli
from rankzero.errors import ConfigError, TrackerUnavailableError
from rankzero.testing.faults import status
from rankzero_neptune import NeptuneLogger
from rankzero_neptune.options import END_OF_SERVICE, is_hosted

HOSTED = "https://app.neptune.ai"


def refused(message, tmp_path, **options):
    with pytest.raises(ConfigError, match=message) as raised:
        rankzero.start("neptune", dir=tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()
    return str(raised.value)


def test_a_wrong_token(server, here, monkeypatch, tmp_path):
    token = api_token(server.url, "wrong")
    monkeypatch.setenv("NEPTUNE_API_TOKEN", token)
    host = server.url.removeprefix("http://")
    said = refused(f"{host} refuses the Neptune API token: set NEPTUNE_API_TOKEN", tmp_path)
    assert token not in said
    assert len(server.requests) == 1


def test_no_token(server, here, monkeypatch, tmp_path):
    monkeypatch.delenv("NEPTUNE_API_TOKEN")
    said = refused("not logged in to Neptune: set NEPTUNE_API_TOKEN", tmp_path)
    assert END_OF_SERVICE in said
    assert server.requests == []


def test_an_invalid_token(server, here, monkeypatch, tmp_path):
    monkeypatch.setenv("NEPTUNE_API_TOKEN", "b64?")
    assert "b64?" not in refused("contains no server", tmp_path)


def test_no_project(server, here, monkeypatch, tmp_path):
    monkeypatch.delenv("NEPTUNE_PROJECT")
    refused(r"the Neptune project is not set .* NEPTUNE_PROJECT", tmp_path)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"NEPTUNE_PROJECT": "workspace/other"}, "AccessError: .*workspace/other"),
        ({"NEPTUNE_PROJECT": None}, "NEPTUNE_PROJECT"),
        ({"NEPTUNE_API_TOKEN": None}, "not logged in to Neptune"),
    ],
    ids=["no such project", "no project", "no token"],
)
def test_sync_reports_at_once_what_only_the_user_can_fix(server, here, monkeypatch, tmp_path, capsys, fault, message):
    with rankzero.start("csv", dir=tmp_path / "runs", delivery="off") as run:
        run.log_metrics({"loss": 0.5}, 0)
    for name, value in fault.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    assert cli.main(["sync", str(run.dir), "--to", "neptune", "--timeout", "600"]) != 0
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert server.count("projects/get") <= 1


def test_a_run_of_the_user_works_only_in_direct_use(server, make_logger, tmp_path):
    opened = make_logger()
    run = opened.run
    with pytest.raises(ConfigError, match=r"run=\.\.\. works only in direct use"):
        rankzero.start([NeptuneLogger(run=run)], dir=tmp_path / "runs")


def test_the_right_token_takes_one_request(server, here):
    NeptuneLogger().check_login()
    assert len(server.requests) == 1


def test_a_server_that_does_not_answer_raises_nothing(server, here):
    server.fail("oauth-token", status(500))
    NeptuneLogger().check_login()


@pytest.mark.parametrize("mode", ["offline", "debug"])
def test_the_login_is_not_checked_if_nothing_is_sent(server, here, monkeypatch, mode):
    monkeypatch.delenv("NEPTUNE_API_TOKEN")
    NeptuneLogger(mode=mode).check_login()
    assert server.requests == []


def test_the_token_is_in_no_file(server, here, tmp_path):
    token = os.environ["NEPTUNE_API_TOKEN"]
    with rankzero.start({"neptune": {"api_key": token}}, dir=tmp_path / "runs", delivery="thread") as run:
        run.log_metrics({"loss": 1.0}, step=0)
    files = [path for path in run.dir.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if token.encode() in path.read_bytes()] == []
    assert server.run(run.id).value("training/status") == "success"


# The hosted service


@pytest.mark.parametrize("token", [api_token(HOSTED, "key"), "ANONYMOUS"])
def test_a_token_of_the_hosted_service(here, monkeypatch, tmp_path, token):
    monkeypatch.setenv("NEPTUNE_API_TOKEN", token)
    said = refused("the API token is for app.neptune.ai", tmp_path)
    assert "ended on 5 March 2026" in said
    assert "rankzero import neptune" in said


def test_a_courier_reports_a_token_of_the_hosted_service(here, monkeypatch, run_info):
    monkeypatch.setenv("NEPTUNE_API_TOKEN", api_token("https://nowhere.neptune.ai.invalid", "key"))
    monkeypatch.setattr("rankzero_neptune.client.is_hosted", lambda url: "neptune.ai" in url)
    logger = NeptuneLogger()
    logger.attach(run_info)
    with pytest.raises(TrackerUnavailableError, match="ended on 5 March 2026"):
        logger.log_metrics({"loss": 1.0}, step=0)


def test_which_servers_are_the_hosted_service():
    assert is_hosted(HOSTED)
    assert is_hosted("https://neptune.ai")
    assert not is_hosted("https://neptune.example.com")
    assert not is_hosted("https://notneptune.ai")


@pytest.mark.parametrize("address", ['"http://[::1"', "null", "3", '"no-scheme.example"'])
def test_a_token_without_a_server(here, monkeypatch, tmp_path, address):
    token = base64.b64encode(f'{{"api_address": {address}}}'.encode()).decode()
    monkeypatch.setenv("NEPTUNE_API_TOKEN", token)
    refused("contains no server", tmp_path)
