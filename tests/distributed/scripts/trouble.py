"""Training on all ranks with an error; the arguments are its kind and its rank."""

import os
import signal
import sys
import time

import torch.distributed as dist
from ranks import leave, report
from servers.down_logger import HangingLogger
from training import train

import rankzero

rank, trouble = int(os.environ["RANK"]), sys.argv[1]
struck, when = (int(sys.argv[2]), sys.argv[3]) if len(sys.argv) > 2 else (None, None)
dist.init_process_group("gloo")
run = rankzero.start(HangingLogger() if trouble == "the tracker hangs" else sys.argv[4:] or "csv", project="trouble")


def strike():
    if trouble == "raises":
        raise RuntimeError("the loss is a pineapple")
    if trouble == "exits":
        os._exit(3)
    if trouble == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)


def each_step(step):
    if step == 5 and rank == struck and when == "in the middle":
        strike()


if when == "before the first log call":
    dist.barrier()  # torchrun ends rank zero at once, which may not have started its run yet
    if rank == struck:
        strike()
logging = train(run, each_step=each_step)
dist.barrier()
dist.destroy_process_group()
trained = time.monotonic()
run.finish(timeout=2.0)
report(rank, logging=logging, finishing=time.monotonic() - trained)
leave()
