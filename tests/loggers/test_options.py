"""The table of a logger's options: sources, checks, options kept with the run, and secrets."""

import pickle

import pytest

from rankzero.errors import ConfigError
from rankzero.loggers.options import Option, Options


class AcmeOptions(Options):
    table = (
        Option("api_key", kind=str, variable="ACME_API_KEY", secret=True),
        Option("project", kind=str, variable="ACME_PROJECT", kept=True),
        Option("server", variable="ACME_SERVER", kept=True, local=True),
        Option("space", variable="ACME_SPACE", early=True),
        Option("mode", choices=("online", "offline")),
        Option("color", kind=bool),
    )


class WithEnvironment(AcmeOptions):
    table = (*AcmeOptions.table, Option("environment"))
    kept_variables = ("ACME_NOISE",)


def test_an_argument_counts_more_than_a_variable(monkeypatch):
    options = AcmeOptions({"project": "given", "server": None})
    assert (options["project"], options["server"], options["mode"]) == ("given", None, None)
    monkeypatch.setenv("ACME_PROJECT", "env")
    monkeypatch.setenv("ACME_SERVER", "env")
    assert (options["project"], options["server"]) == ("given", "env")
    assert options.given == {"project": "given"}
    assert options.replace(project=None, mode="offline")["project"] == "env"


def test_a_variable_is_read_when_it_is_used_unless_the_option_is_early(monkeypatch):
    monkeypatch.setenv("ACME_SPACE", "before")
    monkeypatch.setenv("ACME_PROJECT", "before")
    options = AcmeOptions({})
    monkeypatch.setenv("ACME_SPACE", "after")
    monkeypatch.setenv("ACME_PROJECT", "after")
    assert (options["space"], options["project"]) == ("before", "after")
    assert options.replace(mode="offline")["space"] == pickle.loads(pickle.dumps(options))["space"] == "before"


def test_options_from_the_environment_are_recorded_without_secrets(monkeypatch):
    for name in ("ACME_API_KEY", "ACME_PROJECT", "ACME_SERVER", "ACME_NOISE"):
        monkeypatch.setenv(name, name.lower())
    assert AcmeOptions({"project": "given"}).resolved() == {"server": "acme_server"}
    kept = {"ACME_NOISE": "acme_noise", "ACME_PROJECT": "acme_project", "ACME_SERVER": "acme_server"}
    assert WithEnvironment({"project": "given"}).resolved() == {"environment": kept}


def test_a_kept_environment_counts_instead_of_this_process(monkeypatch):
    for name in ("ACME_API_KEY", "ACME_PROJECT", "ACME_SERVER"):
        monkeypatch.setenv(name, "here")
    options = WithEnvironment({"environment": {"ACME_API_KEY": "there"}})
    assert (options["api_key"], options["project"]) == ("there", None)
    assert options["server"] == "here", "its address is that of whoever delivers, where the run's own is not known"
    assert WithEnvironment({"environment": {"ACME_SERVER": "there"}})["server"] == "there"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"projct": "x"}, "AcmeLogger takes no argument 'projct'. Did you mean 'project'?"),
        ({"project": 3}, "project must be a text, not 3"),
        ({"color": "yes"}, "color must be True or False, not 'yes'"),
        ({"mode": "ofline"}, "mode must be one of 'online', 'offline', not 'ofline'. Did you mean 'offline'?"),
        ({"api_key": 5318008}, "api_key must be a text"),
    ],
)
def test_a_wrong_option_is_refused(given, message):
    with pytest.raises(ConfigError) as caught:
        AcmeOptions(given).check("AcmeLogger", ["prefix"])
    assert str(caught.value).startswith(message)
    assert "5318008" not in str(caught.value)
    AcmeOptions({"mode": "offline", "color": False, "project": "x", "api_key": "k"}).check("AcmeLogger")


def test_a_secret_is_named_and_never_shown():
    assert AcmeOptions.secrets() == {"api_key"}
    assert "s3cret" not in repr(AcmeOptions({"api_key": "s3cret"}))
