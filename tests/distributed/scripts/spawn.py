"""Ranks that torch.multiprocessing starts; no environment variable contains their rank."""

import os
import sys
import time
import warnings

import torch.distributed as dist
import torch.multiprocessing as mp
from ranks import count_couriers, identity, loaded, report
from training import train

import rankzero

RANKS = 2


def init(rank, ranks=RANKS):
    store = "file://" + os.path.join(os.environ["REPORTS"], "store")
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)


def start_in_worker(rank):
    init(rank)
    run = rankzero.start("csv")
    train(run)
    couriers = count_couriers()
    dist.barrier()
    report(rank, known=identity(run), loaded=loaded(), couriers=couriers)
    run.finish()
    dist.barrier()
    dist.destroy_process_group()


def take_copy(rank, run):
    init(rank)
    run.log_hyperparams({f"rank {rank}": True})
    run.log_metrics({"rank": rank}, 100 + rank)
    train(run)
    run.log_text(f"rank {rank}", "done")
    report(rank, known=identity(run), couriers=count_couriers())
    run.finish()
    dist.barrier()
    dist.destroy_process_group()


def learn_late(rank):
    run = rankzero.start("csv")
    mine = run.id
    run.log_metrics({"loss": 0.5}, 0)
    init(rank, 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        deadline = time.monotonic() + 2.5
        step = 1
        while time.monotonic() < deadline:
            run.log_metrics({"loss": 0.5}, step)
            time.sleep(0.01)
            step += 1
        last = step
        run.log_metrics({"loss": 0.5}, last)
        run.log_text("note", "after")
        run.log_hyperparams({"after": True})
    said = [str(warning.message) for warning in caught]
    report(rank, mine=mine, known=identity(run), last=last, said=said, experiment=type(run.experiment).__name__)
    run.finish()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[1] == "start in worker":
        mp.spawn(start_in_worker, nprocs=RANKS)
    elif sys.argv[1] == "take copy":
        with rankzero.start("csv") as run:
            mp.spawn(take_copy, args=(run,), nprocs=RANKS)
    else:
        mp.spawn(learn_late, nprocs=2)
