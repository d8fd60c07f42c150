"""Which rank this process is, asked at call time: the only file that knows launchers.

The rank is never cached: a process may import rankzero long before its launcher, or the training script,
says which rank it is.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("rankzero")

RANK_VARIABLES: Mapping[str, str] = {
    "RANK": "torchrun, Accelerate, DeepSpeed",
    "SLURM_PROCID": "SLURM (srun)",
    "OMPI_COMM_WORLD_RANK": "OpenMPI (mpirun)",
    "PMIX_RANK": "PMIx",
    "PMI_RANK": "MPICH, Intel MPI",
    "JSM_NAMESPACE_RANK": "LSF (jsrun)",
    "LOCAL_RANK": "launchers that know only the rank on one machine",
}
"""Environment variables that carry a rank, the most trusted first, with who sets them."""


def _process_group_rank() -> int | None:
    # A process group exists only if the script has imported torch.distributed already.
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return int(distributed.get_rank())


def get_rank() -> int:
    """Return this process's global rank, 0 when nothing says otherwise.

    Asked in this order: an initialised ``torch.distributed`` process group, then the variables of
    `RANK_VARIABLES`. A variable that is not a number is ignored.

    >>> get_rank()
    0
    """
    rank = _process_group_rank()
    if rank is not None:
        return rank
    for variable in RANK_VARIABLES:
        value = os.environ.get(variable, "")
        if value.isdigit():
            return int(value)
    return 0


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
    """Warn on rank zero only; ``stacklevel`` counts from the caller, as in `warnings.warn`."""
    warnings.warn(message, category, stacklevel=stacklevel + 1)


def launch_key() -> str | None:
    """Return what names this launch of a distributed job, the same on all its ranks and never used again.

    Known for SLURM job steps and for whatever sets up PMIx (mpirun, jsrun, srun --mpi=pmix); None elsewhere.
    torchrun has no such name: its run id is "none" unless the user chose one, and is kept across restarts.
    """
    if "SLURM_STEP_ID" in os.environ and "SLURM_PROCID" in os.environ:
        parts = (os.environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"))
        return "slurm-" + "-".join(parts)
    return os.environ.get("PMIX_NAMESPACE") or os.environ.get("OMPI_MCA_ess_base_jobid")  # noqa: SIM112


def rank_stores() -> list[Any]:
    """Return the key-value stores that all ranks share now: torchrun's, and that of the process group.

    Using them needs no other rank to take part. There is none before ``torch.distributed`` is imported.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available():
        return []
    stores: list[Any] = []
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        with suppress(Exception):
            stores.append(_torchrun_store(distributed))
    if distributed.is_initialized():
        with suppress(Exception):
            stores.append(distributed.distributed_c10d._get_default_store())
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return [distributed.PrefixStore(f"rankzero/{restart}", store) for store in stores]


def _torchrun_store(distributed: Any) -> Any:
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return distributed.TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5))
