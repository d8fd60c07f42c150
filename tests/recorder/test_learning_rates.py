"""Learning rates: the same names and values as from Lightning's LearningRateMonitor."""

import types

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor as LightningsMonitor
from lightning.pytorch.loggers.logger import Logger
from torch.optim import LBFGS, SGD, Adam, AdamW
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, SequentialLR, StepLR
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from rankzero.errors import RecorderError
from rankzero.recorder.learning_rates import LearningRateMonitor


def parameters(count=1):
    return [torch.nn.Parameter(torch.ones(2)) for _ in range(count)]


def groups(*options):
    return [{"params": parameters(), **each} for each in options]


# The oracle: optimizers and schedulers → what Lightning logs


def one_adam():
    return [Adam(parameters(), lr=0.1)], []


def two_adams():
    return [Adam(parameters(), lr=0.1), Adam(parameters(), lr=0.2, betas=(0.5, 0.6))], []


def three_of_two_kinds():
    return [Adam(parameters(), lr=0.1), SGD(parameters(), lr=0.2), Adam(parameters(), lr=0.3)], []


def several_groups():
    return [AdamW(groups({"lr": 0.1}, {"lr": 0.2, "weight_decay": 0.5}, {"lr": 0.3, "betas": (0.1, 0.2)}))], []


def named_groups():
    return [SGD(groups({"name": "body"}, {"lr": 0.2}, {"name": "head", "momentum": 0.9}), lr=0.1)], []


def one_named_group():
    return [SGD(groups({"name": "all"}), lr=0.1)], []


def two_of_several_groups():
    return [SGD(groups({}, {}), lr=0.1), SGD(groups({"name": "a"}, {"name": "b"}), lr=0.2)], []


