"""Each rank logs to a recorder with ``sync_dist``, and reads from it; the test has the same data."""

import math
import sys
import warnings
from datetime import timedelta

import torch
import torch.distributed as dist
from ranks import leave, report
from synced_data import BATCHES, data
from waiting import A_WHILE

import rankzero
from rankzero.errors import RecorderError

reductions = []  # for each all_reduce, how many numbers
exchanges = []  # of names


def count_collectives():
    all_reduce, gather = dist.all_reduce, dist.all_gather_object
    dist.all_reduce = lambda tensor, *a, **k: (reductions.append(tensor.numel()), all_reduce(tensor, *a, **k))[1]
    dist.all_gather_object = lambda *a, **k: (exchanges.append(1), gather(*a, **k))[1]


def taken():
    """Return how many all_reduces and exchanges of names there were since the last call."""
    counted = len(reductions), len(exchanges)
    reductions.clear()
    exchanges.clear()
    return counted


def batches(rank, count, epoch=0):
    """Yield batches and the values to log."""
    return ((torch.zeros(size, 2), value) for size, value in data(rank, count, epoch))


def reduced(run, rank, ranks):
    """Different numbers of batches, one rank without any, and names that not all ranks log."""
    rec = run.recorder(log_every_n_steps=0, sync_dist=True, progress_bar=None)
    read, collectives = [], []
    for epoch in rec.epochs(4):
        for _, value in rec.train(batches(rank, BATCHES[rank], epoch)):
            rec.log("mean", torch.tensor(value), on_step=False, on_epoch=True)
            for kind in ("sum", "min", "max"):
                rec.log(kind, value, on_step=False, on_epoch=True, reduce_fx=kind)
            rec.log(f"of_{rank % 2}", value, on_step=False, on_epoch=True)
        collectives.append(taken())
        read.append(rec.metrics)
    return {"read": read, "collectives": collectives}


def steps(run, rank, ranks):
    """Values of steps and epochs, in training and in two validation loaders."""
    rec = run.recorder(log_every_n_steps=2, progress_bar=None)
    collectives = []
    for epoch in rec.epochs(3):
        for _, value in rec.train(batches(rank, 6, epoch)):
            rec.log("loss", torch.tensor(value), on_step=True, on_epoch=True, sync_dist=True)
            rec.log("own", value)
        for _, value in rec.validate(batches(rank, BATCHES[rank], epoch), batches(rank, 1, epoch)):
            rec.log("val", value)  # of rank zero
        collectives.append(taken())
    return {"read": [rec.metrics], "collectives": collectives}


def reading(run, rank, ranks):
    """Decisions by step values whose rows are mostly not written: each rank must read the same."""
    rec = run.recorder(log_every_n_steps=3, progress_bar=None)
    read, unread = {}, []
    for epoch in rec.epochs(2):
        for index, (_, value) in enumerate(rec.train(batches(rank, 5, epoch))):
            rec.log("loss", torch.tensor(value), on_step=True, on_epoch=True, sync_dist=True)
            rec.log("plain", value, sync_dist=True, reduce_fx="max")
            if index == 0:
                unread.append(rec.metrics.get("plain"))
            if index < 3:
                read[f"{epoch}/{index}"] = [rec["loss"], rec["loss_step"], rec["plain"]]
            if epoch == 1 and index == 2 and rec["plain"] > 1.0:
                break
        read[f"{epoch}/end"] = [rec["plain"], rec["loss"], rec["loss_step"], rec["loss_epoch"], rec["loss"]]
    return {"read": read, "unread": unread}


def uneven(run, rank, ranks):
    """Steps that only some ranks have: ranks at their end take part in the steps of others."""
    rec = run.recorder(log_every_n_steps=1, sync_dist=True, progress_bar=None)
    for epoch in rec.epochs(3):
        for _, value in rec.train(batches(rank, BATCHES[rank], epoch)):
            rec.log("loss", torch.tensor(value), on_epoch=True)
    return {"read": [rec.metrics]}


def some(run, rank, ranks):
    """A metric of some of the ranks, a metric of rank zero, and one that is not a number everywhere."""
    group = dist.new_group([0, 1])
    rec = run.recorder(log_every_n_steps=0, progress_bar=None)
    for _, value in rec.train(batches(rank, 3)):
        rec.log("all", value, on_step=False, on_epoch=True, sync_dist=True)
        if rank < 2:
            rec.log("group", value, on_step=False, on_epoch=True, sync_dist=True, sync_dist_group=group)
        if rank == 0:
            rec.log("zero", value, on_step=False, on_epoch=True, rank_zero_only=True)
        odd = math.nan if rank == 1 else value
        rec.log("nan", odd, on_step=False, on_epoch=True, sync_dist=True)
        rec.log("inf", math.inf if rank == 1 else value, on_step=False, on_epoch=True, sync_dist=True, reduce_fx="max")
    collectives = [taken()]
    try:
        unreadable = str(rec["zero"])
    except KeyError as error:
        unreadable = f"KeyError {error}"
    return {"read": [rec.metrics], "collectives": collectives, "unreadable": unreadable}


def differing(run, rank, ranks):
    """If ranks reduce a metric differently, all of them get an error."""
    rec = run.recorder(log_every_n_steps=0, progress_bar=None)
    said = ""
    try:
        for _, value in rec.train(batches(rank, 2)):
            rec.log("loss", value, on_step=False, on_epoch=True, sync_dist=True, reduce_fx="max" if rank else "mean")
    except RecorderError as error:
        said = str(error)
    return {"said": said}


if __name__ == "__main__":
    warnings.simplefilter("ignore", FutureWarning)
    dist.init_process_group("gloo", timeout=timedelta(seconds=A_WHILE))
    rank, ranks = dist.get_rank(), dist.get_world_size()
    count_collectives()
    told = {}
    for scene in (reduced, steps, reading, uneven, some, differing):
        with rankzero.start(name=scene.__name__, delivery="off") as run:
            taken()
            told[scene.__name__] = scene(run, rank, ranks)
    report(rank, **told)
    sys.stdout.flush()
    dist.barrier()
    leave()
