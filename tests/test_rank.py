"""The rank of the process, determined at each call."""

import logging
import subprocess
import sys
import types
import warnings

import pytest

import rankzero
from rankzero.rank import (
    RANK_VARIABLES,
    get_rank,
    group_store,
    is_rank_zero,
    launch_key,
    rank_zero_debug,
    rank_zero_info,
    rank_zero_only,
    rank_zero_warn,
    this_node,
    torchrun_store,
)

LAUNCH_VARIABLES = [
    "GROUP_RANK",
    "CROSS_RANK",
    "SLURM_NODEID",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_NTASKS",
    "SLURM_RESTART_COUNT",
    "PMIX_NAMESPACE",
    "OMPI_MCA_ess_base_jobid",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_USE_AGENT_STORE",
]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Set environment variables; those that the machine has are gone."""
    for name in [*RANK_VARIABLES, *LAUNCH_VARIABLES]:
        monkeypatch.delenv(name, raising=False)

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.fixture
def distributed(monkeypatch):
    """Stand in for torch.distributed, with a process group in which this process has the rank 2."""
    module = types.SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        get_rank=lambda: 2,
        distributed_c10d=types.SimpleNamespace(_get_default_store=lambda: "the group's store"),
    )
    monkeypatch.setitem(sys.modules, "torch.distributed", module)
    return module


@pytest.mark.parametrize("variable", RANK_VARIABLES)
def test_every_launcher_is_known(environment, variable):
    assert is_rank_zero()
    environment(**{variable: "3"})
    assert get_rank() == 3
    assert not is_rank_zero()
    environment(**{variable: "0"})
    assert is_rank_zero()


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"RANK": "1", "SLURM_PROCID": "2", "LOCAL_RANK": "3"}, 1),
        ({"RANK": "5", "LOCAL_RANK": "1"}, 5),
        ({"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "LOCAL_RANK": "1"}, 5),
        ({"OMPI_COMM_WORLD_RANK": "4", "PMIX_RANK": "4", "LOCAL_RANK": "0"}, 4),
        # torchrun in one task of a job step: its word is final
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "1"}, 0),
        ({"RANK": "3", "LOCAL_RANK": "3", "SLURM_PROCID": "0"}, 3),
        # mpirun in a batch script, whose SLURM_PROCID=0 the ranks inherit
        ({"OMPI_COMM_WORLD_RANK": "3", "SLURM_PROCID": "0"}, 3),
        ({"OMPI_COMM_WORLD_RANK": "0", "SLURM_PROCID": "0"}, 0),
        # a script in an interactive SLURM shell that starts its other ranks itself, as Lightning does
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, 1),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, 1),
        # a user who exports LOCAL_RANK=$SLURM_LOCALID
        ({"LOCAL_RANK": "0", "SLURM_PROCID": "4"}, 4),
    ],
)
def test_which_variable_decides_the_rank(environment, variables, rank):
    environment(**variables)
    assert get_rank() == rank


@pytest.mark.parametrize("garbage", ["", " ", "none", "-1", "1.0", "0x1", "²", "1 2"])
def test_invalid_values_are_ignored(environment, garbage):
    environment(RANK=garbage, SLURM_PROCID=garbage)
    assert get_rank() == 0
    environment(PMI_RANK="2")
    assert get_rank() == 2


@pytest.mark.parametrize("rank", [0, 2])
def test_the_process_group_overrides_the_environment(environment, distributed, rank):
    environment(RANK="1", LOCAL_RANK="1")
    distributed.get_rank = lambda: rank
    assert get_rank() == rank


@pytest.mark.parametrize("missing", ["is_available", "is_initialized"])
def test_torch_without_a_process_group_changes_nothing(environment, distributed, missing):
    setattr(distributed, missing, lambda: False)
    environment(RANK="1")
    assert get_rank() == 1
    assert group_store() is None


def test_the_rank_is_read_at_each_call(environment):
    @rank_zero_only
    def answer():
        return 42

    assert answer() == 42
    environment(RANK="1")
    assert answer() is None
    environment(RANK="0")
    assert answer() == 42


def test_rank_zero_only_keeps_the_function():
    @rank_zero_only
    def add(a: int, *, b: int) -> int:
        """Add."""
        return a + b

    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert add(1, b=2) == 3


@pytest.mark.parametrize(("say", "level"), [(rank_zero_info, logging.INFO), (rank_zero_debug, logging.DEBUG)])
def test_messages(environment, caplog, say, level):
    caplog.set_level(logging.DEBUG, logger="rankzero")
    say("loss %d", 1)
    environment(RANK="1")
    say("loss %d", 2)
    assert caplog.record_tuples == [("rankzero", level, "loss 1")]


def test_warning_points_at_the_caller(environment):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rank_zero_warn("careful", RuntimeWarning)
        environment(RANK="1")
        rank_zero_warn("silent")
    assert [(str(w.message), w.category, w.filename) for w in caught] == [("careful", RuntimeWarning, __file__)]


def test_reading_the_rank_does_not_import_torch():
    code = (
        "import sys, rankzero.rank as r; assert r.is_rank_zero(); r.group_store(); r.torchrun_store(); r.launch_key();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_these_functions():
    assert rankzero.rank_zero_only is rank_zero_only
    assert rankzero.is_rank_zero is is_rank_zero


STEP = {"SLURM_PROCID": "1", "SLURM_JOB_ID": "47", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({}, None),
        ({"RANK": "1", "WORLD_SIZE": "4"}, None),
        (STEP, "slurm-47-0-0"),
        (STEP | {"SLURM_RESTART_COUNT": "2"}, "slurm-47-0-2"),
        ({"PMIX_NAMESPACE": "prterun-host-1@1", "PMIX_RANK": "1"}, "prterun-host-1@1"),
        ({"OMPI_MCA_ess_base_jobid": "815", "OMPI_COMM_WORLD_RANK": "1"}, "815"),
        # processes that have nobody to agree with, perhaps many of them at once
        (STEP | {"SLURM_STEP_NUM_TASKS": "1"}, None),
        (STEP | {"SLURM_STEP_ID": "4294967291"}, None),
        (STEP | {"SLURM_STEP_ID": "batch"}, None),
        # torchrun starts ranks again, which the step's name does not tell
        (STEP | {"TORCHELASTIC_RUN_ID": "none", "RANK": "1"}, None),
    ],
)
def test_launch_key(environment, variables, key):
    environment(**variables)
    assert launch_key() == key


TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2"}
TASK = STEP | {"SLURM_NODEID": "1", "SLURM_STEP_NUM_NODES": "2", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("variables", "node"),
    [
        ({}, None),
        (TORCHRUN, (1, 2, 1)),
        (TORCHRUN | {"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1"}, None),
        ({"RANK": "8", "LOCAL_RANK": "0", "CROSS_RANK": "2", "CROSS_SIZE": "4"}, (2, 4, 0)),
        (TASK, (1, 2, 0)),
        (TASK | TORCHRUN | {"GROUP_WORLD_SIZE": "1"}, None),
        # ranks that a task or mpirun starts all have its variables
        (TASK | {"RANK": "3"}, None),
        (TASK | {"OMPI_COMM_WORLD_RANK": "1"}, None),
        (TASK | {"SLURM_STEP_NUM_TASKS": "1"}, None),
    ],
)
def test_node(environment, variables, node):
    environment(**variables)
    assert this_node() == node


def test_store_of_the_process_group(distributed):
    assert group_store() == "the group's store"


def test_an_unreachable_torchrun_store_fails_at_once(environment, distributed):
    distributed.TCPStore = lambda *_, **__: pytest.fail("TCPStore tries for seconds")
    environment(TORCHELASTIC_USE_AGENT_STORE="True", MASTER_ADDR="localhost", MASTER_PORT="1")
    with pytest.raises(ConnectionRefusedError):
        torchrun_store()
