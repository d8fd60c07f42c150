"""The loggers that write to a server, or to a database as if it were one."""

import shutil

from integrations.drop_in.bench import Bench
from lightning.pytorch import loggers
from mlflow import MlflowClient
from plugins.comet.direct import QUIET, params
from plugins.mlflow.tracked import Held
from plugins.wandb.arrived import STEP

from rankzero_comet import CometLogger
from rankzero_mlflow import MLFlowLogger
from rankzero_wandb import WandbLogger


class MlflowBench(Bench):
    tracker = "mlflow"
    theirs, ours = loggers.MLFlowLogger, MLFlowLogger

    def __init__(self, directory, empty_database):
        super().__init__(directory)
        self.uri = f"sqlite:///{directory}/mlflow.db"
        shutil.copy(empty_database, directory / "mlflow.db")

    def place(self, name):
        return {"tracking_uri": self.uri, "experiment_name": "p", "run_name": name}

    def parts_of(self, logger):
        return [logger.run_id]

    def begun(self):
        client = MlflowClient(self.uri)
        return sum(len(client.search_runs([each.experiment_id])) for each in client.search_experiments())

    def arrived(self, logger):
        held = Held(self.uri, logger.run_id)
        client = MlflowClient(self.uri)
        names = client.get_run(logger.run_id).data.metrics
        return {
            "metrics": {name: [point[:2] for point in held.points(name)] for name in names},
            "params": held.params,
            "status": held.info.status,
            "name": self.without_place(logger, held.info.run_name),
            "tags": sorted(name for name in held.tags if not name.startswith("mlflow.source")),
        }


class WandbBench(Bench):
    tracker = "wandb"
    theirs, ours = loggers.WandbLogger, WandbLogger

    def __init__(self, directory, server):
        super().__init__(directory)
        self.server = server

    def place(self, name):
        return {"save_dir": self.directory, "project": "p", "name": "brave-owl", "id": name}

    def begun(self):
        return len(self.server.store.runs)

    def end(self, logger):
        import wandb

        if logger._experiment if type(logger) is self.theirs else logger._direct.is_open:
            logger.experiment.finish()
        assert wandb.run is None

    def arrived(self, logger):
        self.end(logger)
        run = self.server.run(logger.version)
        rows = [{name: value for name, value in row.items() if not name.startswith("_")} for row in run.history]
        names = {name for row in rows for name in row} - {STEP}
        return {
            "metrics": {name: [(row.get(STEP), row[name]) for row in rows if name in row] for name in sorted(names)},
            "params": {name: value for name, value in run.config.items() if not name.startswith("_")},
            "status": (run.state, run.exit_code),
            "name": run.display_name,
            "tags": list(run.tags),
            "definitions": run.metrics,
        }


class CometBench(Bench):
    tracker = "comet"
    theirs, ours = loggers.CometLogger, CometLogger

    def __init__(self, directory, server):
        super().__init__(directory)
        self.server = server

    def place(self, name):
        return {**QUIET, "experiment_key": name.replace("-", "").ljust(40, "0")}

    def begun(self):
        return len(self.server.store.experiments)

    def parts_of(self, logger):
        return [self.place("a-theirs")["experiment_key"], self.place("a-ours")["experiment_key"]]

    def end(self, logger):
        if type(logger) is self.ours:
            logger.close()
        elif logger.version is not None:
            logger.experiment.end()

    def arrived(self, logger):
        key = logger.version
        self.end(logger)
        stored = self.server.experiment(key)
        metrics = {}
        for each in stored.metrics:
            if not each.name.startswith(("sys.", "process ")):
                metrics.setdefault(each.name, []).append((each.step, each.epoch, each.value))
        return {
            "metrics": metrics,
            "params": params(stored),
            "status": stored.state,
            "name": stored.name,
            "tags": stored.tags,
            "Created from": stored.others.get("Created from"),
        }
