"""LightningCLI with rankzero's loggers in its YAML."""

import sys

import pytest
import yaml
from servers.lightning_model import Data, Model
from servers.lightning_scripts import run_script

import rankzero

pytest.importorskip("lightning")
pytest.importorskip("jsonargparse")
from lightning.pytorch.cli import LightningCLI

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:.*isinstance.treespec", "ignore:LightningCLI's args parameter"
)


def config_file(tmp_path, logger):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1, **quiet, "logger": logger}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"trainer": trainer, "model": {"lr": 0.5}}))
    return str(path)


def cli(*arguments, **options):
    return LightningCLI(Model, Data, args=list(arguments), seed_everything_default=1, **options)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    return tmp_path


def a_run(**options):
    return {"class_path": "rankzero.start", "init_args": {"project": "p", "delivery": "off", "dir": "runs", **options}}


@pytest.mark.slow
def test_a_run(here):
    used = cli(
        "fit", "--config", config_file(here, a_run(loggers=["csv"], name="from-yaml", config={"seed": {"a": 1}}))
    )
    run = used.trainer.logger
    run.finish()
    recorded = rankzero.read_run(run.dir)
    assert (run.name, run.loggers, recorded.status) == ("from-yaml", ("csv",), "success")
    assert recorded.params == {
        "seed": {"a": 1},
        "lr": 0.5,
        "sizes": [2, 1],
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    assert list(recorded.metrics["train/loss"].step) == [0, 1, 2, 3]
    saved = yaml.safe_load((run.dir / "config.yaml").read_text())
    assert saved["trainer"]["logger"]["class_path"] == "rankzero.start"
    assert saved["trainer"]["logger"]["init_args"]["name"] == "from-yaml"


@pytest.mark.slow
def test_the_same_by_the_saved_config(here):
    first = cli("fit", "--config", config_file(here, a_run())).trainer.logger
    second = cli("fit", "--config", str(first.dir / "config.yaml")).trainer.logger
    for run in (first, second):
        run.finish()
    assert first.id != second.id
    assert first.dir.parent == second.dir.parent


@pytest.mark.slow
def test_going_on_with_a_run(here):
    config = config_file(here, a_run(run_id="r1"))
    for resumed in (False, True):
        run = cli("fit", "--config", config, save_config_kwargs={"overwrite": resumed}).trainer.logger
        assert run.resumed == resumed
        run.finish()
    assert len(rankzero.read_run(run.dir).metrics["train/loss"].step) == 8


@pytest.mark.slow
def test_loggers_used_directly(here):
    loggers = [
        {"class_path": "rankzero.CSVLogger", "init_args": {"save_dir": "csv", "name": "n"}},
        {"class_path": "rankzero_mlflow.MLFlowLogger", "init_args": {"tracking_uri": f"sqlite:///{here}/mlflow.db"}},
        a_run(),
    ]
    pytest.importorskip("rankzero_mlflow")
    used = cli("fit", "--config", config_file(here, loggers))
    assert [type(each).__name__ for each in used.trainer.loggers] == ["CSVLogger", "MLFlowLogger", "Run"]
    directory = here / "csv" / "n" / "version_0"
    assert used.trainer.log_dir == str(directory.relative_to(here))
    assert (directory / "config.yaml").exists()
    assert (directory / "metrics.csv").read_text().count("\n") == 7
    run_id = used.trainer.loggers[1].version
    used.trainer.loggers[2].finish()
    used = cli("fit", "--config", config_file(here, loggers[0]))  # another version, so no config is overwritten
    assert used.trainer.log_dir.endswith("version_1")
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{here}/mlflow.db")
    assert [point.step for point in client.get_metric_history(run_id, "train/loss")] == [0, 1, 2, 3]


@pytest.mark.parametrize("arguments", [["--print_config"], ["--help"]], ids=str)
def test_printing_the_options_starts_no_run(here, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli("fit", "--config", config_file(here, a_run()), *arguments)
    assert ended.value.code == 0
    assert ("rankzero.start" in capsys.readouterr().out) == (arguments == ["--print_config"])
    assert not (here / "runs").exists()


def test_on_the_command_line(here):
    run = cli(
        "fit", "--config", config_file(here, False),
        "--trainer.logger", "rankzero.start", "--trainer.logger.project", "q", "--trainer.logger.delivery", "off",
    ).trainer.logger  # fmt: skip
    run.finish()
    assert run.dir.parent == here / "rankzero-runs" / "q"


def test_as_a_default_of_the_script(here):
    run = cli("fit", "--trainer.fast_dev_run", "1", trainer_defaults={"logger": a_run(), "accelerator": "cpu"})
    (directory,) = (here / "runs" / "p").iterdir()
    assert run.trainer.logger.name == ""  # Lightning's dummy, which a fast run gets
    assert "train/loss" not in rankzero.read_run(directory).metrics


def test_a_wrong_option_is_refused(here, capsys):
    with pytest.raises(SystemExit):
        cli("fit", "--config", config_file(here, {"class_path": "rankzero.CSVLogger", "init_args": {"save_dri": "x"}}))
    assert "save_dri" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_and_one_run(tmp_path):
    config = config_file(tmp_path, a_run(delivery="process"))
    arguments = ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
    done = run_script("cli.py", tmp_path, "fit", "--config", config, *arguments)
    assert done.returncode == 0, done.stderr
    (run_dir,) = (tmp_path / "runs" / "p").iterdir()
    recorded = rankzero.read_run(run_dir)
    assert recorded.status == "success"
    assert list(recorded.metrics["train/loss"].step) == [0, 1]
    assert (run_dir / "config.yaml").exists()
