"""`TensorBoardLogger` without a Run: directories, values, and that each value is written at once."""

import math
import os
import pickle
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from servers.event_files import accumulated, scalars, tracked

import rankzero
from rankzero.errors import PluginNotInstalledError, UnknownOptionError
from rankzero_tensorboard import TensorBoardLogger


def test_directories(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EXPERIMENTS", "experiments")
    logger = TensorBoardLogger("~/$EXPERIMENTS", name="mnist", version=3, sub_dir="train")
    assert (logger.name, logger.version, logger.sub_dir) == ("mnist", 3, "train")
    assert logger.save_dir == str(tmp_path / "experiments")
    assert logger.root_dir == str(tmp_path / "experiments/mnist")
    assert logger.log_dir == str(tmp_path / "experiments/mnist/version_3/train")
    assert TensorBoardLogger("logs", name="", version="best").log_dir == os.path.join("logs", "best")
    assert TensorBoardLogger("logs", name=None, version=0).log_dir == os.path.join("logs", "version_0")


@pytest.mark.parametrize(
    ("attribute", "value", "directory"),
    [
        ("name", "mine", "logs/mine/version_0"),
        ("version", "mine", "logs/lightning_logs/mine"),
        ("save_dir", "mine", "mine/lightning_logs/version_0"),
        ("root_dir", "mine", "mine/version_0"),
        ("log_dir", "mine", "mine"),
    ],
)
def test_a_subclass_sets_the_directory(tmp_path, monkeypatch, attribute, value, directory):
    monkeypatch.chdir(tmp_path)
    logger = type("Mine", (TensorBoardLogger,), {attribute: property(lambda self: value)})("logs")
    logger.log_hyperparams({"lr": 0.1})
    logger.log_metrics({"loss": 0.5}, 1)
    logger.experiment.add_scalar("raw", 1.0, 2)
    logger.close()
    assert logger.log_dir == directory
    assert scalars(directory) == {"hp_metric": [(0, -1.0)], "loss": [(1, 0.5)], "raw": [(2, 1.0)]}
    assert {path.parent for path in Path().rglob("*") if path.is_file()} == {Path(directory)}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, of its own trace
def test_attributes_that_scripts_set_as_with_lightnings_logger(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger._default_hp_metric = None
    logger._log_graph = True
    logger.log_hyperparams({"lr": 0.1})
    logger.log_graph(torch.nn.Linear(2, 1), torch.ones(1, 2))
    logger.close()
    assert accumulated(logger.log_dir).Tags()["graph"]
    assert scalars(logger.log_dir) == {}


def test_without_a_directory_it_is_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert TensorBoardLogger().log_dir == str(tmp_path / "lightning_logs/version_0")


def test_the_next_version(tmp_path):
    for name in ("version_0", "version_12", "version_nonumber", "other"):
        (tmp_path / "lightning_logs" / name).mkdir(parents=True)
    (tmp_path / "lightning_logs" / "version_40").touch()
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 0.5}, 0)
    assert logger.version == 13
    logger.close()
    assert TensorBoardLogger(tmp_path).version == 14


