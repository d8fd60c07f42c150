"""Which rank this process is, asked at call time: the only file that knows launchers.

The rank is never cached: a process may import rankzero long before its launcher, or the training script,
says which rank it is.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from rankzero.messages import warn

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("rankzero")

RANK_VARIABLES: Mapping[str, str] = {
    "RANK": "torchrun, Accelerate, DeepSpeed",
    "SLURM_PROCID": "SLURM (srun)",
    "OMPI_COMM_WORLD_RANK": "OpenMPI (mpirun)",
    "PMIX_RANK": "PMIx",
    "PMI_RANK": "MPICH, Intel MPI",
    "MV2_COMM_WORLD_RANK": "MVAPICH2",
    "PALS_RANKID": "Cray's PALS",
    "FLUX_TASK_RANK": "Flux",
    "HOROVOD_RANK": "horovodrun",
    "JSM_NAMESPACE_RANK": "LSF (jsrun)",
    "LOCAL_RANK": "launchers that know only the rank on one machine",
    "NODE_RANK": "launchers that know only the machine",
}
"""Environment variables that carry a rank, the most trusted first, with who sets them."""

_FIRST_RESERVED_STEP = 0xFFFFFFF0  # SLURM's numbers for batch scripts and interactive shells, which are no job steps
_TELLING_APART = ("SLURM_CLUSTER_NAME", "SLURM_STEP_LAUNCHER_PORT")  # another cluster has a job of the same number
_CONNECT_TIMEOUT = 2.0  # seconds


def _process_group_rank() -> int | None:
    # A process group exists only if the script has imported torch.distributed already.
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return int(distributed.get_rank())


def get_rank() -> int:
    """Return this process's global rank, 0 when nothing says otherwise.

    Asked in this order: an initialised ``torch.distributed`` process group, then the variables of
    `RANK_VARIABLES`; one that is not a number is ignored. ``RANK`` settles it. A zero in any other is believed
    only if the rest agree: ranks that ``mpirun`` or a script starts inside one SLURM task all inherit that task's
    ``SLURM_PROCID=0``. So what is returned is not zero on every other rank, though perhaps not its exact rank.

    >>> get_rank()
    0
    """
    rank = _process_group_rank()
    if rank is not None:
        return rank
    variable = rank_variable()
    return 0 if variable is None else int(os.environ[variable])


def rank_variable() -> str | None:
    """Return the name of the environment variable that settles the rank, None if none does: then it is 0."""
    for variable in RANK_VARIABLES:
        value = os.environ.get(variable, "")
        if value.isdecimal() and (int(value) > 0 or variable == "RANK"):
            return variable
    return None


def is_rank_zero() -> bool:
    """Return whether this process is the one that logs."""
    return get_rank() == 0


def rank_zero_only(function: Callable[P, R]) -> Callable[P, R | None]:
    """Make ``function`` do nothing and return None on every rank but zero; the rank is asked at each call."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | None:
        return function(*args, **kwargs) if is_rank_zero() else None

    return guarded


@rank_zero_only
def rank_zero_info(message: str, *args: Any) -> None:
    """Log at INFO to the logger named ``rankzero``, on rank zero only."""
    log.info(message, *args)


@rank_zero_only
def rank_zero_debug(message: str, *args: Any) -> None:
    """Log at DEBUG to the logger named ``rankzero``, on rank zero only."""
    log.debug(message, *args)


@rank_zero_only
def rank_zero_warn(message: str, category: type[Warning] = UserWarning, stacklevel: int = 2) -> None:
    """Warn on rank zero only; ``stacklevel`` counts from the caller, as in `warnings.warn`.

    A warning that the filters make an error (``python -W error``) is logged instead of raised.
    """
    warn(message, category, stacklevel + 1)


def launch_key() -> str | None:
    """Return what names this launch of a distributed job, the same on all its ranks and never used again.

    Known for SLURM job steps of several tasks and for whatever sets up PMIx (mpirun, jsrun, srun --mpi=pmix); None
    elsewhere. torchrun has no such name: its run id is "none" unless the user chose one, and it starts ranks again
    within one launch. Nor has a process whose ``RANK`` is not the rank that the launcher gave it: with ``RANK=0``,
    each task of a job step is a job of its own.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    mpi = os.environ.get("PMIX_NAMESPACE") or os.environ.get("OMPI_MCA_ess_base_jobid")  # noqa: SIM112
    # mpirun has srun start its ranks on other machines, in a job step of which those on the first know nothing.
    if mpi and ("OMPI_COMM_WORLD_RANK" in os.environ or not mpi.startswith("slurm")):
        return mpi if _counts_ranks("OMPI_COMM_WORLD_RANK") and _counts_ranks("PMIX_RANK") else None
    if _is_in_job_step() and _counts_ranks("SLURM_PROCID"):
        named = (os.environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"))
        return "-".join(["slurm", *named, *(os.environ[name] for name in _TELLING_APART if name in os.environ)])
    return None


def _is_in_job_step() -> bool:
    # A batch script, a shell on a compute node and a step of one task may start many jobs, each of one process.
    step = os.environ.get("SLURM_STEP_ID", "")
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS")
    return "SLURM_PROCID" in os.environ and step.isdecimal() and int(step) < _FIRST_RESERVED_STEP and tasks != "1"


def _counts_ranks(variable: str) -> bool:
    """Return whether ``variable`` does not contradict ``RANK``."""
    rank, counted = os.environ.get("RANK", ""), os.environ.get(variable, "")
    return not (rank.isdecimal() and counted.isdecimal()) or int(rank) == int(counted)


def group_store() -> Any | None:
    """Return the key-value store that all ranks share once they have initialised a process group, None before.

    Using a store needs no other rank to take part.
    """
    if _process_group_rank() is None:
        return None
    return sys.modules["torch.distributed"].distributed_c10d._get_default_store()


def torchrun_store() -> Any | None:
    """Connect to the key-value store that torchrun keeps for its ranks.

    None without torchrun, or before the script has imported ``torch.distributed``.

    Raises:
        OSError, RuntimeError: it does not answer.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    import socket

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # TCPStore tries a port that nobody listens on again and again; so knock first.
    socket.create_connection((address, port), _CONNECT_TIMEOUT).close()
    timeout = timedelta(seconds=_CONNECT_TIMEOUT)
    return distributed.TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timeout)
