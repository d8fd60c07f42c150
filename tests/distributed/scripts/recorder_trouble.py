"""Rank zero fails in an epoch, and the others get an error when the process group times out."""

import time
from datetime import timedelta

import torch.distributed as dist
from ranks import leave, report

import rankzero

TIMEOUT = 3.0


def train(run, rank):
    rec = run.recorder(log_every_n_steps=1, sync_dist=True, progress_bar=None)
    for epoch in rec.epochs(3):
        for batch in rec.train(range(4)):
            if (rank, epoch, batch) == (0, 1, 2):
                raise ArithmeticError("the loss is a pineapple")
            rec.log("loss", float(batch), on_step=False, on_epoch=True, batch_size=1)


dist.init_process_group("gloo", timeout=timedelta(seconds=TIMEOUT))
rank = dist.get_rank()
error = None
began = time.monotonic()
try:
    with rankzero.start("csv") as run:
        train(run, rank)
except Exception as caught:
    error = type(caught).__name__
report(rank, error=error, took=time.monotonic() - began)
time.sleep(TIMEOUT + 2 if rank == 0 else 0)  # its death would tell the others sooner
leave()
