"""Two runs, one after the other; some ranks read the id late."""

import os
import sys
import time

import torch.distributed as dist
from ranks import identity, leave, report

import rankzero

rank, name = int(os.environ["RANK"]), sys.argv[1]
first = rankzero.start("csv", name=f"first {name}")
if rank == 1:
    dist.init_process_group("gloo")
first.log_metrics({"loss": 1.0})
first.finish()
second = rankzero.start("csv", name=f"second {name}")
second.log_metrics({"loss": 2.0})
if rank != 1:
    dist.init_process_group("gloo")
began = time.monotonic()
known = identity(first), identity(second)
report(rank, first=known[0], second=known[1], asking=time.monotonic() - began)
second.finish()
dist.barrier()
dist.destroy_process_group()
leave()
