"""The login to Comet: checked before the first step, found where Comet's client finds it, and stored nowhere."""

import base64
import json
import re

import pytest
from plugins.comet.journals import journal_of_rows
from plugins.comet.scripts import CometShell
from servers.comet_mock.faults import refused
from servers.comet_server import CometServer
from waiting import A_WHILE, SOON, until

from rankzero.cli import app as cli
from rankzero.testing.faults import status

KEY = "k3y" * 8 + "x"
WRONG = "wr0ng" * 5
LOGS = """
    import os, sys, time
    began = time.monotonic()
    run = rankzero.start("comet", project="p", run_id="r" * 32{options})
    print(round(time.monotonic() - began, 1), "comet_ml" in sys.modules)
    run.log_metrics({{"loss": 0.5}}, 0)
    run.finish(timeout={timeout})
"""


def logs(options="", timeout=A_WHILE):
    return LOGS.format(options=options, timeout=timeout)


@pytest.fixture
def server():
    with CometServer(api_keys=[KEY]) as server:
        yield server
        assert server.problems == []


@pytest.fixture
def shell(tmp_path, environment):
    """A shell of a user whose home is empty, without settings of Comet's client."""
    unset = {"COMET_API_KEY": None, "COMET_URL_OVERRIDE": None, "COMET_CONFIG": None}
    return CometShell(tmp_path / "work", {**environment, **unset})


def check_arrived(server):
    stored = server.experiment("r" * 32)
    assert [metric.value for metric in stored.metrics] == [0.5]
    assert stored.state == "finished"


def check_nowhere(key, directory, *texts):
    """Check that a key stands in no file, nor in a text."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != "train.py"]
    assert any(path.name == "courier.log" for path in files)
    assert [path for path in files if key.encode() in path.read_bytes()] == []
    assert not any(key in text for text in texts)


# Refused


def test_nobody_is_logged_in(server, shell):
    ended = shell.train(logs(), returns=1, COMET_URL_OVERRIDE=server.url)
    assert "ConfigError: start(): not logged in to Comet: run `comet login`, or set COMET_API_KEY" in ended.stderr
    assert "online=False" in ended.stderr
    assert not (shell.directory / "runs").exists()
    assert server.requests == []


@pytest.mark.parametrize("how", ["environment", "option"])
def test_a_wrong_key_is_known_before_anything_is_written(server, shell, how):
    options = ', api_key=os.environ["MY_KEY"]' if how == "option" else ""
    variables = {"MY_KEY" if how == "option" else "COMET_API_KEY": WRONG, "COMET_URL_OVERRIDE": server.url}
    ended = shell.train(logs(options), returns=1, **variables)
    host = server.url.split("/")[2]
    assert f"ConfigError: start(): {host} refuses the Comet API key: run `comet login`" in ended.stderr
    assert WRONG not in ended.stderr + ended.stdout
    assert not (shell.directory / "runs").exists()
    assert server.store.experiments == {}


def test_a_key_that_is_revoked_later_is_nowhere_to_be_seen(server, shell):
    """Comet's client puts the whole key into the text of its error."""
    server.fail("account-details", status(500))
    ended = shell.train(logs(timeout=1), COMET_API_KEY=WRONG, COMET_URL_OVERRIDE=server.url)
    log = shell.run_dir / "courier.log"
    until(lambda: "refuses the API key" in log.read_text())
    assert "comet login" in log.read_text()
    check_nowhere(WRONG, shell.directory, *ended[1:])
    server.api_keys = {KEY, WRONG}
    until(lambda: server.store.experiments and server.experiment("r" * 32).state == "finished")
    check_nowhere(WRONG, shell.directory, *ended[1:])


# Found


def smart_key(url):
    """Return a key that names its server, as Comet makes them for its own installations."""
    return f"{KEY}*{base64.b64encode(json.dumps({'baseUrl': url}).encode()).decode()}"


@pytest.mark.parametrize("where", ["option", "home", "COMET_CONFIG", "smart", "dotenv"])
def test_where_the_key_is_found(server, shell, tmp_path, where):
    variables, options = {"COMET_URL_OVERRIDE": server.url}, ""
    if where == "option":
        variables["MY_KEY"] = KEY
        options = ', api_key="${MY_KEY}"'
    elif where == "smart":
        key = smart_key(server.url.removesuffix("clientlib/"))
        server.api_keys.add(key)
        variables = {"COMET_API_KEY": key}
    elif where == "dotenv":
        (shell.directory / ".env").write_text(f"COMET_API_KEY={KEY}\n")
    else:
        path = tmp_path / "home" / ".comet.config" if where == "home" else tmp_path / "my.config"
        path.write_text(f"[comet]\napi_key = {KEY}\nurl_override = {server.url}\n")
        variables = {} if where == "home" else {"COMET_CONFIG": str(path)}
    ended = shell.train(logs(options), **variables)
    check_arrived(server)
    assert ended.stdout.split()[1] == str(where == "dotenv")  # only Comet's client knows of that file
    (shell.directory / ".env").unlink(missing_ok=True)
    check_nowhere(KEY, shell.directory, *ended[1:])


def test_the_key_of_a_config_file_is_checked(server, shell, tmp_path):
    (tmp_path / "home" / ".comet.config").write_text(f"[comet]\napi_key = {WRONG}\nurl_override = {server.url}\n")
    ended = shell.train(logs(), returns=1)
    assert "refuses the Comet API key" in ended.stderr
    assert WRONG not in ended.stderr


# No answer


def test_a_server_that_is_down_is_no_reason_not_to_train(server, shell):
    server.stop()
    ended = shell.train(logs(timeout=0), COMET_API_KEY=KEY, COMET_URL_OVERRIDE=server.url)
    seconds, imported = ended.stdout.split()
    assert float(seconds) < SOON
    assert imported == "False"
    server.start()
    server.until(lambda server: server.experiment("r" * 32).ended and not server.experiment("r" * 32).is_alive)
    check_arrived(server)


# Not needed


@pytest.mark.parametrize("variables", [{"COMET_START_ONLINE": "0"}, {"RANKZERO_DELIVERY": "off"}])
def test_who_sends_nothing_needs_no_login(server, shell, variables):
    shell.train(logs(), COMET_URL_OVERRIDE=server.url, **variables)
    assert server.requests == []


@pytest.mark.slow
def test_delivery_later_says_that_nobody_is_logged_in(server, shell):
    shell.train(logs(), RANKZERO_DELIVERY="off")
    ended = shell.sync(shell.run_dir, "--to", "comet", returns=2, COMET_URL_OVERRIDE=server.url)
    assert "comet login" in ended.stderr
    shell.sync(shell.run_dir, "--to", "comet", COMET_API_KEY=KEY, COMET_URL_OVERRIDE=server.url)
    check_arrived(server)


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
def test_sync_says_at_once_what_only_a_person_can_mend(server, here, tmp_path, capsys, fault, message):
    run_dir = journal_of_rows(tmp_path, {"loss": 0.5})
    server.fail("logger/add/run", fault)
    assert cli.main(["sync", str(run_dir), "--to", "comet", "-o", "workspace=nowhere", "--timeout", "60"]) == 1
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert server.count("logger/add/run") == 1


def test_sync_without_a_key_says_so_at_once(server, here, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COMET_API_KEY")
    run_dir = journal_of_rows(tmp_path, {"loss": 0.5})
    assert cli.main(["sync", str(run_dir), "--to", "comet", "--timeout", "600"]) == 2
    assert "not logged in to Comet" in " ".join(capsys.readouterr().err.split())
    assert server.requests == []