def test_how_to_view(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert TensorBoardLogger("my logs").how_to_view() == f"tensorboard --logdir '{tmp_path}/my logs/lightning_logs'"
    assert TensorBoardLogger("s3://b/logs").how_to_view() == "tensorboard --logdir s3://b/logs/lightning_logs"


def test_every_value_is_written_at_once(logger):
    """So TensorBoard shows it, and a killed process loses none."""
    for step in range(10):
        logger.log_metrics({"loss": step / 2}, step)
        assert scalars(logger.log_dir)["loss"][-1] == (step, step / 2)


def test_a_value_that_is_not_a_number_is_kept_as_text(logger):
    logger.log_metrics({"note": "best **so far**", "list": [1, 2], "loss": 0.5, "nested": {"a": 1}}, 3)
    with pytest.warns(UserWarning, match="'gone' was None"):
        logger.log_metrics({"gone": None}, 4)
    logger.log_metrics({"gone": None}, 5)
    assert scalars(logger.log_dir) == {"loss": [(3, 0.5)], "nested/a": [(3, 1.0)]}
    texts = {item.key: item.content for item in tracked(logger.log_dir).items["text"]}
    assert texts == {"note": (["value"], [["best **so far**"]]), "list": (["value"], [["[1, 2]"]])}


def test_numbers_of_all_kinds(logger):
    values = [torch.tensor([0.5], requires_grad=True), np.float16(0.5), np.int64(2), True, -math.inf]
    for step, value in enumerate(values):
        logger.log_metrics({"value": value}, np.int64(step))
    logger.log_metrics({"nan": math.nan}, 0)
    found = scalars(logger.log_dir)
    assert found["value"] == list(enumerate([0.5, 0.5, 2.0, 1.0, -math.inf]))
    assert math.isnan(found["nan"][0][1])


def test_a_value_beyond_float32_is_warned_of_once(logger):
    with pytest.warns(UserWarning, match="float32, in which 'loss' is infinite"):
        logger.log_metrics({"loss": 1e300}, 0)
    for step, value in enumerate([-1e39, 10**400, 3e38], 1):
        logger.log_metrics({"loss": value}, step)
    values = [value for _, value in scalars(logger.log_dir)["loss"]]
    assert values == [math.inf, -math.inf, math.inf, pytest.approx(3e38)]


def test_missing_steps_are_counted(logger):
    for value in (0.5, 0.25):
        logger.log_metrics({"loss": value})
    assert scalars(logger.log_dir)["loss"] == [(0, 0.5), (1, 0.25)]


def test_saving_and_ending(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.finalize("success")
    assert not list(tmp_path.iterdir()), "a logger that was not used writes nothing"
    logger.log_hyperparams(Namespace(lr=0.1))
    logger.log_metrics({"loss": 0.5}, 0)
    logger.save()
    logger.finalize("success")
    logger.log_metrics({"test/loss": 0.25}, 1)
    logger.close()
    logger.log_metrics({"test/loss": 0.125}, 2)
    logger.close()
    assert scalars(logger.log_dir)["test/loss"] == [(1, 0.25), (2, 0.125)]
    assert len([path for path in Path(logger.log_dir).iterdir() if "tfevents" in path.name]) == 2


def test_an_unpickled_copy_has_a_separate_file(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 0.5}, 0)
    copy = pickle.loads(pickle.dumps(logger))
    copy.log_metrics({"loss": 0.25}, 1)
    logger.log_metrics({"loss": 0.125}, 2)
    copy.close()
    logger.close()
    assert copy.log_dir == logger.log_dir
    assert len(list(Path(logger.log_dir).iterdir())) == 2
    assert sorted(scalars(logger.log_dir)["loss"]) == [(0, 0.5), (1, 0.25), (2, 0.125)]


def test_purge_step_hides_events_of_an_earlier_process(tmp_path):
    first = TensorBoardLogger(tmp_path, version=0)
    for step in range(5):
        first.log_metrics({"loss": 1.0}, step)
    first.close()
    second = TensorBoardLogger(tmp_path, version=0, purge_step=3)
    second.log_metrics({"loss": 2.0}, 3)
    second.close()
    second.log_metrics({"loss": 2.0}, 4)
    second.close()
    assert scalars(first.log_dir)["loss"] == [(0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


def test_file_names(tmp_path):
    before = int(time.time())
    logger = TensorBoardLogger(tmp_path, filename_suffix=".mine")
    logger.log_metrics({"loss": 0.5}, 0)
    logger.close()
    [path] = Path(logger.log_dir).iterdir()
    began = path.name.removeprefix("events.out.tfevents.").partition(".")[0]
    assert path.suffix == ".mine"
    assert before <= int(began) <= time.time()


def test_works_without_torch(tmp_path):
    script = f"""
import sys
sys.modules["torch"] = sys.modules["tensorflow"] = None  # importing them fails
import rankzero, rankzero_tensorboard
logger = rankzero_tensorboard.TensorBoardLogger({str(tmp_path)!r})
logger.log_hyperparams({{"lr": 0.1}})
logger.log_metrics({{"loss": 0.5}}, 0)
logger.log_text("note", ["a"], [["b"]], step=0)
try:
    logger.experiment
except rankzero.errors.PluginNotInstalledError as error:
    print(error)
logger.finalize("success")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install torch" in done.stdout
    assert accumulated(tmp_path / "lightning_logs/version_0").Tags()["scalars"] == ["hp_metric", "loss"]


def test_without_tensorboard_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PluginNotInstalledError, match="pip install tensorboard"):
        TensorBoardLogger()


def test_a_mistyped_option_is_found_at_start(tmp_path):
    with pytest.raises(UnknownOptionError, match="'purge_step'"):
        rankzero.start("tensorboard", purge_stp=3, dir=tmp_path)
