"""The duration of a log call with each integration and compat module, and with the tool that it replaces.

All run in one process, in turns: W&B offline, MLflow on a SQLite database, and rankzero, each with the processes that
it starts. A call has as many numbers as a Trainer logs.
"""

import os
import tempfile
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace

import mlflow
import wandb
from accelerate.tracking import MLflowTracker, WandBTracker
from ignite.engine import Engine, Events
from ignite.handlers.mlflow_logger import MLflowLogger
from ignite.handlers.mlflow_logger import OutputHandler as MLflowOutput
from ignite.handlers.wandb_logger import OutputHandler as WandbOutput
from ignite.handlers.wandb_logger import WandBLogger
from measuring import Table
from mlflow.entities import Metric
from torch.utils import tensorboard
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import MLflowCallback, WandbCallback

import rankzero.compat.tensorboard as our_tensorboard
import rankzero.compat.wandb as our_wandb
from rankzero.integrations.accelerate import RankzeroTracker
from rankzero.integrations.ignite import OutputHandler, RankzeroLogger
from rankzero.integrations.transformers import RankzeroCallback
from rankzero.run.endings import open_runs

LOGS = {"loss": 0.5, "grad_norm": 1.25, "learning_rate": 1e-3, "epoch": 0.5, "num_tokens": 4096.0}
ROUNDS = 15
CALLS = 60
FASTER = 10
"""Minimum ratio of the durations of a log call, the fastest other tool to rankzero."""

Log = Callable[[int], object]
"""Logs at a step."""


def of_transformers(callback) -> Log:
    arguments = TrainingArguments("out", report_to="none", use_cpu=True)
    state, control = TrainerState(is_world_process_zero=True), TrainerControl()
    callback.on_train_begin(arguments, state, control)

    def log(step: int) -> None:
        state.global_step = step
        callback.on_log(arguments, state, control, logs=dict(LOGS))

    return log


def of_accelerate(tracker) -> Log:
    tracker.start()
    return lambda step: tracker.log(dict(LOGS), step)


def of_ignite(logger, handler) -> Log:
    engine = Engine(lambda engine, batch: None)
    engine.state = SimpleNamespace(
        metrics=LOGS, output=None, get_event_attrib_value=lambda event: engine.state.iteration, iteration=0
    )
    attached = handler(tag="train", metric_names="all")

    def log(step: int) -> None:
        engine.state.iteration = step
        attached(engine, logger, Events.ITERATION_COMPLETED)

    return log


def of_writer(writer) -> Log:
    def log(step: int) -> None:
        for name, value in LOGS.items():
            writer.add_scalar(name, value, step)

    return log


def of_wandb(run) -> Log:
    return lambda step: run.log(dict(LOGS), step)


def of_mlflow(tracking_uri: str) -> Log:
    client = mlflow.MlflowClient(tracking_uri)
    run_id = client.create_run(client.create_experiment("client")).info.run_id
    return lambda step: client.log_batch(run_id, [Metric(name, value, 0, step) for name, value in LOGS.items()])


def transformers() -> dict[str, Log]:
    return {
        "rankzero": of_transformers(RankzeroCallback("csv")),
        "W&B": of_transformers(WandbCallback()),
        "MLflow": of_transformers(MLflowCallback()),
    }


def accelerate() -> dict[str, Log]:
    return {
        "rankzero": of_accelerate(RankzeroTracker("bench", loggers="csv")),
        "W&B": of_accelerate(WandBTracker("bench")),
        "MLflow": of_accelerate(MLflowTracker("bench", nested_run=True)),
    }


def ignite() -> dict[str, Log]:
    return {
        "rankzero": of_ignite(RankzeroLogger("csv"), OutputHandler),
        "W&B": of_ignite(WandBLogger(), WandbOutput),
        "MLflow": of_ignite(MLflowLogger(), MLflowOutput),
    }


def summary_writer() -> dict[str, Log]:
    return {
        "rankzero": of_writer(our_tensorboard.SummaryWriter("ours", loggers="csv")),
        "torch": of_writer(tensorboard.SummaryWriter("theirs")),
    }


def import_wandb() -> dict[str, Log]:
    return {"rankzero": of_wandb(our_wandb.init(project="bench")), "W&B": of_wandb(wandb.init(project="bench"))}


def mlflow_client() -> dict[str, Log]:
    return {"rankzero": of_mlflow("rankzero:rankzero-runs"), "MLflow": of_mlflow(os.environ["MLFLOW_TRACKING_URI"])}


INTEGRATIONS = {
    "Transformers": transformers,
    "Accelerate": accelerate,
    "Ignite": ignite,
    "SummaryWriter": summary_writer,
    "import wandb": import_wandb,
    "MLflow's client": mlflow_client,
}
"""Integration or module → a function that returns tool → its log call, rankzero's first."""


def microseconds(log: Log, first: int) -> float:
    """Return the median duration of a call in a round."""
    taken = []
    for step in range(first, first + CALLS):
        began = time.perf_counter()
        log(step)
        taken.append(time.perf_counter() - began)
    return median(taken) * 1e6


def main() -> None:
    table = Table(f"A log call of {len(LOGS)} numbers, median")
    for integration, start in INTEGRATIONS.items():
        tools = start()
        rounds = [[microseconds(log, number * CALLS) for log in tools.values()] for number in range(ROUNDS)]
        for tool, each in zip(tools, zip(*rounds, strict=True), strict=True):
            table.show(f"{integration}: {tool}", median(each), "µs", digits=1)
        share = median(ours / min(theirs) for ours, *theirs in rounds)
        table.show(f"{integration}: rankzero / the fastest of them", share, "×", limit=1 / FASTER, digits=3)
        end()
    table.exit()


def end() -> None:
    """End the runs of all tools."""
    while mlflow.active_run():
        mlflow.end_run()
    wandb.finish()
    for run in list(open_runs()):
        run.finish()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "RANKZERO_FINISH_TIMEOUT": "5"}
        os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{directory}/mlflow.db"}
        main()
