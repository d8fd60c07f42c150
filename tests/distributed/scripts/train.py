"""Training on all ranks, which ask for the run's identity at different times, in a different order, or never."""

import os
import sys
import time

import torch.distributed as dist
from ranks import count_couriers, identity, leave, loaded, report
from training import train

import rankzero

rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
finish_order, loggers = sys.argv[1], sys.argv[2:]
run = rankzero.start(loggers, project="ddp", config={"lr": 0.01})
before = identity(run) if rank in (0, 1) else None
dist.init_process_group("gloo")
losses = []
train(run, each_loss=losses.append)
if rank != 3:
    after = identity(run)
returned = [
    run.log_metrics({"x": 1.0}, 20),
    run.log_text("note", "done"),
    run.log_histogram("h", [1.0, 2.0]),
    run.finalize("success"),
]
report(
    rank,
    before=before,
    after=after if rank != 3 else None,
    returned=returned,
    loaded=loaded(),
    losses=losses,
    experiment=type(run.experiment).__name__,
    couriers=count_couriers() if rank == 0 else None,
)
dist.barrier()
dist.destroy_process_group()
if finish_order != "others never":
    time.sleep(0.3 * (rank if finish_order == "rank zero first" else ranks - 1 - rank))
    run.finish()
elif rank == 0:
    run.finish()
leave()
