"""Loggers with a login check, with options from the environment, and offline loggers."""

import json
import sys
from pathlib import Path

import pytest
from installed import write_plugin

import rankzero
from rankzero.cli import app as cli
from rankzero.errors import ConfigError
from rankzero.events.structs import Start
from rankzero.journal.tail import read_start
from rankzero.plugins.registry import get_plugins
from rankzero.rundir.positions import load_position

# A tracker that is a file, and another file for offline data.
VAULT = """
import json, os
from rankzero.errors import AccessError, ConfigError
from rankzero.loggers.base import Logger

class Vault(Logger):
    secret_options = frozenset({"pin"})

    def __init__(self, path, pin=None, offline=False, shelf=None):
        self.path, self.pin, self.offline, self.shelf = path, pin, offline, shelf

    name = property(lambda self: "vault")
    version = property(lambda self: self.run_info.id)
    is_offline = property(lambda self: self.offline)

    def check_login(self):
        if self.pin == "down":
            raise ConnectionError("the vault does not answer")
        if self.pin not in (None, "1234-1234"):
            raise ConfigError(f"the vault refuses the pin {self.pin}")

    def resolved_options(self):
        return {"shelf": os.environ["SHELF"], "pin": "1234-1234"} if "SHELF" in os.environ else {}

    def go_online(self):
        self.offline = False

    def _put(self, *what):
        if self.path == "expired":
            raise AccessError("the vault's pin has expired")
        with open(self.path + ".offline" * self.offline, "a") as file:
            file.write(json.dumps([*what, self.shelf]) + "\\n")

    def log_hyperparams(self, params, *args, **kwargs):
        self._put(params)

    def log_metrics(self, metrics, step=None):
        self._put(metrics, step)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Run every test in an empty directory, with a plugin called vault."""
    entry_points = {"vault": "vault_for_tests:Vault"}
    write_plugin(tmp_path / "plugins", "rankzero-vault", entry_points, vault_for_tests=VAULT)
    monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    get_plugins.cache_clear()
    yield
    get_plugins.cache_clear()
    sys.modules.pop("vault_for_tests", None)


def train(delivery="thread", **options):
    """Log two steps; return the run."""
    with rankzero.start("vault", delivery=delivery, dir="runs", path="vault", **options) as run:
        for step in range(2):
            run.log_metrics({"loss": step / 2}, step=step)
    return run


def inside(name="vault"):
    return [json.loads(line) for line in Path(name).read_text().splitlines()] if Path(name).exists() else []


ROWS = [[{"loss": 0.0}, 0, None], [{"loss": 0.5}, 1, None]]


@pytest.mark.parametrize("delivery", ["thread", "process"])
def test_a_refused_login_raises_before_anything_is_written(delivery):
    with pytest.raises(ConfigError, match=r"start\(\): the vault refuses the pin \S+$") as raised:
        train(delivery, pin="0000-0000")
    assert "0000-0000" not in str(raised.value)
    assert not Path("runs").exists()


def test_a_refused_login_of_a_logger_that_the_script_made():
    import vault_for_tests

    with pytest.raises(ConfigError, match="the vault refuses the pin"):
        rankzero.start([vault_for_tests.Vault("vault", pin="0000-0000")], dir="runs")


def test_training_starts_if_the_tracker_does_not_answer():
    train(pin="down")
    assert inside() == ROWS


def test_no_login_is_required_without_delivery():
    train("off", pin="0000-0000")


@pytest.mark.parametrize("arguments", [["sync", "--timeout", "600"], ["deliver"]])
def test_a_refused_login_ends_a_delivery_from_the_command_line_at_once(arguments, capsys, monkeypatch):
    monkeypatch.setenv("PIN", "0000-0000")
    run, other = train("off", pin="${PIN}"), train("off")
    target = [run.dir] if arguments[0] == "sync" else ["runs"]
    status = cli.main([str(each) for each in [*arguments, *target]])
    said = capsys.readouterr()
    assert status == (2 if arguments[0] == "sync" else 1)
    assert f"{run.dir.name}/journal.jsonl: the vault refuses the pin" in said.err
    assert not list(run.dir.glob("*.position.json"))
    assert inside() == (ROWS if arguments[0] == "deliver" else [])  # the other run is delivered all the same
    assert load_position(other.dir, "vault").closed is (arguments[0] == "deliver")


