"""Two machines: each has its own network, name, home, working directory, temporary directory and runs.

They are network namespaces, connected by a cable of the kernel's; where those are not permitted, two addresses of
the loopback device.
"""

import os
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest
from waiting import A_MOMENT, SOON

ADDRESSES = ("10.213.0.1", "10.213.0.2")
PORT = 29411


class Machine(NamedTuple):
    """Where one of the two nodes of the job runs."""

    address: str
    interface: str
    launcher: list[str]
    """What comes before a command to run it there."""


def network(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def namespaces():
    """Connect two network namespaces; None where that is not permitted."""
    mark = f"rz{os.getpid()}"
    names = [f"{mark}a", f"{mark}b"]
    try:
        for name in names:
            network("netns", "add", name)
        network("link", "add", names[0], "netns", names[0], "type", "veth", "peer", names[1], "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            network("-n", name, "address", "add", f"{address}/24", "dev", name)
            network("-n", name, "link", "set", name, "up")
            network("-n", name, "link", "set", "lo", "up")
        yield names
    except (FileNotFoundError, subprocess.CalledProcessError):
        yield None
    finally:
        for name in names if shutil.which("ip") else []:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.fixture
def machines(namespaces):
    if namespaces is None:
        return [Machine(f"127.0.0.{number}", "lo", []) for number in (1, 2)]
    renamed = 'hostname "$0" && exec "$@"'
    return [
        Machine(
            address, name, ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", renamed, f"machine-{name}"]
        )
        for name, address in zip(namespaces, ADDRESSES, strict=True)
    ]


def start(job, machine, number, first):
    """Start the agent of torchrun on a machine, on which everything is empty."""
    places = {name: job.directory / f"machine-{number}" / name for name in ("cwd", "home", "tmp", "runs")}
    for place in places.values():
        place.mkdir(parents=True)
    launcher = [
        *machine.launcher, "env", f"--chdir={places['cwd']}", *job.TORCHRUN, "--nnodes=2", f"--node-rank={number}",
        "--nproc-per-node=2", f"--master-addr={first.address}", f"--master-port={PORT}",
    ]  # fmt: skip
    return job.start(
        launcher,
        "two_machines.py",
        HOME=str(places["home"]),
        TMPDIR=str(places["tmp"]),
        RANKZERO_DIR=str(places["runs"]),
        GLOO_SOCKET_IFNAME=machine.interface,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's loopback addresses")
def test_second_machine_writes_nothing_and_knows_the_run(job, machines):
    first = machines[0]
    job.wait(*(start(job, machine, number, first) for number, machine in enumerate(machines)))

    here, there = job.directory / "machine-0", job.directory / "machine-1"
    (run,) = (path.parent for path in here.glob("runs/*/*/journal.jsonl"))
    reports = job.reports()
    assert len({report["host"] for report in reports}) == (2 if first.launcher else 1)
    assert job.steps(run) == list(range(20))
    assert job.ends(run) == ["success"]
    # The directory is the one on the first machine.
    assert {tuple(known) for report in reports for known in report["known"]} == {tuple(reports[0]["known"][0])}
    assert reports[0]["known"][0][::2] == [run.name, str(run)]
    assert max(report["asking"] for report in reports) < SOON
    assert max(report["logging"] for report in reports) < A_MOMENT
    for machine in (here, there):
        litter = [path for name in ("cwd", "home", "tmp") for path in (machine / name).iterdir()]
        assert [path for path in litter if not path.name.startswith("torch")] == []
    assert list((there / "runs").iterdir()) == []
