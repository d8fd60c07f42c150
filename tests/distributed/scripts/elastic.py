"""Ranks of which the last one fails in the first attempt of torchrun."""

import os
import sys
import time
from pathlib import Path

import torch.distributed as dist
from ranks import identity, leave, report

import rankzero

rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
mark = Path(os.environ["REPORTS"], "was here")
attempt = int(mark.exists())


def each_step(step):
    if attempt == 0 and step == 5:
        if rank < ranks - 1:
            time.sleep(60)  # until torchrun ends it
        time.sleep(2)  # rank 0 logs meanwhile
        mark.touch()
        raise RuntimeError("the first attempt fails")


if sys.argv[1] == "process group":
    dist.init_process_group("gloo")
if rank == 0:
    time.sleep(1)  # the others ask before there is an answer
run = rankzero.start("csv", name="given once" if attempt == 0 else None)
first = run.step + 1
report(10 * attempt + rank, known=identity(run), first=first, resumed=run.resumed, attempt=attempt)
for step in range(20):
    run.log_metrics({"loss": 1.0}, step)
    each_step(step)
if dist.is_initialized():
    dist.barrier()
    dist.destroy_process_group()
run.finish()
leave()
