"""The constructor's arguments, and the properties of an unused logger."""

import inspect
import os

import pytest

import rankzero
from rankzero.errors import ConfigError, UnknownOptionError
from rankzero_comet import CometLogger
from rankzero_comet.options import EXPERIMENT_CONFIG

SECRET = "s3cr3t-key-of-somebody"
KEY = "k" * 32


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("COMET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


# Names


def test_it_accepts_the_arguments_of_lightnings_logger():
    theirs = inspect.signature(pytest.importorskip("lightning.pytorch.loggers").CometLogger).parameters
    ours = inspect.signature(CometLogger).parameters
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind
        assert ours[name].default == parameter.default
    assert list(ours)[: len(theirs) - 1] == list(theirs)[:-1]


def test_it_accepts_the_options_of_the_installed_experiment_config():
    import comet_ml

    assert set(inspect.signature(comet_ml.ExperimentConfig).parameters) == {option.name for option in EXPERIMENT_CONFIG}


def test_all_options_reach_the_experiment_config():
    logger = CometLogger(tags=["a"], name="n", log_code=False, auto_output_logging="native", offline_directory="d")
    assert logger.options.config == {
        "tags": ["a"], "name": "n", "log_code": False, "auto_output_logging": "native", "offline_directory": "d"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "online"),
    [
        ({"project_name": "p"}, {"project": "p"}, None),
        ({"experiment_name": "n"}, {"name": "n"}, None),
        ({"save_dir": "d"}, {"offline_directory": "d"}, None),
        ({"offline": True}, {"online": False}, False),
        ({"offline": False}, {"online": True}, True),
    ],
)
def test_a_deprecated_name_works_and_warns_once(old, new, online):
    (name,), (instead,) = old, new
    with pytest.warns(FutureWarning) as warned:
        logger = CometLogger(**old)
    (message,) = [str(each.message) for each in warned]
    assert message.startswith(f"CometLogger's argument {name!r} is now called {instead!r}: write {instead}=")
    assert warned[0].filename == __file__
    assert logger.options.given == CometLogger(**new).options.given
    assert logger.options["online"] is online


@pytest.mark.parametrize(
    ("both", "kept"),
    [
        ({"project_name": "old", "project": "new"}, {"project": "new"}),
        ({"experiment_name": "old", "name": "new"}, {"name": "new"}),
        ({"save_dir": "old", "offline_directory": "new"}, {"offline_directory": "new"}),
        ({"offline": True, "online": True}, {"online": True}),
    ],
)
def test_the_new_name_takes_precedence_over_the_deprecated_one(both, kept):
    old, new = both
    with pytest.warns(UserWarning, match=f"got {new!r} and its old name {old!r}; {new!r} is used") as warned:
        logger = CometLogger(**both)
    assert len(warned) == 1
    assert logger.options.given == CometLogger(**kept).options.given


