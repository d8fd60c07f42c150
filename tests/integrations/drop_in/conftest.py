"""Both classes of each tracker, and servers on loopback."""

import os

import pytest

pytest.importorskip("lightning")
from integrations.drop_in.hosted import CometBench, MlflowBench, WandbBench
from integrations.drop_in.local import CsvBench, TensorBoardBench
from servers import mlflow_server
from servers.comet_server import CometServer
from servers.wandb_server import WandbServer

from rankzero_comet.options import load_sdk

TRACKERS = ("csv", "tensorboard", "mlflow", "wandb", "comet")


def pytest_collection_modifyitems(items):
    """Warnings of Lightning and the SDKs, which cannot be fixed here."""
    for item in items:
        if "drop_in" in item.path.parts:
            for text in ("ignore::DeprecationWarning", "ignore:.*isinstance.treespec"):
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    return mlflow_server.empty_database(mlflow_server.shared_directory(tmp_path_factory))


@pytest.fixture(params=TRACKERS)
def tracker(request):
    return request.param


@pytest.fixture
def bench(tracker, request, tmp_path, monkeypatch):
    """A `Bench` of the tested tracker, in a process without others."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("WANDB_", "COMET_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    made = request.getfixturevalue(f"{tracker}_bench")
    yield made
    made.close()


@pytest.fixture
def csv_bench(tmp_path):
    return CsvBench(tmp_path)


@pytest.fixture
def tensorboard_bench(tmp_path):
    return TensorBoardBench(tmp_path)


@pytest.fixture
def mlflow_bench(tmp_path, empty_database, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    yield MlflowBench(tmp_path, empty_database)
    mlflow.set_tracking_uri(None)  # Lightning's logger sets it for the whole process
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def wandb_bench(tmp_path, monkeypatch):
    import wandb

    with WandbServer() as server:
        for name, value in server.environment(tmp_path).items():
            if name != "WANDB_DIR":
                monkeypatch.setenv(name, value)
        wandb.teardown()
        # It numbers the models that a process watches; so this puts the number back.
        monkeypatch.setattr("wandb.sdk.wandb_watch._global_watch_idx", 0)
        yield WandbBench(tmp_path, server)
        wandb.teardown()
        assert server.problems == []


@pytest.fixture
def comet_bench(tmp_path, monkeypatch):
    comet_ml = load_sdk()
    with CometServer() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(tmp_path))
        comet_ml.api.get_instance.cache_clear()  # which knows the servers of other tests
        yield CometBench(tmp_path, server)
        assert server.problems == []
