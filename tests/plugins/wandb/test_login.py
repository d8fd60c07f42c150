"""The login to W&B: checked at start, found like by W&B's client, and never stored."""

import time

import pytest
from plugins.wandb.user import User, log_a_row
from servers.wandb_server import WandbServer
from waiting import SOON

import rankzero
from rankzero.errors import ConfigError
from rankzero.testing.faults import stalled, status

WRONG = "f" * 40
REFUSED = r"^start\(\): .* refuses the W&B API key: run `wandb login`"


@pytest.fixture
def home(tmp_path):
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def unset(environment, home):
    """The variables of a user with an empty home and without a key."""
    return {**environment, "WANDB_API_KEY": None, "WANDB_BASE_URL": None, "WANDB_DIR": None, "HOME": str(home)}


@pytest.fixture
def user(tmp_path, unset):
    return User(tmp_path / "work", unset)


@pytest.fixture
def colleague(tmp_path, unset):
    return User(tmp_path / "elsewhere", unset)


@pytest.fixture
def known(environment):
    """The variables of a user with a key."""
    return {name: environment[name] for name in ("WANDB_API_KEY", "WANDB_BASE_URL")}


@pytest.fixture
def key(known):
    return known["WANDB_API_KEY"]


@pytest.fixture
def there(known):
    """The variables for the server, without a key."""
    return {"WANDB_BASE_URL": known["WANDB_BASE_URL"]}


def train(user, variables, log=log_a_row, **options):
    return user.train(log, variables, project="p", run_id="r", **options)


def check_refused(user, variables, match=REFUSED, **options):
    with pytest.raises(ConfigError, match=match) as caught:
        train(user, variables, **options)
    assert WRONG not in str(caught.value)


def check_arrived(server):
    assert server.run("r").scalars("loss", "trainer/global_step")[0][:2] == (0, 0.5)
    assert server.run("r").exit_code == 0


def check_nowhere(key, directory, capsys):
    """Check that a key is in no file and in no output."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert any(path.name == "debug-internal.log" for path in files)
    assert [path for path in files if key.encode() in path.read_bytes()] == []
    assert key not in "".join(capsys.readouterr())


# Refused


@pytest.mark.parametrize(
    ("key", "match"),
    [
        (None, r"start\(\): not logged in to W&B: run `wandb login`, or set WANDB_API_KEY; .* offline=True"),
        ("short", r"start\(\): an API key of W&B has at least 40 characters, but this one has 5"),
    ],
)
def test_without_a_valid_key_no_request_is_sent(server, user, there, key, match):
    check_refused(user, {**there, "WANDB_API_KEY": key}, match)
    assert not (user.directory / "runs").exists()
    assert server.requests == []


def test_a_wrong_key_is_found_before_anything_is_written(server, user, there):
    host = server.url.removeprefix("http://")
    check_refused(user, {**there, "WANDB_API_KEY": WRONG}, REFUSED.replace(".*", host))
    assert not (user.directory / "runs").exists()
    assert server.store.runs == {}


def test_the_key_of_another_server_is_not_sent(server, user, home, there):
    """A key in .netrc belongs to one server; W&B's client sends it to no other."""
    with WandbServer() as other:
        write_netrc(home / ".netrc", other, WRONG)
        check_refused(user, there, "not logged in")
    assert server.requests == []


# Found


def write_netrc(path, server, key):
    path.write_text(f"machine {server.url.removeprefix('http://')}\n  login user\n  password {key}\n")
    path.chmod(0o600)


@pytest.mark.parametrize("delivery", ["thread", "process"])
def test_a_key_in_the_environment(server, user, known, key, capsys, delivery):
    train(user, known, delivery=delivery)
    check_arrived(server)
    check_nowhere(key, user.directory, capsys)


