"""Ranks on two nodes, whose systems are measured."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import torch.distributed as dist
from ranks import leave, report
from waiting import until

import rankzero

rank, what = int(os.environ["RANK"]), sys.argv[1]
reports = Path(os.environ["REPORTS"])
memory = b"x" * 300_000_000 if rank and os.environ["LOCAL_RANK"] == "0" else b""
run = rankzero.start([], run_id="r1", system_metrics=0.1, capture_environment=False)


def measuring():
    return sum("rankzero.capture.system_metrics" in each.cmdline() for each in psutil.Process().children())


def port_is_open():
    with socket.socket() as client:
        return client.connect_ex((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))) == 0


def wait_for_the_other_node():
    """Wait on all ranks until rank zero has received something new from the other node."""
    if rank == 0:
        journal = run.dir / "journal.jsonl"
        before = journal.stat().st_size
        until(lambda: b"system/node1/" in journal.read_bytes()[before:])
    dist.barrier()


dist.init_process_group("gloo")
wait_for_the_other_node()
known = {"measuring": measuring()}
if what == "again":
    dist.destroy_process_group()
    if rank == 0:
        known["port_is_open"] = port_is_open()
        (reports / "destroyed").touch()
    until((reports / "destroyed").exists)  # else rank 1 may connect to the store that is about to end
    dist.init_process_group("gloo")
    wait_for_the_other_node()
    if rank:  # rank zero ends now, and with it the store
        until(lambda: not port_is_open())
        time.sleep(3)
if what == "kill":
    report(rank, **known)
    until((reports / "killed").exists)
elif what == "stop" and rank == 0:
    os.kill(os.getppid(), signal.SIGSTOP)  # the agent, which has the store
    time.sleep(0.5)  # meanwhile rank zero asks the store
began = time.monotonic()
run.finish()
report(rank, **known, finishing=time.monotonic() - began, left=measuring())
leave()
