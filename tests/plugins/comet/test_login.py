"""The login to Comet: checked at start, found like by Comet's client, and never stored."""

import base64
import json
import re

import pytest
from plugins.comet.journals import journal_of_rows
from plugins.comet.scripts import CometShell
from servers.comet_mock.faults import refused
from servers.comet_server import CometServer
from waiting import A_WHILE, SOON, until

import rankzero
from rankzero.cli import app as cli
from rankzero.errors import ConfigError
from rankzero.testing.faults import status
from rankzero_comet import options

KEY = "k3y" * 8 + "x"
WRONG = "wr0ng" * 5
RUN = "r" * 32
LOGS = f"""
    import sys, time
    began = time.monotonic()
    run = rankzero.start("comet", project="p", run_id="{RUN}")
    print(round(time.monotonic() - began, 1), "comet_ml" in sys.modules)
    run.log_metrics({{"loss": 0.5}}, 0)
    run.finish(timeout=0)
"""


@pytest.fixture
def server():
    with CometServer(api_keys=[KEY]) as server:
        yield server
        assert server.problems == []


@pytest.fixture
def train(server, here, monkeypatch, tmp_path):
    """Train as a user with an empty home, and with these variables of Comet's client."""
    from comet_ml.config import CONFIG_MAP

    for name in ("COMET_API_KEY", "COMET_URL_OVERRIDE", "COMET_CONFIG"):
        monkeypatch.delenv(name)
    # Comet's client caches the server in the key of another test.
    monkeypatch.setitem(CONFIG_MAP["comet.url_override"], "default", None)

    def train(variables, **given):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with rankzero.start(
            "comet", project="p", run_id=RUN, dir=tmp_path / "runs", **{"delivery": "thread", **given}
        ) as run:
            run.log_metrics({"loss": 0.5}, 0)

    return train


def check_arrived(server):
    stored = server.experiment(RUN)
    assert [metric.value for metric in stored.metrics] == [0.5]
    assert stored.state == "finished"


def check_nowhere(key, directory, *texts):
    """Check that a key is in no file of a run, and in no text."""
    files = [path for path in (directory / "runs").rglob("*") if path.is_file()]
    assert any(path.name == "journal.jsonl" for path in files)
    assert [path for path in files if key.encode() in path.read_bytes()] == []
    assert not any(key in text for text in texts)


# Refused


def test_without_login(server, train, tmp_path):
    with pytest.raises(
        ConfigError, match=r"not logged in to Comet: run `comet login`, .* COMET_API_KEY.* online=False"
    ):
        train({"COMET_URL_OVERRIDE": server.url})
    assert not (tmp_path / "runs").exists()
    assert server.requests == []


@pytest.mark.parametrize("how", ["environment", "option", "file"])
def test_a_wrong_key_is_found_before_anything_is_written(server, train, tmp_path, capfd, how):
    variables, given = {"COMET_URL_OVERRIDE": server.url}, {}
    if how == "environment":
        variables["COMET_API_KEY"] = WRONG
    elif how == "option":
        given["api_key"] = WRONG
    else:
        (tmp_path / ".comet.config").write_text(f"[comet]\napi_key = {WRONG}\n")
    host = server.url.split("/")[2]
    with pytest.raises(ConfigError, match=f"{host} refuses the Comet API key: run `comet login`") as refusal:
        train(variables, **given)
    assert WRONG not in str(refusal.value) + "".join(capfd.readouterr())
    assert not (tmp_path / "runs").exists()
    assert server.store.experiments == {}


# Found


def smart_key(url):
    """Return a key that contains its server, as in Comet's own installations."""
    return f"{KEY}*{base64.b64encode(json.dumps({'baseUrl': url}).encode()).decode()}"


@pytest.mark.parametrize("where", ["option", "home", "COMET_CONFIG", "smart", "dotenv"])
def test_where_the_key_is_found(server, train, tmp_path, monkeypatch, capfd, where):
    variables, given = {"COMET_URL_OVERRIDE": server.url}, {}
    if where != "dotenv":  # only Comet's client reads it
        monkeypatch.setattr(options, "_key_known_to_client", lambda: pytest.fail("Comet's client was asked"))
    if where == "option":
        variables["MY_KEY"] = KEY
        given["api_key"] = "${MY_KEY}"
    elif where == "smart":
        key = smart_key(server.url.removesuffix("clientlib/"))
        server.api_keys.add(key)
        variables = {"COMET_API_KEY": key}
    elif where == "dotenv":
        (tmp_path / ".env").write_text(f"COMET_API_KEY={KEY}\n")
    else:
        path = tmp_path / (".comet.config" if where == "home" else "my.config")
        path.write_text(f"[comet]\napi_key = {KEY}\nurl_override = {server.url}\n")
        variables = {} if where == "home" else {"COMET_CONFIG": str(path)}
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")  # the directory is searched before the home
    train(variables, **given)
    check_arrived(server)
    check_nowhere(KEY, tmp_path, *capfd.readouterr())


# No answer


def test_training_continues_if_the_server_is_down_or_has_revoked_the_key(server, environment, tmp_path):
    """The text of the error of Comet's client contains the key."""
    shell = CometShell(tmp_path / "work", {**environment, "COMET_API_KEY": WRONG, "COMET_CONFIG": None})
    server.stop()
    ended = shell.train(LOGS)
    seconds, imported = ended.stdout.split()
    assert float(seconds) < SOON
    assert imported == "False"
    server.start()
    log = shell.run_dir / "courier.log"
    until(lambda: "refuses the API key" in log.read_text())
    assert "comet login" in log.read_text()
    check_nowhere(WRONG, shell.directory, *ended[1:])
    server.api_keys = {KEY, WRONG}
    server.until(lambda server: server.experiment(RUN).ended and not server.experiment(RUN).is_alive)
    check_arrived(server)
    check_nowhere(WRONG, shell.directory)


# Not needed


@pytest.mark.parametrize("variables", [{"COMET_START_ONLINE": "0"}, {"RANKZERO_DELIVERY": "off"}])
def test_no_login_is_needed_if_nothing_is_sent(server, train, variables):
    train({"COMET_URL_OVERRIDE": server.url, **variables}, delivery=None)
    assert server.requests == []


# Later


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (refused(90219, "no such team"), "AccessError: .*no workspace 'nowhere'"),
        (refused(7000011, "view only"), "AccessError: .*(?i:view.only)"),
        (refused(90212, "API key is not registered"), "AccessError: .*refuses the API key"),
        (status(401), "AccessError: .*answered 401"),
    ],
    ids=["workspace", "permission", "key", "401"],
)
def test_sync_reports_at_once_what_only_the_user_can_fix(server, here, tmp_path, capsys, fault, message):
    run_dir = journal_of_rows(tmp_path, {"loss": 0.5})
    server.fail("logger/add/run", fault)
    assert cli.main(["sync", str(run_dir), "--to", "comet", "-o", "workspace=nowhere", "--timeout", "60"]) == 1
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert server.count("logger/add/run") == 1


def test_sync_reports_a_missing_key_at_once(server, here, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COMET_API_KEY")
    run_dir = journal_of_rows(tmp_path, {"loss": 0.5})
    assert cli.main(["sync", str(run_dir), "--to", "comet", "--timeout", str(A_WHILE)]) == 2
    assert "not logged in to Comet" in " ".join(capsys.readouterr().err.split())
    assert server.requests == []
