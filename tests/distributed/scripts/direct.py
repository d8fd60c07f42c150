"""Loggers that are used directly, without a run, on all ranks."""

import os

import torch.distributed as dist
from ranks import leave, report

from rankzero import CSVLogger
from rankzero_wandb import WandbLogger

rank = int(os.environ["RANK"])
loggers = [WandbLogger(project="direct", id="shared"), CSVLogger(os.environ["RANKZERO_DIR"])]
early = [logger.experiment for logger in loggers]
dist.init_process_group("gloo")
for logger in loggers:
    logger.log_hyperparams({"lr": 0.1})
    for step in range(10):
        logger.log_metrics({"loss": rank + step / 8}, step)
dist.barrier()
for logger in loggers:
    logger.finalize("success")
    logger.close()
report(
    rank,
    experiments=[type(experiment).__name__ for experiment in early],
    versions=[logger.version for logger in loggers],
)
dist.destroy_process_group()
leave()
