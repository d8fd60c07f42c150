"""The constructor's arguments, and the properties of an unused logger."""

import inspect
import os

import neptune
import pytest

from rankzero.errors import ConfigError
from rankzero.events.run_info import RunInfo
from rankzero_neptune import NeptuneLogger
from rankzero_neptune.options import NeptuneOptions


def test_arguments_are_those_of_lightnings_last_logger():
    parameters = inspect.signature(NeptuneLogger).parameters
    assert {name: each.default for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY} == {
        "api_key": None,
        "project": None,
        "name": None,
        "run": None,
        "log_model_checkpoints": True,
        "prefix": "training",
    }
    with pytest.raises(TypeError):
        NeptuneLogger("key")


def test_further_arguments_are_those_of_init_run():
    parameters = set(inspect.signature(neptune.Run.__init__).parameters) - {"self", "kwargs"}
    assert NeptuneLogger.known_options - {"api_key"} == parameters - {"api_token"}


def test_before_it_is_opened(here):
    logger = NeptuneLogger(name="brave-owl")
    assert (logger.name, logger.version, logger.root_dir, logger.log_dir) == (None, None, None, None)
    assert logger.save_dir == os.path.join(os.getcwd(), ".neptune")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"custom_run": "x"}, "takes no argument 'custom_run'. Did you mean 'custom_run_id'?"),
        ({"mode": "ofline"}, "mode must be one of .* not 'ofline'. Did you mean 'offline'?"),
        ({"mode": "read-only"}, "read-only"),
        ({"prefix": None}, "prefix must be a text"),
        ({"log_model_checkpoints": "all"}, "log_model_checkpoints must be True or False, not 'all'"),
        ({"project": 3}, "project must be a text, not 3"),
        ({"tags": [1]}, "tags must be texts"),
        ({"with_id": "RUN-1", "custom_run_id": "x"}, "use only one of them"),
        ({"run": "RUN-1"}, "run must be what neptune.init_run returns"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        NeptuneLogger(**options)


@pytest.mark.parametrize("other", [{"project": "w/p"}, {"api_key": "k"}, {"name": "n"}, {"tags": ["t"]}])
def test_a_run_cannot_be_combined_with_other_arguments(other):
    with pytest.raises(ConfigError, match=f"leave out {next(iter(other))}"):
        NeptuneLogger(run=object(), **other)


def test_checkpoints_are_uploaded_by_default():
    assert NeptuneLogger().log_model == "all"
    assert NeptuneLogger(log_model_checkpoints=False).log_model is False


def test_options_from_the_environment_are_recorded_with_the_run(monkeypatch):
    monkeypatch.setenv("NEPTUNE_PROJECT", "w/p")
    monkeypatch.setenv("NEPTUNE_API_TOKEN", "secret")
    assert NeptuneLogger().resolved_options() == {"project": "w/p"}
    assert NeptuneLogger(project="w/q").resolved_options() == {}


@pytest.mark.parametrize("length", [36, 37, 200])
def test_a_long_run_id_becomes_one_that_neptune_accepts(length):
    run = RunInfo("x" * length, "n", "p", "/runs")
    found = NeptuneOptions({}).custom_id(run)
    assert len(found) == 36
    assert (found == run.id) == (length == 36)
