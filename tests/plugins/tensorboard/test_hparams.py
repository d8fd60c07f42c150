"""The HPARAMS tab of a real TensorBoard, with both loaders."""

import pytest
import yaml
from servers.event_files import hparams, scalars
from servers.tensorboard_server import LOADERS, tensorboard

from rankzero.events.run_info import LogContext, RunInfo
from rankzero_tensorboard import TensorBoardLogger


@pytest.fixture(params=LOADERS)
def loader(request):
    return request.param


def table(logdir, loader, rows=1):
    with tensorboard(logdir, loader) as server:
        server.until(lambda server: len(server.hparams()[2]) == rows and server.hparams()[1])
        return server.hparams()


def attached(tmp_path, run_id):
    logger = TensorBoardLogger(tmp_path / "logs")
    logger.attach(RunInfo(run_id, run_id, "digits", str(tmp_path / run_id), started=1.7e9))
    return logger


def test_hp_metric_is_a_placeholder_until_it_is_logged(tmp_path, loader):
    for version, value in enumerate([None, 0.75]):
        logger = TensorBoardLogger(tmp_path, version=version)
        logger.log_hyperparams({"lr": 0.1 * (version + 1)})
        if value is not None:
            logger.log_metrics({"hp_metric": value}, step=10)
        logger.finalize("success")
        logger.close()
    names, metrics, rows = table(tmp_path, loader, rows=2)
    assert (names, metrics) == (["lr"], ["hp_metric"])
    assert rows == {
        "lightning_logs/version_0": {"lr": 0.1, "hp_metric": -1, "status": "STATUS_SUCCESS"},
        "lightning_logs/version_1": {"lr": 0.2, "hp_metric": 0.75, "status": "STATUS_SUCCESS"},
    }


def test_the_table_shows_the_metrics_that_were_chosen(tmp_path, loader):
    for number in range(2):  # the second process passes no metrics, and removes none
        logger = TensorBoardLogger(tmp_path, version=0, prefix="p")
        logger.log_hyperparams({"lr": 0.1, "deep": True}, {"hp/metric_1": 0, "hp/metric_2": 0} if number == 0 else None)
        logger.log_metrics({"hp/metric_1": 0.5, "loss": 3.0, "grad_norm": 9.0}, step=number)
        logger.close()
    names, metrics, rows = table(tmp_path, loader)
    assert (sorted(names), metrics) == (["deep", "lr"], ["p-hp/metric_1", "p-hp/metric_2"])
    values = {"lr": 0.1, "deep": True, "p-hp/metric_1": 0.5, "p-hp/metric_2": 0}
    assert rows == {"lightning_logs/version_0": {**values, "status": "STATUS_UNKNOWN"}}


def test_calls_merge_across_processes_and_the_last_end_counts(tmp_path, loader):
    kinds = {
        "none": None, "yes": True, "text": "größe", "list": [1, "a"], "nan": float("nan"), "large": 2**60,
        "empty": {}, "deep": {"er": {"x": 1.5}}, "type": dict,
    }  # fmt: skip
    for status, params in (("failed", {"lr": 0.1, "model": {"layers": 3, "act": "relu"}}), ("success", {"lr": 0.2})):
        logger = attached(tmp_path, "r1")
        logger.log_hyperparams(params | kinds)
        logger.log_metrics({"loss": 0.5}, step=0)
        logger.finalize(status)
        logger.close()
    names, metrics, rows = table(tmp_path, loader)
    assert metrics == ["loss"], "under a Run there are only logged metrics"
    values = {"lr": 0.2, "model/layers": 3, "model/act": "relu"}
    values |= {"none": "None", "yes": True, "text": "größe", "list": '[1, "a"]', "nan": "NaN", "large": str(2**60)}
    values |= {"deep/er/x": 1.5, "type": "builtins.dict"}
    assert sorted(names) == sorted(values)
    assert list(rows.values()) == [{**values, "loss": 0.5, "status": "STATUS_SUCCESS"}]


def test_failed_runs(tmp_path):
    for status in ("failed", "crashed", "aborted"):
        logger = attached(tmp_path, status)
        logger.log_hyperparams({"lr": 0.1})
        logger.log_metrics({"loss": 0.5}, step=0)
        with logger.at(LogContext(1.7e9 + 60, 3)):
            logger.finalize(status)
        logger.close()
    _, _, rows = table(tmp_path, LOADERS[1], rows=3)
    assert [row["status"] for row in rows.values()] == ["STATUS_FAILURE"] * 3


def test_hparams_yaml_is_as_lightning_writes_it(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"lr": 0.1, "opt": {"name": "adam"}})
    logger.log_hyperparams({"seed": 7})
    logger.close()
    with (tmp_path / "lightning_logs" / "version_0" / "hparams.yaml").open() as file:
        assert yaml.safe_load(file) == logger.hparams == {"lr": 0.1, "opt": {"name": "adam"}, "seed": 7}


def test_an_invalid_yaml_file_is_renamed(tmp_path):
    directory = tmp_path / "lightning_logs" / "version_0"
    directory.mkdir(parents=True)
    (directory / "hparams.yaml").write_text("a: [")
    logger = TensorBoardLogger(tmp_path, version=0)
    logger.log_hyperparams({"lr": 0.1})
    logger.close()
    assert (directory / "hparams.1.yaml").read_text() == "a: ["
    assert hparams(directory) == {"lr": 0.1}


def test_the_placeholder_comes_once(tmp_path):
    """Lightning logs hyperparameters again for testing, which must not replace a logged value."""
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"lr": 0.1})
    logger.log_metrics({"hp_metric": 0.75}, step=3)
    logger.log_hyperparams({"lr": 0.1})
    logger.close()
    again = TensorBoardLogger(tmp_path, version=0)
    again.log_hyperparams({"lr": 0.1})
    again.close()
    assert scalars(logger.log_dir) == {"hp_metric": [(0, -1.0), (3, 0.75)]}


@pytest.mark.parametrize("metrics", [0.5, {"hp_metric": 0.5}])
def test_without_the_placeholder(tmp_path, metrics):
    logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
    logger.log_hyperparams({"lr": 0.1})
    logger.log_hyperparams({"lr": 0.2}, metrics)
    logger.close()
    assert scalars(logger.log_dir) == {"hp_metric": [(0, 0.5)]}


def test_the_table_can_be_rewritten_while_it_is_read(tmp_path):
    """The file is replaced as a whole: a reader gets the old or the new one."""
    logger = TensorBoardLogger(tmp_path)
    for number in range(50):
        logger.log_hyperparams({f"p{number}": number})
        assert len(hparams(logger.log_dir)) == number + 1
    logger.close()