@pytest.mark.parametrize("where", ["home", "NETRC"])
def test_a_key_in_netrc(server, user, home, there, key, tmp_path, capsys, where):
    path = home / ".netrc" if where == "home" else tmp_path / "my-netrc"
    variables = there if where == "home" else {**there, "NETRC": str(path)}
    write_netrc(path, server, WRONG)
    check_refused(user, variables)
    write_netrc(path, server, key)
    train(user, variables)
    check_arrived(server)
    check_nowhere(key, user.directory, capsys)


@pytest.mark.parametrize("kind", ["dict", "wandb.Settings"])
def test_a_key_in_settings(server, user, there, key, capsys, kind):
    def settings(key):
        import wandb

        return (dict if kind == "dict" else wandb.Settings)(api_key=key, base_url=there["WANDB_BASE_URL"])

    check_refused(user, {}, settings=settings(WRONG))
    train(user, {}, settings=settings(key))
    check_arrived(server)
    check_nowhere(key, user.directory, capsys)


@pytest.mark.parametrize("where", ["configuration", "here"])
def test_the_server_in_the_files_of_wandb(server, user, colleague, known, key, tmp_path, where):
    """It is used, and recorded for a later delivery elsewhere."""
    directory = tmp_path / "config" if where == "configuration" else user.directory / "wandb"
    directory.mkdir()
    file = directory / "settings"
    file.write_text(f"[default]\nbase_url = {known['WANDB_BASE_URL']}\nentity = team\n")
    check_refused(user, {"WANDB_API_KEY": WRONG}, REFUSED.replace(".*", server.url.removeprefix("http://")))
    train(user, {"WANDB_API_KEY": key}, delivery="off" if where == "here" else "thread")
    if where == "here":
        file.unlink()
        colleague.sync(user.run_dir, WANDB_API_KEY=key)
    check_arrived(server)
    assert server.run("r").entity == "team"


# No answer


@pytest.mark.parametrize("is_down", [True, False])
def test_a_server_that_is_down_or_does_not_answer(server, user, known, is_down):
    if is_down:
        server.stop()
    else:
        server.fail("/graphql", stalled())
    with user.at_work(**known):
        began = time.monotonic()
        run = rankzero.start("wandb", project="p", run_id="r", delivery="process" if is_down else "thread")
        assert (0 if is_down else 2) < time.monotonic() - began < SOON
        log_a_row(run)
        if is_down:  # a courier process continues without the script
            run.finish(timeout=0)
        server.start() if is_down else server.heal()
        run.finish()
    server.until(lambda server: server.run("r").exit_code == 0)
    check_arrived(server)


# Not needed


@pytest.mark.parametrize(
    "variables",
    [{"WANDB_MODE": "offline"}, {"WANDB_MODE": "disabled"}, {"RANKZERO_DELIVERY": "off"}, {"RANKZERO_DISABLED": "1"}],
)
def test_no_login_is_needed_if_nothing_is_sent(server, user, there, variables):
    train(user, {**there, **variables}, delivery=None)
    assert server.requests == []


def test_a_later_delivery_reports_a_refused_login_at_once(server, user, known):
    def refused(**variables):
        return user.sync(user.run_dir, "--timeout", 600, returns=(1, 2), **{**known, **variables}).stderr

    server.store.unknown_entities.add("team")
    train(user, {**known, "WANDB_ENTITY": "team"}, delivery="off")
    assert "not logged in to W&B: run `wandb login`" in refused(WANDB_API_KEY=None)
    assert "refuses the W&B API key" in refused(WANDB_API_KEY=WRONG)
    assert "has no entity (account or team) 'team'" in refused()
    server.store.unknown_entities.clear()
    server.fail("UpsertBucket", status(403))
    assert "AccessError: the run cannot be opened in W&B: " in refused()
    server.heal()
    user.sync(user.run_dir, **known)
    check_arrived(server)


def test_a_later_delivery_asks_the_server_of_the_run(server, user, colleague, known):
    train(user, known, delivery="off")
    ended = colleague.sync(user.run_dir, "--timeout", 600, returns=(1, 2), WANDB_API_KEY=WRONG)
    assert f"{server.url.removeprefix('http://')} refuses the W&B API key" in ended.stderr
