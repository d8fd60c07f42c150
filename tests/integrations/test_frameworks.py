"""Callbacks of small frameworks, compared with the framework's own record of the training."""

import copy
import gc
import importlib
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from integrations.reading import only_run, points
from waiting import until

import rankzero
from rankzero.errors import ConfigError

pytest.importorskip("catboost")
pytest.importorskip("lightgbm")
pytest.importorskip("sklearn.callback")
pytest.importorskip("xgboost")
import catboost
import lightgbm
import torch
import xgboost
from servers.event_files import scalars
from sklearn import linear_model
from sklearn.callback import ScoringMonitor
from sklearn.model_selection import GridSearchCV, cross_val_score

from rankzero.integrations.catboost import RankzeroCallback as OfCatBoost
from rankzero.integrations.deepspeed import RankzeroMonitor
from rankzero.integrations.lightgbm import RankzeroCallback as OfLightGBM
from rankzero.integrations.sklearn import RankzeroCallback as OfSklearn
from rankzero.integrations.torchtune import RankzeroLogger as OfTorchtune
from rankzero.integrations.xgboost import RankzeroCallback as OfXGBoost

pytestmark = [
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge"),
    pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated"),
]

X = np.random.default_rng(1).random((40, 2))
Y = X.sum(axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def here(undelivered, monkeypatch):
    """Train in an empty directory."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def finished(run):
    run.finish()
    return rankzero.read_run(run.dir)


def assert_logged(data, expected, first=0):
    """Assert that each metric has these values, one for each iteration."""
    found = points(data)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert [step for step, _ in found[name]] == list(range(first, first + len(values))), name
        np.testing.assert_allclose([value for _, value in found[name]], values, rtol=1e-6)


class Stop(Exception):
    """Raised in the midst of a training."""


def OfKeras(*arguments, **options):
    """Import Keras only for its own tests: each process that collects the tests would take two seconds longer."""
    from rankzero.integrations.keras import RankzeroCallback

    return RankzeroCallback(*arguments, **options)


# The trainings: each with a callback, and one that raises


def train_keras(*callbacks, epochs=2):
    import keras

    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), loss="mse", metrics=["mae"])
    settings = {"batch_size": 8, "validation_split": 0.2, "verbose": 0}
    return model, model.fit(X, Y, epochs=epochs, callbacks=[*callbacks], **settings).history


def fail_keras(callback):
    import keras

    def fail(epoch, logs):
        raise Stop

    train_keras(callback, keras.callbacks.LambdaCallback(on_epoch_end=fail))


def train_xgboost(*callbacks, **settings):
    data, kept = xgboost.DMatrix(X, Y), {}
    settings = {"num_boost_round": 3, "evals": [(data, "train"), (data, "val")], "verbose_eval": False} | settings
    xgboost.train({"max_depth": 2, "nthread": 1}, data, callbacks=[*callbacks], evals_result=kept, **settings)
    return {f"{name}/{metric}": values for name, metrics in kept.items() for metric, values in metrics.items()}


def fail_xgboost(callback):
    def fail(predictions, data):
        raise Stop

    train_xgboost(callback, custom_metric=fail)


def train_lightgbm(*callbacks):
    data, kept = lightgbm.Dataset(X, Y.ravel()), {}
    record = lightgbm.record_evaluation(kept)
    params = {"verbose": -1, "min_data": 1, "num_threads": 1}
    lightgbm.train(params, data, 3, valid_sets=[data], callbacks=[*callbacks, record])
    return {f"{name}/{metric}": values for name, metrics in kept.items() for metric, values in metrics.items()}


def train_catboost(*callbacks, **settings):
    settings = {"iterations": 3, "verbose": 0, "thread_count": 1, "train_dir": "catboost"} | settings
    model = catboost.CatBoostRegressor(**settings)
    model.fit(X, Y, eval_set=(X, Y), callbacks=[*callbacks])
    return model


def train_sklearn(*callbacks):
    return linear_model.LogisticRegression(max_iter=5).set_callbacks(*callbacks).fit(X, Y.ravel() > 1)


def fail_sklearn(callback):
    class Failing:
        def fail(self, *_, **__):
            raise Stop

        def nothing(self, *_, **__):
            pass

        setup = on_fit_task_begin = teardown = nothing
        on_fit_task_end = fail

    train_sklearn(callback, Failing())


TRAININGS = {
    OfKeras: train_keras,
    OfXGBoost: train_xgboost,
    OfLightGBM: train_lightgbm,
    OfCatBoost: train_catboost,
    OfSklearn: train_sklearn,
}
FAILING = {OfKeras: fail_keras, OfXGBoost: fail_xgboost, OfSklearn: fail_sklearn}


def framework(kind):
    return "keras" if kind is OfKeras else kind.__module__.rpartition(".")[2]


each_framework = pytest.mark.parametrize("kind", TRAININGS, ids=framework)


# All frameworks


@each_framework
def test_a_given_run_stays_open_and_nothing_starts_early(kind):
    kind("csv")
    assert not Path("rankzero-runs").exists()
    with rankzero.start() as run:
        TRAININGS[kind](kind(run))
        TRAININGS[kind](kind(run=run))
        run.log_metrics({"after": 1.0})
    data = rankzero.read_run(run.dir)
    assert len(points(data)["after"]) == 1
    assert data.status == "success"


@each_framework
def test_wrong_arguments_raise_at_once(kind):
    with rankzero.start() as run:
        for wrong in ({"projct": "p"}, {"config": object()}, {"run": run, "name": "x"}, {"loggers": "csv", "run": run}):
            with pytest.raises(ConfigError):
                kind(**wrong)
        with pytest.raises(ConfigError, match="so name would have no effect"):
            kind(run, name="x")
    with pytest.raises(ConfigError, match="give run_id="):
        kind(run="abc")


@each_framework
def test_another_training_of_a_new_model_is_another_run(kind):
    callback = kind("csv")
    ids = []
    for _ in range(2):
        TRAININGS[kind](callback)
        ids.append(callback.run.id)
    is_one = kind is OfKeras  # where training is often continued
    assert len({*ids}) == (1 if is_one else 2)
    copied = pickle.loads(pickle.dumps(callback)), copy.deepcopy(callback)
    assert all(each._run is None for each in copied)
    TRAININGS[kind](copied[0])
    assert len([*Path("rankzero-runs/default").iterdir()]) == (2 if is_one else 3)
    copied[0].close()
    callback.close()
    assert rankzero.read_run(callback.run.dir).status == "success"
    TRAININGS[kind](callback)
    assert callback.run.id not in ids
    callback.close()


@each_framework
def test_each_run_of_a_callback_has_an_id_of_its_own_if_one_is_given(kind, monkeypatch):
    monkeypatch.setenv("RANKZERO_RUN_ID", "given")
    callback = kind("csv")
    ids = []
    for _ in range(3):
        TRAININGS[kind](callback)
        ids.append(callback.run.id)
        callback.close()
    assert ids == ["given", "given-2", "given-3"]


@pytest.mark.parametrize("kind", [OfKeras, OfXGBoost, OfLightGBM, OfCatBoost], ids=framework)  # scikit-learn keeps them
def test_the_end_of_the_callback_is_the_end_of_the_run(kind, caplog):
    # Comet's client, once imported, logs what hinders it in XGBoost's training, with a traceback that has the callback.
    caplog.set_level(logging.CRITICAL, "comet_ml")
    callback = kind("csv")
    TRAININGS[kind](callback)
    run_dir = callback.run.dir
    del callback

    def has_ended():
        gc.collect()  # does nothing while another thread does
        return rankzero.read_run(run_dir).status == "success"

    until(has_ended)


@pytest.mark.parametrize("kind", FAILING, ids=framework)
def test_a_training_with_an_exception_has_failed_even_if_the_script_continues(kind):
    callback = kind("csv")
    with pytest.raises(Stop):
        FAILING[kind](callback)
    assert finished(callback.run).status == "failed"


@each_framework
def test_other_ranks_log_nothing(kind, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("RANKZERO_RUN_ID", "1")
    callback = kind("csv")
    TRAININGS[kind](callback)
    assert not Path("rankzero-runs").exists()


# Each framework


def test_keras_counts_batches():
    import keras

    callback = OfKeras("csv")
    model, history = train_keras(callback, keras.callbacks.LearningRateScheduler(lambda epoch, lr: lr / 2))
    model.fit(X, Y, batch_size=8, callbacks=[callback], verbose=0)
    model.evaluate(X, Y, callbacks=[callback], verbose=0)
    data = finished(callback.run)
    found = points(data)
    assert found.keys() == {"train/loss", "train/mae", "val/loss", "val/mae", "learning_rate", "test/loss", "test/mae"}
    assert found["train/loss"][:2] == list(zip([4, 8], history["loss"], strict=True))
    assert found["val/mae"] == list(zip([4, 8], history["val_mae"], strict=True))
    np.testing.assert_allclose(data.metrics["learning_rate"].value, [0.05, 0.025, 0.025])
    assert [step for step, _ in found["train/loss"] + found["test/mae"]] == [4, 8, 13, 13]
    assert (data.params["optimizer"]["name"], data.params["loss"], data.params["epochs"]) == ("SGD", "mse", 1)
    assert data.params["model/num_trainable_parameters"] == 3
    assert "dense" in data.texts["model/summary"][0].data[0][0]


def test_xgboost_logs_its_evaluations():
    callback = OfXGBoost("csv")
    expected = train_xgboost(callback)
    data = finished(callback.run)
    assert_logged(data, expected)
    assert data.params["gradient_booster"]["tree_train_param"]["max_depth"] == 2


def test_xgboost_logs_cross_validation_and_early_stopping():
    data = xgboost.DMatrix(X, Y)
    callback = OfXGBoost("csv")
    frame = xgboost.cv({"max_depth": 2, "nthread": 1}, data, 3, nfold=2, callbacks=[callback])
    assert_logged(finished(callback.run), {name.replace("-", "/", 1): list(frame[name]) for name in frame})
    callback = OfXGBoost("csv")
    model = xgboost.XGBRegressor(n_estimators=4, early_stopping_rounds=1, learning_rate=5, callbacks=[callback])
    model.fit(X, Y, eval_set=[(X, Y)], verbose=False)
    logged = points(finished(callback.run))
    assert logged["best_score"] == [(model.best_iteration, pytest.approx(model.best_score))]
    assert len(logged["validation_0/rmse"]) == model.best_iteration + 2


def test_of_xgboosts_workers_one_logs(monkeypatch):
    monkeypatch.setattr(xgboost.collective, "get_rank", lambda: 1)  # workers of Dask and Spark have no RANK
    train_xgboost(OfXGBoost("csv"))
    assert not Path("rankzero-runs").exists()


@pytest.mark.slow
def test_parallel_cross_validation_is_a_run_for_each_fold():
    model = xgboost.XGBRegressor(n_estimators=2, callbacks=[OfXGBoost("csv")])
    cross_val_score(model, X, Y, cv=2, n_jobs=2)
    runs = [rankzero.read_run(path) for path in Path("rankzero-runs/default").iterdir()]
    assert [data.status for data in runs] == ["success"] * 2


def test_lightgbm_logs_its_evaluations():
    callback = OfLightGBM("csv", project="p")
    expected = train_lightgbm(callback)
    data = finished(callback.run)
    assert_logged(data, expected)
    assert data.params["min_data"] == 1
    assert data.info.project == "p"


def test_lightgbm_logs_cross_validation_and_early_stopping():
    callback = OfLightGBM("csv")
    params = {"verbose": -1, "min_data": 1, "num_threads": 1}
    data = lightgbm.Dataset(X, Y.ravel())
    expected = lightgbm.cv(params, data, 3, nfold=2, stratified=False, callbacks=[callback], eval_train_metric=True)
    assert_logged(finished(callback.run), {name.replace(" ", "/"): values for name, values in expected.items()})
    callback = OfLightGBM("csv")
    model = lightgbm.LGBMRegressor(n_estimators=9, learning_rate=5.0, verbose=-1)
    model.fit(X, Y.ravel(), eval_set=[(X, Y.ravel())], callbacks=[callback, lightgbm.early_stopping(1, verbose=False)])
    data = finished(callback.run)
    assert len(points(data)["valid_0/l2"]) == model.best_iteration_ + 1
    assert data.status == "success"


def test_catboost_logs_what_its_event_files_have():
    callback = OfCatBoost("csv")
    train_catboost(callback)
    theirs = {f"learn/{name}": values for name, values in scalars("catboost/learn").items()}
    theirs |= {f"validation/{name}": values for name, values in scalars("catboost/test").items()}
    found = points(finished(callback.run))
    assert found.keys() == theirs.keys()
    for name, values in theirs.items():
        assert found[name] == [(step, pytest.approx(value)) for step, value in values]


def test_catboost_computes_some_metrics_only():
    callback = OfCatBoost("csv")
    model = train_catboost(callback, iterations=5, metric_period=2)
    assert points(finished(callback.run))["learn/RMSE"] == list(
        zip([0, 2, 4], model.get_evals_result()["learn"]["RMSE"], strict=True)
    )


def test_sklearn_logs_the_scores_of_its_own_monitor():
    callback, monitor = OfSklearn("csv", scoring="accuracy"), ScoringMonitor(scoring="accuracy")
    train_sklearn(callback, monitor)
    data = finished(callback.run)
    rows = [row for row in monitor.get_logs().data if row["parent_task_id_path"]]
    assert points(data) == {"train/accuracy": [(row["task_id"], row["accuracy"]) for row in rows]}
    assert (data.params["class"], data.params["max_iter"]) == ("LogisticRegression", 5)


def test_sklearn_logs_the_results_of_a_search():
    callback = OfSklearn("csv")
    search = GridSearchCV(linear_model.LogisticRegression(), {"C": [0.1, 1.0]}, cv=2).set_callbacks(callback)
    search.fit(X, Y.ravel() > 1)
    data = finished(callback.run)
    assert data.params["best_params"] == search.best_params_
    assert points(data) == {"best_score": [(0, search.best_score_)]}
    (table,) = data.tables["cv_results"]
    columns, rows = table.read()
    assert [row[columns.index("mean_test_score")] for row in rows] == list(search.cv_results_["mean_test_score"])


def test_torchtune_makes_its_logger_from_a_config():
    component = "rankzero.integrations.torchtune.RankzeroLogger"
    module, _, name = component.rpartition(".")
    logger = getattr(importlib.import_module(module), name)(loggers=["csv"], project="tune")
    logger.log_config({"lr": 0.1})
    logger.log_dict({"loss": torch.tensor(1.5), "lr": 0.1}, step=3)
    logger.log("tokens", 7, step=4)
    logger.close()
    data = only_run("tune")
    assert points(data) == {"loss": [(3, 1.5)], "lr": [(3, 0.1)], "tokens": [(4, 7)]}
    assert (data.params, data.status) == ({"lr": 0.1}, "success")
    assert isinstance(logger, OfTorchtune)


def test_deepspeed_writes_events():
    monitor = RankzeroMonitor("csv")
    assert monitor.enabled
    monitor.write_events([("Train/Samples/lr", 0.1, 8), ("Train/Samples/train_loss", torch.tensor(2.0), 8)])
    monitor.write_events([("Train/Samples/lr", 0.2, 16)])
    assert points(finished(monitor.run)) == {
        "Train/Samples/lr": [(8, 0.1), (16, 0.2)],
        "Train/Samples/train_loss": [(8, 2.0)],
    }
