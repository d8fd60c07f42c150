"""The constructor's arguments, and the properties of an unused logger."""

import inspect
import os
import sys
from unittest.mock import MagicMock

import pytest
import wandb

import rankzero
from rankzero.errors import ConfigError, UnknownOptionError
from rankzero_wandb import WandbLogger

LEFT_OUT = {"config_exclude_keys", "config_include_keys"}
"""Warnings of W&B's client."""


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


def test_it_accepts_the_arguments_of_wandb_init():
    named = set(inspect.signature(WandbLogger).parameters)
    assert named | WandbLogger.known_options >= set(inspect.signature(wandb.init).parameters) - LEFT_OUT
    assert WandbLogger.known_options <= set(inspect.signature(wandb.init).parameters)


def test_it_accepts_the_arguments_of_lightnings_logger_in_order():
    lightning = pytest.importorskip("lightning.pytorch.loggers").WandbLogger
    theirs = [name for name in inspect.signature(lightning).parameters if name != "kwargs"]
    assert list(inspect.signature(WandbLogger).parameters)[: len(theirs)] == theirs


@pytest.mark.parametrize(("wrong", "right"), [("entty", "entity"), ("run_name", "name"), ("logmodel", "log_model")])
def test_an_unknown_argument_is_refused_with_a_suggestion(wrong, right):
    with pytest.raises(ConfigError, match=rf"WandbLogger takes no argument {wrong!r}\. Did you mean {right!r}\?"):
        WandbLogger(**{wrong: "x"})


def test_an_unknown_option_is_refused_by_start(tmp_path):
    with pytest.raises(UnknownOptionError, match=r"'wandb' has no option 'entty'\. Did you mean 'entity'\?"):
        rankzero.start({"wandb": {"entty": "me"}}, dir=tmp_path)
    with pytest.raises(ConfigError, match=r"WandbLogger takes no argument 'entty'\. Did you mean 'entity'\?"):
        rankzero.start([WandbLogger(entty="me")], dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_values_outside_of_the_choices_are_refused():
    with pytest.raises(ConfigError, match="log_model must be one of True, False, 'all', not 'best'"):
        WandbLogger(log_model="best")
    with pytest.raises(ConfigError, match="add_file_policy must be one of 'mutable', 'immutable', not 'copy'"):
        WandbLogger(add_file_policy="copy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "of"}, "mode must be one of 'online', 'offline', .* not 'of'"),
        ({"resume": "sometimes"}, "resume must be one of 'allow', .* not 'sometimes'"),
        ({"group": 5}, "group must be a text, not 5"),
        ({"job_type": ["a"]}, r"job_type must be a text, not \['a'\]"),
        ({"id": "bad/id"}, "W&B does not accept the id 'bad/id'"),
        ({"project": "bad/project"}, "W&B does not accept the project 'bad/project'"),
        ({"tags": ["x" * 65]}, "use a text of 1 to 64 characters"),
        ({"settings": ["x"]}, r"settings must be a dictionary or a wandb.Settings, not \['x'\]"),
        ({"offline": "yes"}, "offline must be True or False, not 'yes'"),
    ],
)
def test_an_invalid_value_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        WandbLogger(**options)


def test_a_setting_that_wandb_does_not_know_is_refused_by_start(tmp_path):
    with pytest.raises(ConfigError, match=r"wandb\.Settings does not accept the settings: consol: "):
        rankzero.start("wandb", settings={"consol": "off"}, offline=True, dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_argument_is_needed():
    logger = WandbLogger()
    assert (logger.name, logger.version, logger.save_dir, logger.log_model) == ("lightning_logs", None, ".", False)
    assert logger.run_info is None


def test_arguments_take_precedence_over_the_environment(monkeypatch, tmp_path):
    variables = {"WANDB_PROJECT": "theirs", "WANDB_RUN_ID": "their-id", "WANDB_DIR": str(tmp_path)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found, given = WandbLogger(), WandbLogger(project="mine", id="my-id", dir=tmp_path / "a")
    assert (found.name, found.version, found.save_dir) == ("theirs", "their-id", str(tmp_path))
    assert (given.name, given.version, given.save_dir) == ("mine", "my-id", str(tmp_path / "a"))


def test_two_names_of_one_argument(tmp_path):
    logger = WandbLogger(version="v", id="i", save_dir=tmp_path / "save", dir=tmp_path / "dir")
    assert (logger.version, logger.save_dir) == ("v", str(tmp_path / "save"))


def test_arguments_of_wandb_init_reach_the_run(make_logger, server):
    logger = make_logger(
        "named", id="r", entity="tester", group="folds", job_type="train", tags="one", notes="why",
        config={"lr": 0.1, "net": {"sizes": [1, 2]}}, settings={"host": "machine"},
    )  # fmt: skip
    logger.log_metrics({"loss": 1})
    logger.close()
    run = server.run("r")
    assert (run.path, run.display_name, run.notes, list(run.tags)) == ("tester/p/r", "named", "why", ["one"])
    assert (run.group, run.job_type, run.host) == ("folds", "train", "machine")
    assert run.config == {"lr": 0.1, "net": {"sizes": [1, 2]}}


def test_the_environment_reaches_the_run(make_logger, server, monkeypatch):
    for name, value in {"PROJECT": "theirs", "NAME": "named", "RUN_ID": "their-id", "RUN_GROUP": "folds"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    logger = make_logger(project=None)
    logger.log_metrics({"loss": 1})
    logger.close()
    run = server.run("their-id")
    assert (run.project, run.display_name, run.group) == ("theirs", "named", "folds")


@pytest.mark.parametrize("options", [{"offline": True}, {"mode": "offline"}])
def test_offline_sends_nothing(make_logger, server, tmp_path, options):
    logger = make_logger(**options)
    logger.log_metrics({"loss": 1})
    logger.close()
    assert server.requests == []
    assert len(list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))) == 1


def test_a_run_of_the_user_works_only_in_direct_use(make_logger, tmp_path):
    with wandb.init(project="p") as run:
        logger = make_logger(experiment=run)
        assert logger.version == run.id
        with pytest.raises(ConfigError, match="works only in direct use"):
            rankzero.start([logger], dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_project_is_read_from_the_environment_when_the_logger_is_created(monkeypatch):
    loggers = []
    for name in ("first", "second"):
        monkeypatch.setenv("WANDB_PROJECT", name)
        loggers.append(WandbLogger())
    assert [logger.name for logger in loggers] == ["first", "second"]
    assert [logger.resolved_options()["environment"]["WANDB_PROJECT"] for logger in loggers] == ["first", "second"]


def test_a_client_replaced_by_a_mock(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    stub = MagicMock(run=None)
    monkeypatch.setitem(sys.modules, "wandb", stub)
    logger = WandbLogger(project="p")
    logger.log_metrics({"loss": 0.5}, 3)
    assert logger.experiment is stub.init.return_value
    logger.experiment.log.assert_called_once_with({"loss": 0.5, "trainer/global_step": 3})
    logger.finalize("success")
