"""The rank of this process, and the stores that ranks share. The only file that knows launchers.

The rank is not cached: a process may import rankzero before the launcher or the training script sets the rank.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, ParamSpec, TypeVar

from rankzero.messages import warn, warn_user

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
"""Environment variables with a rank, the most reliable first, and the launchers that set them."""

_FIRST_RESERVED_STEP = 0xFFFFFFF0  # from here on SLURM's step ids mean batch scripts and interactive shells
_CLUSTER_VARIABLES = ("SLURM_CLUSTER_NAME", "SLURM_STEP_LAUNCHER_PORT")  # two clusters may use the same job id
_CONNECT_TIMEOUT = 2.0  # seconds
_NODE_VARIABLES = (  # the number of the node, the number of nodes, the rank of the process on its node
    ("GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_RANK"),  # torchrun, Accelerate
    ("CROSS_RANK", "CROSS_SIZE", "LOCAL_RANK"),  # DeepSpeed
    ("SLURM_NODEID", "SLURM_STEP_NUM_NODES", "SLURM_LOCALID"),
)


def _process_group_rank() -> int | None:
    # There is a process group only if the script has imported torch.distributed.
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return int(distributed.get_rank())


def get_rank() -> int:
    """Return the global rank of this process; 0 without a launcher.

    The sources are, in this order, an initialised ``torch.distributed`` process group and the variables in
    `RANK_VARIABLES`. A variable that is not a number is ignored. ``RANK`` decides. A zero in another variable counts
    only if no later variable is above 0: ranks that ``mpirun`` or a script starts inside one SLURM task all inherit its
    ``SLURM_PROCID=0``. So a process with another rank never gets 0, but may not get its exact rank.

    >>> get_rank()
    0
    """
    rank = _process_group_rank()
    if rank is not None:
        return rank
    variable = rank_variable()
    return 0 if variable is None else int(os.environ[variable])


def rank_variable() -> str | None:
    """Return the name of the environment variable that decides the rank, or None if the rank is 0 by default."""
    for variable in RANK_VARIABLES:
        value = os.environ.get(variable, "")
        if value.isdecimal() and (int(value) > 0 or variable == "RANK"):
            return variable
    return None


def is_rank_zero() -> bool:
    """Return whether this process has rank zero, the only rank that logs."""
    return get_rank() == 0


def rank_zero_only(function: Callable[P, R]) -> Callable[P, R | None]:
    """Decorate ``function`` to run on rank zero only; on other ranks it returns None. Each call checks the rank."""

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

    If warnings are errors (``python -W error``), the message is logged instead of raised.
    """
    warn(message, category, stacklevel + 1)


@rank_zero_only
def rank_zero_warn_user(message: str) -> None:
    """Warn on rank zero only, with the location of the nearest caller outside this package."""
    warn_user(message)


def launch_key() -> str | None:
    """Return a unique key of this launch of a distributed job, the same on all its ranks; None if there is none.

    SLURM job steps of several tasks and launchers that set up PMIx (mpirun, jsrun, srun --mpi=pmix) have a key.
    torchrun has none: its run id is "none" unless the user sets one, and it restarts ranks within one launch. A process
    whose ``RANK`` differs from the rank of its launcher has none either: with ``RANK=0`` each task of a job step is a
    separate job.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    mpi = os.environ.get("PMIX_NAMESPACE") or os.environ.get("OMPI_MCA_ess_base_jobid")  # noqa: SIM112
    # mpirun starts its ranks on other machines with srun, in a job step that the ranks on the first do not know.
    if mpi and ("OMPI_COMM_WORLD_RANK" in os.environ or not mpi.startswith("slurm")):
        return mpi if _agrees_with_rank("OMPI_COMM_WORLD_RANK") and _agrees_with_rank("PMIX_RANK") else None
    if _is_in_job_step() and _agrees_with_rank("SLURM_PROCID"):
        named = (os.environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"))
        return "-".join(["slurm", *named, *(os.environ[name] for name in _CLUSTER_VARIABLES if name in os.environ)])
    return None


def _is_in_job_step() -> bool:
    # A batch script, a shell on a compute node and a step of one task may start many jobs of one process each.
    step = os.environ.get("SLURM_STEP_ID", "")
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS")
    return "SLURM_PROCID" in os.environ and step.isdecimal() and int(step) < _FIRST_RESERVED_STEP and tasks != "1"


def _agrees_with_rank(variable: str) -> bool:
    """Return whether ``variable`` and ``RANK`` are equal, where both are set."""
    rank, other = os.environ.get("RANK", ""), os.environ.get(variable, "")
    return not (rank.isdecimal() and other.isdecimal()) or int(rank) == int(other)


class Node(NamedTuple):
    """The place of this process in a job on several nodes."""

    number: int
    """The number of its node, from 0."""
    total: int
    """The number of nodes."""
    local_rank: int
    """Its rank among the processes of its node."""


def this_node() -> Node | None:
    """Return the place of this process, None in a job on one node, or if the launcher does not say it."""
    for variables in _NODE_VARIABLES:
        values = [os.environ.get(name, "") for name in variables]
        if all(map(str.isdecimal, values)) and (not variables[0].startswith("SLURM_") or _is_task_of_job_step()):
            node = Node(*map(int, values))
            return node if node.total > 1 else None
    return None


def _is_task_of_job_step() -> bool:
    """Return whether this is a task that srun started, and not a process that a task started as another rank."""
    is_of_mpirun = "OMPI_COMM_WORLD_RANK" in os.environ
    return _is_in_job_step() and not is_of_mpirun and os.environ["SLURM_PROCID"] == str(get_rank())


def group_store() -> Any | None:
    """Return the key-value store of the process group, or None before the group is initialised.

    Reading and writing the store is not a collective: no other rank takes part.
    """
    if _process_group_rank() is None:
        return None
    return sys.modules["torch.distributed"].distributed_c10d._get_default_store()


class GroupConnection:
    """A separate connection to the store of the process group: training and its user never wait for each other."""

    def __init__(self) -> None:
        self._shared: Callable[[], Any] = lambda: None
        self._own: Any = None

    def store(self) -> Any | None:
        """Return the store; None without a process group, and after `close` until there is another process group.

        Raises:
            Exception: the store does not answer, or PyTorch is older than 2.8.
        """
        shared = group_store()
        if shared is None:
            self._own = None
        elif shared is not self._shared():
            # A reference would keep the port of the store open after the process group is destroyed.
            self._shared, self._own = weakref.ref(shared), None
            self._own = shared.clone()
        if self._own is not None:
            _check_answers(self._own)
        return self._own

    def close(self) -> None:
        """Close the connection."""
        self._own = None


def _check_answers(store: Any) -> None:
    # The store prints a long warning if its server is gone.
    while hasattr(store, "underlying_store"):
        store = store.underlying_store
    if hasattr(store, "port"):
        _check_port(store.host, store.port)


def _check_port(address: str, port: int) -> None:
    import socket

    socket.create_connection((address, port), _CONNECT_TIMEOUT).close()


def torchrun_store() -> Any | None:
    """Connect to torchrun's key-value store; None without torchrun or before ``torch.distributed`` is imported.

    Raises:
        OSError, RuntimeError: the store does not answer.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    _check_port(address, port)  # TCPStore would retry a refused connection until its timeout
    timeout = timedelta(seconds=_CONNECT_TIMEOUT)
    return distributed.TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timeout)
