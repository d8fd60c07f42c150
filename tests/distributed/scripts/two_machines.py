"""DDP training on two machines, which share nothing but the network."""

import os
import socket
import time

import torch.distributed as dist
from ranks import identity, leave, report
from training import train
from waiting import SOON

import rankzero

rank = int(os.environ["RANK"])
run = rankzero.start("csv")
began = time.monotonic()
early = identity(run)
asking = time.monotonic() - began
dist.init_process_group("gloo")
logging = train(run)
report(rank, known=[early, identity(run)], asking=asking, logging=logging, host=socket.gethostname())
dist.barrier()
dist.destroy_process_group()
began = time.monotonic()
run.finish()
if rank:
    assert time.monotonic() - began < SOON
leave()
