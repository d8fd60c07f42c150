"""Runs of a study: Optuna's trials and Hydra's jobs."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from integrations.reading import points
from waiting import A_WHILE

import rankzero
from rankzero.errors import ConfigError

pytest.importorskip("hydra")
pytest.importorskip("optuna")
import optuna

from rankzero.integrations.optuna import log_trials

pytestmark = pytest.mark.usefixtures("undelivered")


def runs():
    """Return the runs by name."""
    found = [rankzero.read_run(path) for path in sorted(Path().glob("rankzero-runs/*/*"))]
    return {data.info.name: data for data in found}


OUTCOMES = [None, optuna.TrialPruned(), ValueError(), math.nan, None, None]


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_trial_of_optuna_is_a_run(jobs):
    @log_trials("csv", project="search")
    def objective(trial):
        x = trial.suggest_float("x", -1, 1)
        trial.run.log_metrics({"extra": x}, 0)
        for step in range(2):
            trial.report(x * step, step)
        outcome = OUTCOMES[trial.number]
        if isinstance(outcome, Exception):
            raise outcome
        return x if outcome is None else outcome

    study = optuna.create_study(study_name="lines")
    study.optimize(objective, n_trials=len(OUTCOMES), n_jobs=jobs, catch=(ValueError,))
    logged = runs()
    statuses = {"COMPLETE": "success", "PRUNED": "aborted", "FAIL": "failed"}
    for trial in study.trials:
        data = logged.pop(f"lines-{trial.number}")
        assert data.status == statuses[trial.state.name]
        assert (data.info.group, data.info.project, data.params) == ("lines", "search", trial.params)
        found = points(data)
        assert found["intermediate_value"] == [*trial.intermediate_values.items()]
        assert found["extra"] == [(0, trial.params["x"])]
        is_complete = trial.state.name == "COMPLETE"
        assert [value for _, value in found.get("value", ())] == ([trial.value] if is_complete else [])
    assert logged == {}


@pytest.mark.parametrize("given", [{}, {"run_id": "given"}])
def test_each_trial_is_a_run_if_a_run_id_is_given_and_a_job_that_begins_again_resumes_each(given, monkeypatch):
    if not given:
        monkeypatch.setenv("RANKZERO_RUN_ID", "given")
    objective = log_trials("csv", **given)(lambda trial: trial.suggest_float("x", -1, 1))
    for _ in range(2):
        optuna.create_study(study_name="lines").optimize(objective, n_trials=3, n_jobs=2)
    assert {name: data.info.id for name, data in runs().items()} == {f"lines-{i}": f"given-{i}" for i in range(3)}
    assert [len(data.metrics["value"].value) for data in runs().values()] == [2, 2, 2]


def test_a_trial_without_a_study_is_a_run():
    @log_trials("csv")
    def objective(data, *, trial):
        x = trial.suggest_float("x", -1, 1)
        trial.report(data * x, 0)
        return x

    assert objective(2, trial=optuna.trial.FixedTrial({"x": 0.5}, number=7)) == 0.5
    study = optuna.create_study()
    study.optimize(lambda trial: objective(2, trial=trial), n_trials=1)
    assert objective(2, trial=study.best_trial) == study.best_value
    data = runs()
    assert (data["trial-7"].params, data["trial-7"].info.group) == ({"x": 0.5}, None)
    assert points(data["trial-7"]) == {"intermediate_value": [(0, 1.0)], "value": [(1, 0.5)]}
    assert data["trial-0"].params == study.best_params
    with pytest.raises(TypeError, match="needs an Optuna trial"):
        objective(2)


def test_an_objective_can_be_a_method():
    class Objective:
        @log_trials("csv")
        def __call__(self, trial):
            return trial.suggest_float("x", -1, 1)

    optuna.create_study(study_name="lines").optimize(Objective(), n_trials=1)
    assert runs()["lines-0"].status == "success"
    with pytest.raises(ConfigError, match=r"write @log_trials\(\)"):

        @log_trials
        def objective(trial): ...


@pytest.mark.filterwarnings("ignore:.*set_metric_names is experimental")
def test_several_values_of_a_trial_have_the_names_of_the_study():
    with pytest.raises(ConfigError):
        log_trials(projct="p")
    objective = log_trials("csv", name="one")(lambda trial: (1.0, 2.0))
    for names in (None, ["error", "time"]):
        study = optuna.create_study(directions=["minimize"] * 2)
        if names:
            study.set_metric_names(names)
        study.optimize(objective, n_trials=1)
    found = [points(rankzero.read_run(path)) for path in sorted(Path().glob("rankzero-runs/*/*"))]
    assert [{name: values[0][1] for name, values in each.items()} for each in found] == [
        {"value_0": 1.0, "value_1": 2.0},
        {"error": 1.0, "time": 2.0},
    ]


JOB = """
import hydra
import rankzero

@hydra.main(version_base=None, config_path=".", config_name="config")
def train(config):
    run = rankzero.start("csv", name=str(config.lr), config=config)
    run.log_metrics({"loss": config.lr}, 0)
    if config.lr == 2:
        raise ValueError
    if config.lr == 3:
        run.finish("aborted")

if __name__ == "__main__":
    before = rankzero.start("csv", name="before")
    train()
"""
CONFIG = """
lr: 1
hydra:
  sweep: {dir: multirun/rates}
  callbacks:
    rankzero: {_target_: rankzero.integrations.hydra.RankzeroCallback}
"""


def run_job(*arguments):
    Path("train.py").write_text(JOB)
    Path("config.yaml").write_text(CONFIG)
    command = [sys.executable, "-W", "ignore", "train.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=A_WHILE, check=False)


def test_runs_that_a_job_of_hydra_leaves_open_end_with_its_status():
    done = run_job("lr=2")
    assert "ValueError" in done.stderr
    data = runs()["2"]
    assert (data.status, data.info.group, data.params["lr"]) == ("failed", None, 2)
    assert data.params["hydra"]["overrides"] == ["lr=2"]
    assert Path(data.params["hydra"]["output_dir"], ".hydra").is_dir()


def test_the_jobs_of_a_sweep_are_a_group(monkeypatch):
    monkeypatch.setenv("RANKZERO_RUN_ID", "given")
    done = run_job("--multirun", "lr=1,3,2")
    assert "ValueError" in done.stderr
    logged = runs()
    assert {name: data.status for name, data in logged.items() if name != "before"} == {
        "1": "success", "3": "aborted", "2": "failed",
    }  # fmt: skip
    assert {data.info.group for name, data in logged.items() if name != "before"} == {"multirun/rates"}
    assert "hydra" not in logged["before"].params
    assert [Path(logged[name].params["hydra"]["output_dir"]).name for name in "132"] == ["0", "1", "2"]
    assert [logged[name].info.id for name in ("before", "1", "3", "2")] == ["given", "given-0", "given-1", "given-2"]
