"""System metrics of the other nodes of a job get into the journal on rank zero."""

import os
import signal
import socket
import sys

import psutil
import pytest
from waiting import A_MOMENT, until

from rankzero.events.structs import Metrics

pytestmark = pytest.mark.slow


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def agents(job, port, what, ranks=1):
    """Start the agents of torchrun with a static rendezvous."""
    rendezvous = ["--nnodes=2", "--master-addr=127.0.0.1", f"--master-port={port}", f"--nproc-per-node={ranks}"]
    return [job.start([*job.TORCHRUN, *rendezvous, f"--node-rank={node}"], "nodes.py", what) for node in range(2)]


def of_node_1(job):
    """Return the measurements of the other node in the journal, which must be at its end, too."""
    (run,) = job.runs
    assert job.ends(run) == ["success"]
    rows = [event.values for event in job.events(run, Metrics)]
    assert all(len({name.startswith("system/node1/") for name in row}) == 1 for row in rows)
    return [row for row in rows if "system/node1/process/memory_gb" in row]


def test_the_first_process_of_each_node_measures(job, port):
    endpoint = ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=job"]
    launcher = [*job.TORCHRUN, *endpoint, "--nproc-per-node=2"]
    job.wait(*(job.start(launcher, "nodes.py", "nothing else") for node in range(2)))
    assert [report["measuring"] for report in job.reports()] == [1, 0, 1, 0]
    assert [report["left"] for report in job.reports()] == [0] * 4
    found = of_node_1(job)[-1]
    assert found["system/node1/process/memory_gb"] > 0.4  # only there are so many
    assert found.keys() >= {"system/node1/cpu_percent", "system/node1/disk_free_gb"}


def test_a_killed_node_leaves_nothing_and_does_not_end_the_run(job, port):
    _, agent = agents(job, port, "kill")
    until(lambda: len(job.reports()) == 2)
    process = psutil.Process(job.reports()[1]["pid"])
    (measuring,) = process.children()
    for each in (agent, process):
        each.kill()
    agent.wait()
    (job.directory / "killed").touch()
    until(lambda: job.ends(job.runs[0]))
    assert of_node_1(job)
    until(lambda: not measuring.is_running())


def test_a_process_group_is_made_again(job, port):
    """Rank zero has the store here: without an agent, whose store outlives the process group."""
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": "0"}
    variables |= {"WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2"}
    job.wait(
        *(
            job.start([sys.executable], "nodes.py", "again", RANK=rank, GROUP_RANK=rank, **variables)
            for rank in ("0", "1")
        )
    )
    assert not job.reports()[0]["port_is_open"]  # in between
    assert len(of_node_1(job)) >= 2
    assert "c10d" not in job.output  # a warning of torch, as rank 1 goes on without the store


def test_a_store_that_does_not_answer_does_not_hold_up_the_end(job, port):
    stopped, other = agents(job, port, "stop")
    until(lambda: len(job.reports()) == 2)
    os.kill(stopped.pid, signal.SIGCONT)
    job.wait(stopped, other)
    assert max(report["finishing"] for report in job.reports()) < A_MOMENT
    assert of_node_1(job)
