"""The login to W&B: checked before the first step, found where W&B's client finds it, and stored nowhere."""

import psutil
import pytest
from plugins.wandb.scripts import Shell
from servers.wandb_server import WandbServer
from waiting import A_WHILE, SOON

from rankzero.testing.faults import stalled, status

LOGS = """
    with rankzero.start("wandb", project="p", run_id="r"{options}) as run:
        run.log_metrics({{"loss": 0.5}}, 0)
"""
TIMED = """
    import time
    began = time.monotonic()
    run = rankzero.start("wandb", project="p", run_id="r")
    print(time.monotonic() - began)
    run.log_metrics({"loss": 0.5}, 0)
    run.finish(timeout=0)
"""
WRONG = "f" * 40


def logs(options=""):
    return LOGS.format(options=options)


@pytest.fixture
def shell(tmp_path, environment):
    """A shell of a user whose home is empty, and whom W&B's client does not know."""
    home = tmp_path / "home"
    home.mkdir()
    unset = {"WANDB_API_KEY": None, "WANDB_BASE_URL": None, "WANDB_DIR": None, "WANDB_SILENT": None}
    return Shell(tmp_path / "work", {**environment, **unset, "HOME": str(home)})


@pytest.fixture
def known(environment):
    """What a user says who is known."""
    return {name: environment[name] for name in ("WANDB_API_KEY", "WANDB_BASE_URL")}


def check_arrived(server):
    assert server.run("r").scalars("loss", "trainer/global_step")[0][:2] == (0, 0.5)
    assert server.run("r").exit_code == 0


