"""DDP training in which something goes wrong in the middle."""

import os
import sys
import time

import torch.distributed as dist
from ranks import leave, report, train
from servers.down_logger import HangingLogger

import rankzero

rank, trouble = int(os.environ["RANK"]), sys.argv[1]
dist.init_process_group("gloo")
run = rankzero.start(HangingLogger() if trouble == "the tracker hangs" else "csv")


def each_step(step):
    if step == 5 and trouble == "rank 0 raises" and rank == 0:
        raise RuntimeError("the loss is a pineapple")
    if step == 5 and trouble == "rank 2 dies" and rank == 2:
        os._exit(3)


logging = train(run, each_step=each_step)
dist.barrier()
dist.destroy_process_group()
trained = time.monotonic()
run.finish(timeout=2.0)
report(rank, logging=logging, finishing=time.monotonic() - trained)
leave()