def a_scheduler():
    optimizer = SGD(parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    return [optimizer], [StepLR(optimizer, 1, gamma=0.5)]


def two_schedulers():
    optimizers = [Adam(parameters(), lr=0.1), Adam(parameters(), lr=0.2)]
    return optimizers, [LambdaLR(optimizers[0], lambda step: 1 / (step + 1)), StepLR(optimizers[1], 2)]


def a_scheduler_of_the_second():
    optimizers = [Adam(parameters(), lr=0.1), Adam(parameters(), lr=0.2)]
    return optimizers, [StepLR(optimizers[1], 1)]


def a_rate_in_a_tensor():
    return [Adam(parameters(), lr=torch.tensor(0.125))], []


CASES = [
    one_adam, two_adams, three_of_two_kinds, several_groups, named_groups, one_named_group, two_of_several_groups,
    a_scheduler, two_schedulers, a_scheduler_of_the_second, a_rate_in_a_tensor,
]  # fmt: skip


class Module(LightningModule):
    """Trains all its optimizers by hand, and lets a monitor read before each batch."""

    automatic_optimization = False

    def __init__(self, make, monitors, add=None):
        super().__init__()
        self.made = make()
        self.every = torch.nn.ParameterList(
            parameter for optimizer in self.made[0] for group in optimizer.param_groups for parameter in group["params"]
        )
        self.make_monitor = monitors
        self.monitor = None
        self.add = add
        self.read = []

    def on_train_batch_start(self, batch, batch_idx):
        self.monitor = self.monitor or self.make_monitor(self)
        self.read.append(self.monitor.read())

    def on_train_batch_end(self, *args):
        if self.add is not None:
            self.made[0][0].add_param_group(self.add)
            self.add = None

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers(use_pl_optimizer=True) if len(self.made[0]) > 1 else [self.optimizers()]:
            optimizer.zero_grad()
            self.manual_backward(sum(parameter.pow(2).sum() for parameter in self.every))
            optimizer.step()
        for scheduler in self.made[1]:
            scheduler.step()

    def configure_optimizers(self):
        return self.made if self.made[1] else self.made[0]


class Rows(Logger):
    name = version = "rows"

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_hyperparams(self, params):
        pass

    def log_metrics(self, metrics, step=None):
        self.rows.append(metrics)


def both(make, tmp_path, monitors=None, add=None, **options):
    """Return what Lightning and what rankzero read before each of four batches."""
    rows = Rows()
    monitors = monitors or (lambda module: LearningRateMonitor([*module.made[0], *module.made[1]], **options))
    module = Module(make, monitors, add)
    trainer = Trainer(
        logger=rows, callbacks=[LightningsMonitor("step", **options)], max_epochs=2, limit_train_batches=2,
        log_every_n_steps=1, enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
        default_root_dir=tmp_path, accelerator="cpu",
    )  # fmt: skip
    trainer.fit(module, DataLoader(torch.zeros(2, 1)))
    return rows.rows, module.read


@pytest.mark.parametrize("log_momentum", [False, True])
@pytest.mark.parametrize("make", CASES)
def test_names_and_values_are_lightnings(make, log_momentum, tmp_path):
    lightnings, ours = both(make, tmp_path, log_momentum=log_momentum, log_weight_decay=log_momentum)
    assert len(ours) == 4
    assert ours == lightnings
    assert [list(row) for row in ours] == [list(row) for row in lightnings]


@pytest.mark.parametrize("make", [one_adam, named_groups, two_of_several_groups])
def test_a_group_that_is_added_later(make, tmp_path):
    lightnings, ours = both(make, tmp_path, add=groups({"lr": 0.7})[0])
    assert ours == lightnings
    assert len(ours[1]) == len(ours[0]) + 1


def test_optimizers_that_lightning_wraps(tmp_path):
    """``self.optimizers()`` are of a class that Lightning makes."""

    def monitors(module):
        return LearningRateMonitor(module.optimizers())

    lightnings, ours = both(two_adams, tmp_path, monitors)
    assert ours == lightnings
    assert list(ours[0]) == ["lr-Adam", "lr-Adam-1"]


# What Lightning does not have


def test_a_prefix():
    monitor = LearningRateMonitor([Adam(parameters(), lr=0.1)], log_momentum=True, log_key_prefix="optim/")
    assert monitor.read() == {"optim/lr-Adam": 0.1, "optim/lr-Adam-momentum": 0.9}


def test_the_interval_is_kept():
    optimizer = Adam(parameters())
    assert LearningRateMonitor([optimizer]).logging_interval == "step"
    assert LearningRateMonitor([optimizer], logging_interval="epoch").logging_interval == "epoch"


def test_an_optimizer_counts_once():
    optimizer, other = SGD(parameters(), lr=0.1), SGD(parameters(), lr=0.2)
    schedulers = [StepLR(optimizer, 1), ReduceLROnPlateau(optimizer)]
    monitor = LearningRateMonitor([optimizer, *schedulers, optimizer, other])
    assert monitor.read() == {"lr-SGD": 0.1, "lr-SGD-1": 0.2}


def test_a_scheduler_of_schedulers():
    optimizer = SGD(parameters(), lr=0.1)
    schedulers = [StepLR(optimizer, 1), StepLR(optimizer, 2)]
    monitor = LearningRateMonitor([SequentialLR(optimizer, schedulers, [5])])
    assert monitor.read() == {"lr-SGD": optimizer.param_groups[0]["lr"]}


def test_wrapped_optimizers():
    """Accelerate's scheduler keeps its own as ``scheduler``; optimizers are wrapped twice with DeepSpeed."""
    optimizer, other = SGD(parameters(), lr=0.1), SGD(parameters(), lr=0.2)
    inner = types.SimpleNamespace(optimizer=optimizer, param_groups=optimizer.param_groups)
    outer = types.SimpleNamespace(optimizer=inner, param_groups=optimizer.param_groups)
    scheduler = types.SimpleNamespace(scheduler=StepLR(other, 1))
    assert LearningRateMonitor([outer, optimizer]).read() == {"lr-SGD": 0.1}
    assert LearningRateMonitor([outer, scheduler]).read() == {"lr-SGD": 0.2, "lr-SGD-1": 0.1}


def test_two_classes_of_one_name():
    other = type("SGD", (SGD,), {})
    monitor = LearningRateMonitor([SGD(parameters(), lr=0.1), other(parameters(), lr=0.2)])
    assert monitor.read() == {"lr-SGD": 0.1, "lr-SGD-1": 0.2}


def test_a_missing_momentum_is_zero():
    with pytest.warns(UserWarning, match="LBFGS has no momentum; 0 is logged"):
        monitor = LearningRateMonitor([LBFGS(parameters(), lr=0.1)], log_momentum=True, log_weight_decay=True)
    assert monitor.read() == {"lr-LBFGS": 0.1, "lr-LBFGS-momentum": 0, "lr-LBFGS-weight_decay": 0}


def test_a_learning_rate_of_none_is_left_out():
    optimizer = SGD(groups({}, {"lr": 0.2}), lr=0.1)
    optimizer.param_groups[0]["lr"] = None
    assert LearningRateMonitor([optimizer]).read() == {"lr-SGD/pg2": 0.2}


class NoKernels(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} was called")


def test_a_tensor_is_not_read():
    rate = torch.tensor(0.125)
    monitor = LearningRateMonitor([Adam(parameters(), lr=rate, capturable=True)], log_momentum=True)
    with NoKernels():
        found = monitor.read()
    assert found["lr-Adam"] is rate
    assert found["lr-Adam-momentum"] == 0.9


# Mistakes


@pytest.mark.parametrize("interval", ["batch", None, ""])
def test_a_wrong_interval(interval):
    with pytest.raises(RecorderError, match=r"logging_interval must be 'step' or 'epoch'"):
        LearningRateMonitor([Adam(parameters())], logging_interval=interval)


def test_no_optimizer():
    with pytest.raises(RecorderError, match="needs an optimizer or scheduler"):
        LearningRateMonitor([])


@pytest.mark.parametrize(
    "wrong", [torch.nn.Linear(1, 1), 0.1, None, [Adam(parameters())]], ids=lambda x: type(x).__name__
)
def test_arguments_that_are_not_optimizers(wrong):
    with pytest.raises(RecorderError, match=f"not {type(wrong).__name__}; pass each one as a separate argument"):
        LearningRateMonitor([Adam(parameters()), wrong])


def test_groups_of_one_name():
    with pytest.raises(RecorderError, match=r"lr-SGD has several parameter groups named 'a', .* a different name"):
        LearningRateMonitor([SGD(groups({"name": "a"}, {}, {"name": "a"}), lr=0.1)])


def test_groups_of_one_name_that_are_added_later():
    optimizer = SGD(groups({"name": "a"}), lr=0.1)
    monitor = LearningRateMonitor([optimizer])
    optimizer.add_param_group(groups({"name": "a"})[0])
    with pytest.raises(RecorderError, match="named 'a'"):
        monitor.read()