def check_nowhere(key, directory, *texts):
    """Check that a key stands in no file, nor in a text."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert any(path.name == "courier.log" for path in files)
    assert [path for path in files if key.encode() in path.read_bytes()] == []
    assert not any(key in text for text in texts)


# Refused


def test_nobody_is_logged_in(server, shell, known):
    ended = shell.train(logs(), returns=1, WANDB_BASE_URL=known["WANDB_BASE_URL"])
    assert "ConfigError: start(): not logged in to W&B: run `wandb login`, or set WANDB_API_KEY" in ended.stderr
    assert "offline=True" in ended.stderr
    assert not (shell.directory / "runs").exists()
    assert server.requests == []


def test_a_wrong_key_is_known_before_anything_is_written(server, shell, known):
    ended = shell.train(logs(), returns=1, **{**known, "WANDB_API_KEY": WRONG})
    host = server.url.removeprefix("http://")
    assert f"ConfigError: start(): {host} refuses the W&B API key: run `wandb login`" in ended.stderr
    assert WRONG not in ended.stderr + ended.stdout
    assert not (shell.directory / "runs").exists()
    assert server.store.runs == {}


def test_a_key_that_is_too_short_is_refused_without_a_request(server, shell, known):
    ended = shell.train(logs(), returns=1, **{**known, "WANDB_API_KEY": "short"})
    assert "ConfigError: start(): an API key of W&B has 40 characters or more, and this one has 5" in ended.stderr
    assert server.requests == []


def stop_courier(shell):
    """End the courier that tries on."""
    (courier,) = [each for each in psutil.process_iter() if is_courier(each, shell.directory)]
    courier.kill()
    courier.wait(timeout=A_WHILE)


def is_courier(process, directory):
    try:
        return process.cwd() == str(directory) and "rankzero.delivery.worker" in process.cmdline()
    except psutil.Error:
        return False


# Found


def test_in_the_environment(server, shell, known):
    ended = shell.train(logs(), **known)
    check_arrived(server)
    check_nowhere(known["WANDB_API_KEY"], shell.directory, *ended[1:])


@pytest.mark.parametrize("where", ["home", "NETRC"])
def test_in_netrc(server, shell, known, tmp_path, where):
    host = server.url.removeprefix("http://")
    path = tmp_path / "home" / ".netrc" if where == "home" else tmp_path / "my-netrc"
    path.write_text(f"machine {host}\n  login user\n  password {known['WANDB_API_KEY']}\n")
    path.chmod(0o600)
    variables = {"NETRC": str(path)} if where == "NETRC" else {}
    ended = shell.train(logs(), WANDB_BASE_URL=known["WANDB_BASE_URL"], **variables)
    check_arrived(server)
    check_nowhere(known["WANDB_API_KEY"], shell.directory, *ended[1:])
    path.write_text(path.read_text().replace(known["WANDB_API_KEY"], WRONG))
    refused = shell.train(logs(), returns=1, WANDB_BASE_URL=known["WANDB_BASE_URL"], **variables)
    assert "refuses the W&B API key" in refused.stderr


@pytest.mark.parametrize("kind", ["dict", "wandb.Settings"])
def test_in_settings(server, shell, known, kind):
    script = f"""
    import os, wandb
    settings = {kind}(api_key=os.environ["MY_KEY"], base_url="{known["WANDB_BASE_URL"]}")
    with rankzero.start("wandb", project="p", run_id="r", settings=settings) as run:
        run.log_metrics({{"loss": 0.5}}, 0)
    """
    ended = shell.train(script, MY_KEY=known["WANDB_API_KEY"])
    check_arrived(server)
    check_nowhere(known["WANDB_API_KEY"], shell.directory, *ended[1:])
    refused = shell.train(script, returns=1, MY_KEY=WRONG)
    assert "refuses the W&B API key" in refused.stderr
    assert WRONG not in refused.stderr


@pytest.mark.parametrize("where", ["configuration", "here"])
def test_the_server_in_the_files_of_wandb(server, shell, known, tmp_path, where):
    directory = tmp_path / "config" if where == "configuration" else shell.directory / "wandb"
    directory.mkdir()
    (directory / "settings").write_text(f"[default]\nbase_url = {known['WANDB_BASE_URL']}\n")
    refused = shell.train(logs(), returns=1, WANDB_API_KEY=WRONG)
    assert f"{server.url.removeprefix('http://')} refuses" in refused.stderr
    shell.train(logs(), WANDB_API_KEY=known["WANDB_API_KEY"])
    check_arrived(server)


def test_the_server_in_the_files_of_wandb_is_kept(server, shell, known, tmp_path):
    directory = shell.directory / "wandb"
    directory.mkdir()
    (directory / "settings").write_text(f"[default]\nbase_url = {known['WANDB_BASE_URL']}\nentity = team\n")
    server.stop()
    shell.train(TIMED, WANDB_API_KEY=known["WANDB_API_KEY"])
    stop_courier(shell)
    server.start()
    elsewhere = Shell(tmp_path / "elsewhere", shell.environment)
    elsewhere.sync(shell.run_dir, WANDB_API_KEY=known["WANDB_API_KEY"])
    check_arrived(server)
    assert server.run("r").entity == "team"


# No answer


def test_a_server_that_is_down(server, shell, known):
    server.stop()
    ended = shell.train(TIMED, **known)
    assert float(ended.stdout) < SOON
    server.start()
    server.until(lambda server: server.run("r").exit_code == 0)
    check_arrived(server)


def test_a_server_that_does_not_answer(server, shell, known):
    server.fail("/graphql", stalled())
    ended = shell.train(TIMED, **known)
    assert 2 < float(ended.stdout) < SOON
    server.heal()
    server.until(lambda server: server.run("r").exit_code == 0)
    check_arrived(server)


# Not needed


@pytest.mark.parametrize(
    "variables",
    [{"WANDB_MODE": "offline"}, {"WANDB_MODE": "disabled"}, {"RANKZERO_DELIVERY": "off"}, {"RANKZERO_DISABLED": "1"}],
)
def test_who_sends_nothing_needs_no_login(server, shell, known, variables):
    shell.train(logs(), WANDB_BASE_URL=known["WANDB_BASE_URL"], **variables)
    assert server.requests == []


def test_delivery_later_says_at_once_who_is_not_let_in(server, shell, known):
    def refused(**variables):
        ended = shell.sync(shell.run_dir, "--timeout", 600, returns=None, **{**known, **variables})
        assert ended.status in (1, 2)
        return ended.stderr

    server.store.unknown_entities.add("team")
    shell.train(logs(), RANKZERO_DELIVERY="off", WANDB_ENTITY="team")
    assert "not logged in to W&B: run `wandb login`" in refused(WANDB_API_KEY=None)
    assert "refuses the W&B API key" in refused(WANDB_API_KEY=WRONG)
    assert "has no entity (account or team) 'team'" in refused()
    server.store.unknown_entities.clear()
    server.fail("UpsertBucket", status(403))
    assert "AccessError: the run cannot be opened in W&B: " in refused()
    server.heal()
    shell.sync(shell.run_dir, **known)
    check_arrived(server)


def test_delivery_later_asks_the_server_that_the_run_is_for(server, shell, known, tmp_path):
    shell.train(logs(), RANKZERO_DELIVERY="off", **known)
    elsewhere = Shell(tmp_path / "elsewhere", shell.environment)
    ended = elsewhere.sync(shell.run_dir, "--timeout", 600, returns=None, WANDB_API_KEY=WRONG)
    assert f"{server.url.removeprefix('http://')} refuses the W&B API key" in ended.stderr


def test_the_key_of_another_server_is_not_sent(server, shell, known):
    """A key in .netrc belongs to one server; W&B's client sends no other one it."""
    with WandbServer() as other:
        path = shell.directory.parent / "home" / ".netrc"
        path.write_text(f"machine {other.url.removeprefix('http://')}\n  login user\n  password {WRONG}\n")
        path.chmod(0o600)
        ended = shell.train(logs(), returns=1, WANDB_BASE_URL=known["WANDB_BASE_URL"])
    assert "not logged in" in ended.stderr
    assert server.requests == []