# Values


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("workspce", "workspace"),
        ("experimentkey", "experiment_key"),
        ("log_cod", "log_code"),
        ("logmodel", "log_model"),
    ],
)
def test_an_unknown_argument_is_refused_with_a_suggestion(wrong, right):
    with pytest.raises(ConfigError, match=rf"CometLogger takes no argument {wrong!r}\. Did you mean {right!r}\?"):
        CometLogger(**{wrong: "x"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "craete"}, r"mode must be one of 'get_or_create', .* not 'craete'\. Did you mean 'create'\?"),
        ({"online": "no"}, "online must be True or False, not 'no'"),
        ({"offline": "yes"}, "offline must be True or False, not 'yes'"),
        ({"tags": "a"}, r"tags must be a list of texts, as in \[\"baseline\"\], not 'a'"),
        ({"tags": ["a", 1]}, r"tags must be a list of texts, .* not \['a', 1\]"),
        ({"experiment_key": "exp-1"}, "Comet does not accept the experiment_key 'exp-1'"),
        ({"experiment_key": "k" * 51}, "use 32 to 50 letters and digits"),
        ({"experiment_key": "ü" * 32}, "use 32 to 50 letters and digits"),
        ({"mode": "get"}, 'mode="get" continues an experiment: set its key with experiment_key='),
        ({"project": ""}, "project is empty"),
        ({"workspace": 5}, "workspace must be a text, not 5"),
        ({"url": 5}, "url must be a text, not 5"),
        ({"url": "comet.example.com"}, "url must be the URL of a Comet server, .*, not 'comet.example.com'"),
        ({"disabled": "false"}, "disabled must be True or False, not 'false'"),
        ({"log_code": "0"}, "log_code must be True or False, not '0'"),
        ({"prefix": 3}, "prefix must be a text, not 3"),
        ({"log_model": "best"}, "log_model must be one of True, False, 'all', not 'best'"),
    ],
)
def test_an_invalid_value_is_refused(options, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        CometLogger(api_key=SECRET, **options)
    assert SECRET not in str(refusal.value)


def test_a_key_in_the_environment_is_checked_too(monkeypatch):
    monkeypatch.setenv("COMET_EXPERIMENT_KEY", "my-exp")
    with pytest.raises(ConfigError, match="Comet does not accept the COMET_EXPERIMENT_KEY 'my-exp'"):
        CometLogger()


@pytest.mark.parametrize(
    ("key", "message"),
    [("", "api_key is empty"), (12345, "api_key must be a text"), ([SECRET], "api_key must be a text")],
)
def test_an_invalid_key_is_not_shown(key, message):
    with pytest.raises(ConfigError) as refusal:
        CometLogger(api_key=key)
    assert str(refusal.value) == message


def test_a_key_in_the_environment_is_enough_to_continue(monkeypatch):
    monkeypatch.setenv("COMET_EXPERIMENT_KEY", KEY)
    assert CometLogger(mode="get").options["mode"] == "get"


# Unused loggers


def test_no_argument_is_needed():
    logger = CometLogger()
    assert (logger.name, logger.version, logger.save_dir, logger.log_model) == (None, None, None, None)
    assert (logger.is_offline, logger.how_to_view()) == (False, None)


def test_identity_and_options_as_given():
    logger = CometLogger(project="p", experiment_key=KEY, offline_directory="d", online=False, log_model="all")
    assert (logger.name, logger.version, logger.save_dir, logger.log_model) == ("p", KEY, "d", "all")
    assert logger.is_offline


# Through rankzero.start


def test_start_refuses_the_same(tmp_path):
    with pytest.raises(UnknownOptionError, match=r"'comet' has no option 'workspce'\. Did you mean 'workspace'\?"):
        rankzero.start("comet", workspce="me", dir=tmp_path / "runs")
    with pytest.raises(ConfigError, match="the option 'online' of the logger 'comet' must be bool, not str"):
        rankzero.start("comet", online="no", dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


OPTIONS_GIVEN = {"workspace": "w", "name": "n", "tags": ["a"], "prefix": "x", "log_code": False}
CONFIG = """
project = "p"
[loggers.comet]
workspace = "w"
name = "n"
tags = ["a"]
prefix = "x"
log_code = false
"""


@pytest.mark.parametrize("source", ["options", "toml"])
def test_options_reach_the_experiment(here, server, tmp_path, source):
    if source == "toml":
        (tmp_path / "rankzero.toml").write_text(CONFIG)
        run = rankzero.start(dir=tmp_path / "runs", delivery="thread")
    else:
        run = rankzero.start("comet", **OPTIONS_GIVEN, project="p", dir=tmp_path / "runs", delivery="thread")
    with run:
        run.log_metrics({"loss": 0.5}, step=1)
    stored = server.experiment(run.id)
    assert (stored.workspace, stored.project, stored.name, stored.tags) == ("w", "p", "n", ["a"])
    assert [(metric.name, metric.value) for metric in stored.metrics] == [("x_loss", 0.5)]
    assert "code" not in stored.reports
