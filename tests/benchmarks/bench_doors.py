"""How long a log call takes through each integration, beside the framework's own integrations of trackers.

All of it runs in one process, by turns: W&B offline, MLflow on a SQLite database, and rankzero, each with the processes
that it starts. There are as many numbers in a call as a Trainer logs.
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
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import MLflowCallback, WandbCallback

import rankzero.compat.wandb as compat
from rankzero.integrations.accelerate import RankzeroTracker
from rankzero.integrations.ignite import OutputHandler, RankzeroLogger
from rankzero.integrations.transformers import RankzeroCallback
from rankzero.run.endings import open_runs

LOGS = {"loss": 0.5, "grad_norm": 1.25, "learning_rate": 1e-3, "epoch": 0.5, "num_tokens": 4096.0}
ROUNDS = 15
CALLS = 60
FASTER = 10
"""So many times less than the faster one of W&B's and MLflow's integration does a log call take."""

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


def doors() -> dict[str, dict[str, Log]]:
    """Return integration → tool → its log call."""
    run = compat.init()
    return {
        "import wandb": {
            "rankzero": lambda step: run.log(dict(LOGS), step),
            "W&B": lambda step: wandb.log(dict(LOGS), step),
            "MLflow": lambda step: mlflow.log_metrics(dict(LOGS), step),
        },
        "Transformers": {
            "rankzero": of_transformers(RankzeroCallback("csv")),
            "W&B": of_transformers(WandbCallback()),
            "MLflow": of_transformers(MLflowCallback()),
        },
        "Accelerate": {
            "rankzero": of_accelerate(RankzeroTracker("bench", loggers="csv")),
            "W&B": of_accelerate(WandBTracker("bench")),
            "MLflow": of_accelerate(MLflowTracker("bench", nested_run=True)),
        },
        "Ignite": {
            "rankzero": of_ignite(RankzeroLogger("csv"), OutputHandler),
            "W&B": of_ignite(WandBLogger(), WandbOutput),
            "MLflow": of_ignite(MLflowLogger(), MLflowOutput),
        },
    }


def microseconds(log: Log, first: int) -> float:
    """Return the median of the calls of a round."""
    taken = []
    for step in range(first, first + CALLS):
        began = time.perf_counter()
        log(step)
        taken.append(time.perf_counter() - began)
    return median(taken) * 1e6


def main() -> None:
    table = Table(f"A log call of {len(LOGS)} numbers, median")
    for door, tools in doors().items():
        rounds = [{tool: microseconds(log, number * CALLS) for tool, log in tools.items()} for number in range(ROUNDS)]
        for tool in tools:
            table.show(f"{door}: {tool}", median(each[tool] for each in rounds), "µs", digits=1)
        share = median(each["rankzero"] / min(each["W&B"], each["MLflow"]) for each in rounds)
        table.show(f"{door}: rankzero / the faster of them", share, "×", limit=1 / FASTER, digits=3)
    while mlflow.active_run():
        mlflow.end_run()
    wandb.finish()
    for run in list(open_runs()):
        run.finish()
    table.exit()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "RANKZERO_FINISH_TIMEOUT": "5"}
        os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{directory}/mlflow.db"}
        main()
