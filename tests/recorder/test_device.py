"""Nothing on a recorder's hot path waits for a device: operations are counted as torch dispatches them.

What is no kernel, such as `detach`, does not count. Reading a value, `item()`, is ``_local_scalar_dense``. A tensor on
the ``meta`` device has no value at all, so that reading it raises.
"""

import weakref
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from recorder.recorder_rows import rows, series
from torch.utils._python_dispatch import TorchDispatchMode

import rankzero

BATCH = torch.ones(4, 2)
NO_KERNELS = {"detach", "view", "alias", "_unsafe_view", "reshape"}
SYNCHRONISING = {"_local_scalar_dense", "_to_copy", "copy_", "is_nonzero", "nonzero", "equal"}


class Kernels(TorchDispatchMode):
    """Counts kernels by name."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name not in NO_KERNELS:
            self.count[name] += 1
        return function(*args, **(kwargs or {}))

    @contextmanager
    def counting(self):
        """Count what the block dispatches, and return just that."""
        self.count = Counter()
        with self:
            yield self.count


@pytest.fixture
def kernels():
    return Kernels()


def counts_of_batches(rec, kernels, values, **options):
    """Return what each batch dispatched, from the log call to the next batch."""
    loop, counts = iter(rec.train([BATCH] * (len(values) + 1))), []
    next(loop)
    for value in values:
        with kernels.counting() as count:
            rec.log("x", value, **options)
            next(loop)
        counts.append(count)
    loop.close()
    return counts


def test_a_step_value_takes_one_kernel_until_it_is_written(run, kernels):
    """It is copied, as the script may overwrite its tensor."""
    counts = counts_of_batches(run.recorder(), kernels, [torch.tensor(float(step)) for step in range(150)])
    assert [step for step, count in enumerate(counts) if count != {"clone": 1}] == [49, 99, 149]
    assert counts[49]["_local_scalar_dense"] == 1, "on the CPU, where nobody has to wait"
    assert series(run, "x") == [(49, 49.0), (99, 99.0), (149, 149.0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("reduce_fx", "kernel"), [("mean", "add_"), ("sum", "add_"), ("max", "maximum"), ("min", "minimum")]
)
def test_an_accumulated_value_takes_one_kernel(run, kernels, dtype, reduce_fx, kernel):
    values = [torch.tensor(step, dtype=dtype) for step in range(49)]
    options = {"on_step": False, "on_epoch": True, "reduce_fx": reduce_fx}
    counts = counts_of_batches(run.recorder(), kernels, values, **options)
    assert counts[1:] == [{kernel: 1}] * 48
    assert not SYNCHRONISING & counts[0].keys()


def test_a_value_on_step_and_epoch_takes_two_kernels_and_waits_once_in_fifty_steps(run, kernels):
    values = [torch.tensor(float(step), requires_grad=True) * 2 for step in range(100)]
    counts = counts_of_batches(run.recorder(), kernels, values, on_epoch=True, prog_bar=True)
    ordinary = [count for step, count in enumerate(counts) if step not in (0, 49, 99)]
    assert ordinary == [{"clone": 1, "add_": 1}] * 97
    assert counts[49]["_local_scalar_dense"] == counts[99]["_local_scalar_dense"] == 1


def test_a_python_number_never_becomes_a_tensor(run, kernels):
    for reduce_fx in ("mean", "sum", "min", "max"):
        counts = counts_of_batches(run.recorder(), kernels, [0.5] * 60, on_epoch=True, reduce_fx=reduce_fx)
        assert not any(counts)


def test_several_elements_of_shape_one_cost_no_more(run, kernels):
    values = [torch.ones(1, 1)] * 49
    counts = counts_of_batches(run.recorder(), kernels, values, on_step=False, on_epoch=True)
    assert counts[1:] == [{"add_": 1}] * 48


def test_evaluation_does_not_wait(run, kernels):
    rec = run.recorder()
    loss, loop = torch.tensor(2.0), rec.validate([BATCH] * 50)
    counts = []
    for _ in loop:
        with kernels.counting() as count:
            rec.log("val", loss)
        counts.append(count)
    assert counts[1:] == [{"add_": 1}] * 49
    assert rec["val"] == 2.0


@pytest.mark.parametrize("options", [{}, {"on_epoch": True}, {"on_epoch": True, "reduce_fx": "max"}], ids=str)
def test_a_value_that_cannot_be_read_is_not_read(run, options):
    """Nothing looks at it: not for the progress bar, a check or a comparison."""
    rec = run.recorder(log_every_n_steps=1)
    value = torch.ones((), device="meta")
    for _ in rec.epochs(2):
        for _ in rec.train([BATCH] * 3):
            rec.log("x", value, logger=False, prog_bar=True, **options)
            assert "x" in rec
        for _ in rec.validate([BATCH] * 3):
            rec.log("val", value, logger=False, on_step=True)
    assert rec.tensor("x").device.type == rec.tensor("val").device.type == "meta"
    assert rows(run) == []


def test_all_of_a_row_is_handed_over_at_once(tmp_path, monkeypatch):
    """A row of values on an accelerator is one copy: they are given to the run in one call, as tensors."""
    run = rankzero.start(dir=tmp_path, delivery="off")
    handed = []
    monkeypatch.setattr(run, "log_metrics", lambda values, *args, **kwargs: handed.append(values))
    rec = run.recorder(log_every_n_steps=2)
    for _ in rec.train([BATCH] * 2):
        for name in "abc":
            rec.log(name, torch.ones((), device="meta"), on_epoch=True)
    assert [list(values) for values in handed] == [["a_step", "b_step", "c_step"], ["a_epoch", "b_epoch", "c_epoch"]]
    assert {value.device.type for values in handed for value in values.values()} == {"meta"}
    run.finish()


def test_a_gradient_norm_takes_nothing_until_it_is_written(run, kernels):
    rec = run.recorder(log_every_n_steps=10)
    model = torch.nn.Linear(2, 1)
    model(BATCH).sum().backward()
    for step, _ in enumerate(rec.train([BATCH] * 20)):
        with kernels.counting() as count:
            rec.log_grad_norm(model)
        assert bool(count) == (step in (9, 19))
        assert "_local_scalar_dense" not in count


def test_no_graph_is_kept_alive(run):
    rec = run.recorder(log_every_n_steps=1)
    weight = torch.ones(1000, requires_grad=True)
    hidden_ones = []
    for _ in rec.train([BATCH] * 3):
        hidden = weight * 2
        hidden_ones.append(weakref.ref(hidden))
        rec.log("x", hidden.square().mean(), on_epoch=True)
        del hidden
        assert hidden_ones[-1]() is None


@pytest.mark.parametrize("loop", ["train", "validate", "test"])
def test_no_batch_is_kept_alive_while_the_next_one_is_fetched(run, loop):
    """The memory of two batches would be needed where that of one is enough."""

    class Loader:
        def __init__(self):
            self.given = []
            self.alive = []

        def __iter__(self):
            return self

        def __next__(self):
            self.alive.append([each for each in self.given if each() is not None])
            if len(self.given) == 3:
                raise StopIteration
            batch = torch.ones(2)
            self.given.append(weakref.ref(batch))
            return batch

    def take(batches):
        for batch in batches:
            assert len(batch) == 2
            if batches is not bare:
                rec.log("x", 1.0, on_epoch=True)
            del batch

    rec, bare, loader = run.recorder(log_every_n_steps=1), Loader(), Loader()
    take(bare)
    assert bare.alive == [[]] * 4
    take(getattr(rec, loop)(loader))
    assert loader.alive == [[]] * 4


def test_values_are_accumulated_on_their_device(run, kernels):
    """No copy to the CPU, which would wait for the device."""
    rec = run.recorder(log_every_n_steps=0)
    value = torch.ones((), device="meta")
    with kernels.counting() as count:
        for _ in rec.train([BATCH] * 50):
            rec.log("x", value, on_epoch=True, logger=False)
    assert not SYNCHRONISING & count.keys()
    assert count["add_"] == 50
