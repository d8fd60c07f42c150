"""Norms of gradients: Lightning's names and values, without waiting for a device."""

import subprocess
import sys

import pytest
import torch
from lightning.pytorch.utilities import grad_norm
from torch.utils._python_dispatch import TorchDispatchMode
from waiting import A_WHILE

from rankzero.errors import RecorderError
from rankzero.recorder.gradient_norms import gradient_norms


def model(dtype=torch.float32, seed=0):
    """A model whose gradients are there, but for one parameter's."""
    torch.manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4), torch.nn.Linear(4, 1))
    module = module.to(dtype)
    module(torch.randn(5, 8, dtype=dtype)).pow(2).sum().backward()
    module[2].bias.grad = None
    return module


@pytest.mark.parametrize("norm_type", [1, 2, 2.0, 3.5, 0.5, "inf", float("inf"), "2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_names_and_values_are_lightnings(norm_type, dtype):
    module = model(dtype)
    expected = grad_norm(module, norm_type)
    found = gradient_norms(module, norm_type, per_parameter=True)
    assert list(found) == list(expected)
    assert len(found) == 6
    assert {name: float(norm) for name, norm in found.items()} == pytest.approx(
        {name: float(norm) for name, norm in expected.items()}, rel=1e-6
    )
    total = f"grad_{float(norm_type)}_norm_total"
    assert gradient_norms(module, norm_type) == {total: found[total]}
    assert not any(norm.requires_grad or norm.dim() for norm in found.values())


def test_the_total_is_the_norm_of_all_gradients_in_one_vector():
    module = model(torch.float64)
    vector = torch.cat([each.grad.reshape(-1) for each in module.parameters() if each.grad is not None])
    assert float(gradient_norms(module)["grad_2.0_norm_total"]) == pytest.approx(float(vector.norm()), rel=1e-12)


@pytest.mark.parametrize("give", [lambda m: m.parameters(), lambda m: list(m.parameters()), lambda m: m])
def test_parameters_instead_of_a_module(give):
    module = model()
    assert gradient_norms(give(module)) == gradient_norms(module)


def test_names_of_parameters():
    module = model()
    assert gradient_norms(module.named_parameters(), per_parameter=True) == gradient_norms(module, per_parameter=True)
    assert list(gradient_norms(module[2].parameters(), per_parameter=True)) == [
        "grad_2.0_norm/0",
        "grad_2.0_norm_total",
    ]
    assert list(gradient_norms(module[2].weight)) == ["grad_2.0_norm_total"]


def test_without_gradients_there_is_nothing():
    assert gradient_norms(torch.nn.Linear(2, 2), per_parameter=True) == {}
    assert gradient_norms([]) == {}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norms_of_16_bit_gradients_are_float32(dtype):
    weight = torch.nn.Parameter(torch.zeros(1000, dtype=dtype))
    weight.grad = torch.full_like(weight, 300.0)  # whose squares float16 does not hold
    found = gradient_norms([weight], per_parameter=True)
    assert {norm.dtype for norm in found.values()} == {torch.float32}
    expected = float(weight.grad.double().norm())
    assert [float(norm) for norm in found.values()] == pytest.approx([expected] * 2, rel=1e-6)


def test_dtypes_may_differ():
    dtypes = [torch.bfloat16, torch.float64, torch.bfloat16, torch.float32]
    parameters = [torch.nn.Parameter(torch.zeros(3, dtype=dtype)) for dtype in dtypes]
    for value, parameter in enumerate(parameters, 1):
        parameter.grad = torch.full_like(parameter, value)
    found = gradient_norms(parameters, per_parameter=True)
    assert list(found) == [*(f"grad_2.0_norm/{number}" for number in range(4)), "grad_2.0_norm_total"]
    assert [float(norm) ** 2 for norm in found.values()] == pytest.approx([3, 12, 27, 48, 90], rel=1e-6)


def test_a_sparse_gradient():
    module = torch.nn.Embedding(10, 3, sparse=True)
    module(torch.tensor([1, 1, 4])).pow(2).sum().backward()
    expected = float(module.weight.grad.to_dense().norm())
    assert [float(norm) for norm in gradient_norms(module, per_parameter=True).values()] == pytest.approx(
        [expected] * 2
    )


def test_a_parameter_without_elements_is_left_out():
    empty, weight = torch.nn.Parameter(torch.zeros(0)), torch.nn.Parameter(torch.zeros(2))
    empty.grad, weight.grad = torch.zeros(0), torch.ones(2)
    assert list(gradient_norms([empty, weight], "inf", per_parameter=True)) == [
        "grad_inf_norm/1",
        "grad_inf_norm_total",
    ]


def test_norms_that_are_not_finite():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([1.0, float("nan")])
    assert str(float(gradient_norms([weight])["grad_2.0_norm_total"])) == "nan"


def test_gradients_with_a_graph_leave_none():
    weight = torch.nn.Parameter(torch.ones(3))
    (weight.grad,) = torch.autograd.grad(weight.pow(3).sum(), weight, create_graph=True)
    assert weight.grad.requires_grad
    assert not any(norm.requires_grad for norm in gradient_norms([weight], per_parameter=True).values())


SHARDED = """
import sys
import torch
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from rankzero.recorder.gradient_norms import gradient_norms

init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=int(sys.argv[1]), world_size=2)
torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 1))
for shard in (lambda module: module, lambda module: fully_shard(module, mesh=init_device_mesh("cpu", (2,)))):
    module = shard(module)
    module.zero_grad()
    module(torch.ones(3, 4)).pow(2).sum().backward()
    norms = gradient_norms(module, per_parameter=True)
    assert {type(norm) for norm in norms.values()} == {torch.Tensor}
    print({name: round(float(norm), 4) for name, norm in norms.items()}, flush=True)
destroy_process_group()
"""


@pytest.mark.slow
def test_gradients_that_are_sharded_over_ranks(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", SHARDED]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        lines = [rank.communicate(timeout=A_WHILE)[0].splitlines() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert len({line for each in lines for line in each}) == 1, lines
    assert [len(each) for each in lines] == [2, 2]


class Kernels(TorchDispatchMode):
    """Lists what torch is asked to compute."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("per_parameter", [False, True])
def test_few_kernels_and_no_waiting(per_parameter):
    module = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(50)))
    module(torch.ones(1, 4)).sum().backward()
    with Kernels() as kernels:
        gradient_norms(module, per_parameter=per_parameter)
    assert kernels.names == ["aten._foreach_norm.Scalar", "aten.stack.default", "aten.linalg_vector_norm.default"]


def test_several_devices_meet_on_the_accelerator():
    """There is no accelerator here; a meta tensor has its device, and raises when somebody wants its value."""
    near, far = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2, device="meta"))
    near.grad, far.grad = torch.ones(2), torch.ones(2, device="meta")
    found = gradient_norms([near, far], per_parameter=True)
    assert [norm.device.type for norm in found.values()] == ["cpu", "meta", "meta"]
    assert float(found["grad_2.0_norm/0"]) == pytest.approx(2**0.5)


@pytest.mark.parametrize("norm_type", [0, -1, "0", float("nan"), None, "two", []])
def test_a_wrong_norm_type(norm_type):
    with pytest.raises(RecorderError, match=r"norm_type must be a positive number, or 'inf'"):
        gradient_norms(model(), norm_type)


@pytest.mark.parametrize(
    "source", [3, None, "model", [torch.nn.Linear(1, 1)], torch.optim.SGD([torch.zeros(1)])], ids=repr
)
def test_arguments_without_parameters(source):
    with pytest.raises(RecorderError, match=r"not (int|NoneType|str|Linear|SGD)"):
        gradient_norms(source)