def test_a_login_that_is_refused_later_ends_the_delivery_at_once(capsys):
    run = train("off")
    assert cli.main(["sync", str(run.dir), "-o", "path=expired", "--timeout", "600"]) == 1
    assert "AccessError: the vault's pin has expired" in capsys.readouterr().err


def test_a_delivered_run_needs_no_login(monkeypatch, capsys):
    monkeypatch.setenv("PIN", "1234-1234")
    run = train(pin="${PIN}")
    monkeypatch.setenv("PIN", "0000-0000")
    assert cli.main(["sync", str(run.dir)]) == 0
    assert "has all of it already" in capsys.readouterr().out
    assert cli.main(["sync", str(run.dir), "--again"]) == 2
    assert load_position(run.dir, "vault").closed


def test_options_from_the_environment_are_recorded_with_the_run(monkeypatch):
    monkeypatch.setenv("SHELF", "top")
    run = train()
    monkeypatch.delenv("SHELF")
    assert inside() == [[*row[:2], "top"] for row in ROWS]
    start = read_start(run.dir / "journal.jsonl")
    assert isinstance(start, Start)
    assert start.loggers["vault"]["options"]["shelf"] == "top"
    assert "1234-1234" not in (run.dir / "journal.jsonl").read_text()  # a secret
    assert cli.main(["sync", "--again", str(run.dir)]) == 0
    assert inside()[2:] == inside()[:2]


def test_given_options_override_the_environment(monkeypatch):
    monkeypatch.setenv("SHELF", "top")
    train(shelf="bottom")
    assert inside()[0][-1] == "bottom"


def test_an_offline_run_is_delivered_by_sync(capsys):
    run = train(offline=True)
    assert inside() == []
    assert inside("vault.offline") == ROWS
    assert load_position(run.dir, "vault").offline
    assert cli.main(["sync", str(run.dir)]) == 0
    assert inside() == ROWS
    assert inside("vault.offline") == ROWS
    assert "delivered" in capsys.readouterr().out
    assert not load_position(run.dir, "vault").offline
    assert cli.main(["sync", str(run.dir)]) == 0
    assert inside() == ROWS
    assert "has all of it already" in capsys.readouterr().out


def test_an_offline_run_is_delivered_by_deliver():
    train(offline=True)
    assert cli.main(["deliver", "runs"]) == 0
    assert inside() == ROWS


def test_a_run_that_was_kept_offline_is_shown_as_such(capsys):
    run = train(offline=True)
    assert cli.main(["ls", "runs"]) == 0
    assert "vault offline" in capsys.readouterr().out
    assert cli.main(["show", str(run.dir)]) == 0
    assert "only on this machine" in capsys.readouterr().out
    assert cli.main(["sync", str(run.dir)]) == 0
    capsys.readouterr()
    assert cli.main(["ls", "runs"]) == 0
    assert "vault ✓" in capsys.readouterr().out


def test_options_from_the_environment_are_recorded_for_a_later_delivery(monkeypatch):
    monkeypatch.setenv("SHELF", "top")
    run = train("off")
    monkeypatch.delenv("SHELF")
    assert cli.main(["sync", str(run.dir)]) == 0
    assert inside()[0][-1] == "top"


def test_options_from_the_environment_are_recorded_for_a_logger_instance(monkeypatch):
    import vault_for_tests

    monkeypatch.setenv("SHELF", "top")
    with rankzero.start([vault_for_tests.Vault("vault")], dir="runs", delivery="off") as run:
        run.log_metrics({"loss": 0.5})
    monkeypatch.delenv("SHELF")
    assert cli.main(["sync", str(run.dir)]) == 0
    assert inside() == [[{"loss": 0.5}, 0, "top"]]


class Card:
    """Like models of pydantic."""

    def __init__(self):
        self.api_key, self.colour = "secret-of-the-card", "red"
        self.unset = "not said"

    model_fields_set = property(lambda self: {"api_key", "colour"})


def test_a_secret_in_an_object_is_not_written_down():
    run = train("off", shelf=Card())
    start = read_start(run.dir / "journal.jsonl")
    assert start.loggers["vault"]["options"]["shelf"] == {"colour": "red"}
    assert "secret-of-the-card" not in (run.dir / "journal.jsonl").read_text()
