"""A tensor that is sharded over ranks: rank zero must not read its value, which is a collective."""

import pytest
from recorded import events_in

import rankzero
from rankzero.errors import RecorderError
from rankzero.events.structs import Metrics, Params

pytest.importorskip("torch")
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.distributed.tensor.debug import CommDebugMode
from torch.testing._internal.distributed.fake_pg import FakeStore


@pytest.fixture
def mesh():
    """Two ranks, of which the other one answers at once, and nonsense."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield init_device_mesh("cpu", (2,))
    dist.destroy_process_group()


def tensor(mesh, placement):
    return DTensor.from_local(torch.tensor(0.5), mesh, [placement()])


def test_rank_zero_starts_no_collective(mesh, tmp_path):
    with rankzero.start("csv", dir=tmp_path, delivery="off") as run, CommDebugMode() as collectives:
        run.log_metrics({"loss": 1.0})
        with pytest.warns(UserWarning, match=r"'norm' is a DTensor .* Log value\.full_tensor\(\)"):
            run.log_metrics({"loss": 0.75, "norm": tensor(mesh, Partial)})
        run.log_metrics({"norm": tensor(mesh, Replicate)})
        run.log_hyperparams({"scale": tensor(mesh, Partial)})
        assert collectives.get_total_counts() == 0
        tensor(mesh, Partial).full_tensor()  # this would be noticed
        assert collectives.get_total_counts() > 0
    assert [event.values for event in events_in(run.dir, Metrics)] == [{"loss": 1.0}, {"loss": 0.75}, {"norm": 0.5}]
    assert events_in(run.dir, Params)[0].values == {"scale": "a DTensor that is sharded over ranks"}


def test_a_recorder(mesh, tmp_path):
    with rankzero.start("csv", dir=tmp_path, delivery="off") as run:
        rec = run.recorder(log_every_n_steps=1)
        for _ in rec.train([torch.ones(4)]):
            rec.log("norm", tensor(mesh, Replicate), on_epoch=True, rank_zero_only=True)
            with pytest.raises(RecorderError, match=r"log\('part', …\) .* full_tensor\(\), which all ranks must call"):
                rec.log("part", tensor(mesh, Partial))
    assert [event.values for event in events_in(run.dir, Metrics)] == [{"norm_step": 0.5}, {"norm_epoch": 0.5}]


def test_merging_in_a_step(mesh, tmp_path):
    with rankzero.start("csv", dir=tmp_path, delivery="off") as run, CommDebugMode() as collectives:
        run.agg_and_log_metrics({"loss": 1.0}, 1)
        with pytest.warns(UserWarning, match=r"norm: a DTensor that is sharded .* not merged"):
            run.agg_and_log_metrics({"loss": 1.0, "norm": tensor(mesh, Partial)}, 1)
        run.agg_and_log_metrics({"loss": 2.0}, 2)
        with pytest.warns(UserWarning, match=r"log_histogram\('h'\) could not be recorded: .* full_tensor\(\)"):
            run.log_histogram("h", tensor(mesh, Partial))
        assert collectives.get_total_counts() == 0
    assert [(event.step, event.values) for event in events_in(run.dir, Metrics)] == [
        (1, {"loss": 1.0}),
        (2, {"loss": 2.0}),
    ]
