"""Recorder.log: the defaults of each phase, values, weights, and the message for each misuse."""

import warnings
import weakref
from collections import namedtuple
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from odd_values import Gone, Hostile
from recorder.recorder_rows import rows, series
from torchmetrics import ConfusionMatrix, MeanMetric, MetricCollection

from rankzero.errors import RankzeroError, RecorderError

BATCH = torch.ones(4, 2)


def in_phase(rec, phase):
    """Enter a phase of training; the caller logs once in it."""
    match phase:
        case "train":
            yield from rec.train([BATCH])
        case "validate":
            yield from rec.validate([BATCH])
        case "test":
            yield from rec.test([BATCH])
        case "sanity":
            yield from rec.sanity_check([BATCH])
        case "between":
            yield from rec.epochs(1)


# Defaults


@pytest.mark.parametrize(
    ("phase", "options", "names"),
    [
        ("train", {}, {"x"}),
        ("train", {"on_epoch": True}, {"x_step", "x_epoch"}),
        ("train", {"on_step": False, "on_epoch": True}, {"x"}),
        ("validate", {}, {"x"}),
        ("validate", {"on_step": True}, {"x_step", "x_epoch"}),
        ("validate", {"on_step": True, "on_epoch": False}, {"x"}),
        ("test", {}, {"x"}),
        ("test", {"on_step": True}, {"x_step", "x_epoch"}),
        ("between", {}, {"x"}),
        ("sanity", {"on_step": True}, set()),
    ],
)
def test_names_and_defaults(run, rec, phase, options, names):
    for _ in in_phase(rec, phase):
        rec.log("x", 1.0, **options)
    assert {name for row in rows(run) for name in row.values} == names


@pytest.mark.parametrize(("phase", "is_step"), [("train", True), ("validate", False), ("test", False)])
def test_defaults_of_each_phase(run, rec, phase, is_step):
    """Two batches: as many rows if the value is one of the step, one row with the mean if it is one of the epoch."""
    loop = iter(getattr(rec, phase)([BATCH, BATCH]))
    for batch, value in zip(loop, (1.0, 3.0), strict=True):
        assert batch is BATCH
        rec.log("x", value)
    for _ in loop:
        pytest.fail("there is no third batch")
    assert [row.values["x"] for row in rows(run)] == ([1.0, 3.0] if is_step else [2.0])
    assert {row.stage for row in rows(run)} == {phase}


# Values


@pytest.mark.parametrize(
    "value",
    [
        2, 2.0, np.float32(2), np.int64(2), np.array([2.0]), Decimal(2), torch.tensor(2), torch.tensor([2.0]),
        torch.tensor([[2.0]], dtype=torch.bfloat16), torch.tensor(2.0, dtype=torch.float16), torch.tensor(2.0).double(),
        torch.tensor(2.0, requires_grad=True), torch.nn.Parameter(torch.tensor(2.0)),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}{tuple(getattr(value, 'shape', ()))}",
)  # fmt: skip
@pytest.mark.parametrize("reduce_fx", ["mean", "sum", "min", "max"])
@pytest.mark.filterwarnings("ignore:.*accumulated as floating point")
def test_values(run, rec, value, reduce_fx):
    for _ in rec.train([BATCH]):
        rec.log("x", value, on_epoch=True, reduce_fx=reduce_fx)
    assert series(run, "x_step") == series(run, "x_epoch") == [(0, 2)]
    assert rec["x"] == 2


def test_python_ints_stay_ints(run, rec):
    for value in (2**60, 1):
        for _ in rec.train([BATCH]):
            rec.log("count", value, on_epoch=True, reduce_fx="sum")
    assert [value for _, value in series(run, "count_step")] == [2**60, 1]
    assert [value for _, value in series(run, "count_epoch")] == [2**60, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [float, torch.tensor])
@pytest.mark.parametrize("reduce_fx", ["mean", "sum", "min", "max"])
@pytest.mark.parametrize("is_first", [True, False])
def test_values_that_are_not_finite(rec, value, kind, reduce_fx, is_first):
    values = [value, 1.0] if is_first else [1.0, value]
    for each, _ in zip(values, rec.train([BATCH] * 3), strict=False):
        rec.log("x", kind(each), on_epoch=True, reduce_fx=reduce_fx, batch_size=1)
    for _ in rec.validate([]):
        pass
    expected = getattr(np, reduce_fx)(values)
    assert rec["x"] == expected or np.isnan([rec["x"], expected]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("reduce_fx", ["mean", "sum"])
@pytest.mark.parametrize("enable_graph", [False, True])
def test_sums_are_made_in_float32_at_least(rec, dtype, reduce_fx, enable_graph):
    count = 2_000 if enable_graph else 20_000  # in bfloat16 0.1 added up never comes further than 32
    value = torch.tensor(0.1, dtype=dtype)
    for _ in rec.train([BATCH] * count):
        rec.log("x", value, on_step=False, on_epoch=True, reduce_fx=reduce_fx, batch_size=3, enable_graph=enable_graph)
    expected = value.double().item() * (count if reduce_fx == "sum" else 1)
    assert rec["x"] == pytest.approx(expected, rel=1e-6)


def test_numbers_and_tensors_of_one_name(rec):
    for value, _ in zip([1.0, torch.tensor(2.0), 3, torch.tensor([6.0])], rec.train([BATCH] * 5), strict=False):
        rec.log("mean", value, on_epoch=True)
        rec.log("max", value, on_epoch=True, reduce_fx=max)
        rec.log("sum", value, on_epoch=True, reduce_fx=torch.sum)
    list(rec.validate([]))
    assert (rec["mean"], rec["max"], rec["sum"]) == (3.0, 6.0, 12.0)


def test_a_tensor_that_is_overwritten_later(run):
    rec = run.recorder(log_every_n_steps=2)
    total = torch.tensor(0.0)
    for _ in rec.train([BATCH] * 4):
        total += 1
        rec.log("total", total, on_epoch=True)
        logged = total.item()
        total += 100
        assert rec["total"] == logged
    assert series(run, "total_step") == [(1, 102.0), (3, 304.0)]
    assert series(run, "total_epoch") == [(3, (1 + 102 + 203 + 304) / 4)]
    assert rec["total_step"] == 304


def test_a_tensor_that_is_overwritten_before_its_row_is_written(run):
    rec = run.recorder(log_every_n_steps=4)
    for index in rec.train(range(6)):
        value = torch.tensor(float(index))
        if index in (1, 5):
            rec.log("x", value)
        value += 100
        if index == 5:
            break
    assert series(run, "x") == [(3, 1.0), (5, 5.0)]


@pytest.mark.parametrize("reduce_fx", ["mean", "max"])
@pytest.mark.parametrize("is_first", [True, False])
def test_inference_mode_in_some_calls_only(rec, reduce_fx, is_first):
    for _ in rec.train([BATCH] * 2):
        for is_inference in (is_first, not is_first):
            with torch.inference_mode(is_inference):
                rec.log("x", torch.tensor(2.0), on_epoch=True, reduce_fx=reduce_fx)
    assert rec["x"] == 2.0


def test_torchmetrics(run, rec):
    mean = MeanMetric()
    for epoch in range(2):
        for value, _ in zip([1.0 + epoch, 2.0], rec.train([BATCH] * 3), strict=False):
            mean(value)
            rec.log("mean", mean, on_epoch=True)
        list(rec.validate([]))
    assert series(run, "mean_step") == [(0, 1.0), (1, 2.0), (2, 2.0), (3, 2.0)]
    assert series(run, "mean_epoch") == [(1, 1.5), (3, 2.0)], "it was reset in between"


def test_a_metric_collection(run, rec):
    collection = MetricCollection({"a": MeanMetric(), "b": MeanMetric()}, prefix="val/")
    for batch in rec.validate([torch.tensor([1.0, 3.0]), torch.tensor([2.0])]):
        collection.update(batch)
        rec.log_dict(collection)
    assert [row.values for row in rows(run)] == [{"val/a": 2.0, "val/b": 2.0}]


# Weights


Pair = namedtuple("Pair", "x y")


@dataclass
class Sample:
    name: str
    x: Any


def batches_of(make):
    return [make(3), make(1)]


@pytest.mark.parametrize(
    "make",
    [
        lambda size: torch.ones(size),
        lambda size: torch.ones(size, 5),
        lambda size: np.ones((size, 2)),
        lambda size: [torch.ones(size, 2), torch.ones(size)],
        lambda size: (torch.ones(size, 2), torch.ones(size)),
        lambda size: Pair(torch.ones(size, 2), torch.ones(size)),
        lambda size: {"x": torch.ones(size, 2), "y": torch.ones(size)},
        lambda size: {"text": ["a"] * size, "x": {"deep": [torch.ones(size)]}, "n": 7},
        lambda size: ("a text", 1.5, torch.ones(size)),
        lambda size: Sample("first", torch.ones(size, 2)),
        lambda size: [Sample("first", {"x": np.ones(size)})],
        lambda size: [torch.tensor(1.0)] if size == 1 else torch.ones(size),
    ],
)
def test_batch_sizes(rec, make):
    for value, _ in zip([1.0, 5.0], rec.train([*batches_of(make), None]), strict=False):
        rec.log("x", value, on_epoch=True)
        rec.log("said", value, on_epoch=True, batch_size=2)
        rec.log("tensor", torch.tensor(value), on_epoch=True, batch_size=torch.tensor(4 - value / 2))
    list(rec.validate([]))
    assert rec["x"] == 2.0
    assert rec["said"] == 3.0
    assert rec["tensor"] == pytest.approx((1 * 3.5 + 5 * 1.5) / 5)


def test_an_ambiguous_batch_warns_once(rec):
    batches = [(torch.ones(3, 2), torch.ones(5)), (torch.ones(1), torch.ones(2))] * 10
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in rec.validate(batches):
            rec.log("x", 1.0)
            rec.log("y", 1.0)
    assert len(caught) == 1
    assert all(word in str(caught[0].message) for word in ("3", "5", "batch_size="))
    assert caught[0].filename == __file__


def test_an_ambiguous_batch_is_weighted_by_its_first_tensor(rec):
    def validate():
        for batch in rec.validate([(torch.ones(3), torch.ones(2)), (torch.ones(1), torch.ones(9))]):
            rec.log("x", {3: 1.0, 1: 5.0}[len(batch[0])])

    with pytest.warns(UserWarning, match="batch_size="):
        validate()
    assert rec["x"] == 2.0


@pytest.mark.parametrize("batch", [None, 5, "a text", [1, 2, 3], {"ids": ["a", "b"]}, object(), iter([torch.ones(2)])])
def test_a_batch_whose_size_cannot_be_inferred(rec, batch):
    for _ in rec.train([batch]):
        rec.log("step_only", 1.0)
        rec.log("sum", 1.0, on_epoch=True, reduce_fx="sum")
        rec.log("said", 1.0, on_epoch=True, batch_size=2)
        with pytest.raises(RecorderError, match=r"batch_size=") as caught:
            rec.log("x", 1.0, on_epoch=True)
        assert type(batch).__name__ in str(caught.value)
        assert "'x'" in str(caught.value)


def test_inferring_the_batch_size_does_not_exhaust_the_batch(rec):
    batch = (each for each in [torch.ones(2)])
    for found in rec.validate([{"x": batch, "y": torch.ones(2)}]):
        rec.log("x", 1.0)
        assert list(found["x"]) != []


@pytest.mark.parametrize("batch_size", ["many", torch.ones(2), [3], object()])
def test_a_batch_size_that_is_not_a_number(rec, batch_size):
    for _ in rec.train([BATCH]):
        with pytest.raises(RecorderError, match="batch_size"):
            rec.log("x", 1.0, on_epoch=True, batch_size=batch_size)


# Misuse


def sentence_of(call):
    """Return the error's sentence; it is a ValueError, too."""
    with pytest.raises(RecorderError) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, RankzeroError)
    return str(caught.value)


@pytest.mark.parametrize("phase", ["train", "validate", "test", "sanity", "between"])
@pytest.mark.parametrize(
    ("name", "value", "options", "words"),
    [
        ("x", 1.0, {"on_step": False, "on_epoch": False}, ["on_step", "on_epoch"]),
        ("x", {"a": 1.0}, {}, ["log_dict", "nested"]),
        ("x", torch.ones(2), {}, ["(2,)", "mean()"]),
        ("x", torch.ones(0), {}, ["(0,)"]),
        ("x", np.ones((2, 3)), {}, ["6 elements"]),
        ("x", [1.0, 2.0], {}, ["list"]),
        ("x", "0.5", {}, ["str"]),
        ("x", None, {}, ["NoneType"]),
        ("x", torch.tensor(1j), {}, ["real"]),
        ("x", 1j, {}, ["complex"]),
        ("x", 1.0, {"reduce_fx": "median"}, ["median", "torchmetrics"]),
        ("x", 1.0, {"reduce_fx": len}, ["len", "'mean'"]),
        ("x", 1.0, {"reduce_fx": torch.median}, ["torchmetrics"]),
        ("x/dataloader_idx_0", 1.0, {}, ["add_dataloader_idx=False"]),
        (3, 1.0, {}, ["int", "log_dict"]),
    ],
)
def test_misuse_of_log(run, rec, phase, name, value, options, words):
    for _ in in_phase(rec, phase):
        sentence = sentence_of(lambda: rec.log(name, value, **options))
        assert [word for word in words if word not in sentence] == []
        if isinstance(name, str):
            assert name in sentence
    assert rows(run) == []
    assert rec.metrics == {}


def test_no_step_between_the_loops(rec):
    for _ in rec.epochs(1):
        sentence = sentence_of(lambda: rec.log("x", 1.0, on_step=True))
        assert "between the loops" in sentence
        rec.log("x", 1.0, on_step=False)


@pytest.mark.parametrize("options", [{"prog_bar": True}, {"on_epoch": True}, {"reduce_fx": "max"}, {"logger": False}])
def test_one_name_with_different_options(rec, options):
    for _ in rec.train([BATCH]):
        rec.log("x", 1.0)
        (option,) = options
        sentence = sentence_of(lambda: rec.log("x", 1.0, **options))
        assert all(word in sentence for word in ("'x'", "twice", f"{option}="))


def test_one_name_in_several_loops_with_different_options(run, rec):
    for _ in rec.epochs(1):
        for _ in rec.train([BATCH]):
            rec.log("x", 1.0)
        for _ in rec.validate([BATCH]):
            rec.log("x", 2.0, reduce_fx="max")
    assert series(run, "x") == [(0, 1.0), (0, 2.0)]


@pytest.mark.parametrize("first", ["x", "x_step", "x_epoch"])
def test_two_names_that_would_be_written_as_one(rec, first):
    second = "x" if first != "x" else "x_step"
    for _ in rec.train([BATCH]):
        rec.log(first, 1.0, on_epoch=first == "x")
        sentence = sentence_of(lambda: rec.log(second, 1.0, on_epoch=second == "x"))
        assert "'x'" in sentence
        assert "x_" in sentence


@pytest.mark.parametrize("values", [3.0, [("a", 1.0)], "a", None])
def test_log_dict_takes_a_mapping(rec, values):
    for _ in rec.train([BATCH]):
        assert type(values).__name__ in sentence_of(lambda: rec.log_dict(values))


def test_a_mapping_given_to_log(rec):
    for _ in rec.train([BATCH]):
        assert "log_dict" in sentence_of(lambda: rec.log({"train/acc_step": MeanMetric()}))


def test_a_metric_that_is_not_a_single_number(rec):
    def validate():
        matrix = ConfusionMatrix("binary")
        for _ in rec.validate([BATCH]):
            matrix.update(torch.tensor([1, 0]), torch.tensor([1, 1]))
            rec.log("matrix", matrix)

    assert "ConfusionMatrix" in sentence_of(validate)


def test_a_metric_that_was_only_updated_has_no_step_value(run, rec):
    mean = MeanMetric()
    for _ in rec.train([BATCH]):
        mean.update(2.0)
        with pytest.warns(UserWarning, match="'x' has no value of the step, because only its update"):
            rec.log("x", mean)


@pytest.mark.filterwarnings("ignore:.*has no value of the step")
@pytest.mark.parametrize("is_metric_first", [True, False])
@pytest.mark.parametrize("phase", ["train", "validate"])
def test_a_name_of_a_metric_and_of_a_number(rec, phase, is_metric_first):
    mean = MeanMetric()
    mean.update(2.0)
    values = [mean, 3.0] if is_metric_first else [3.0, mean]
    for _ in in_phase(rec, phase):
        rec.log("x", values[0], on_epoch=True)
        assert "'x'" in sentence_of(lambda: rec.log("x", values[1], on_epoch=True))
    assert rec["x"] == (2.0 if is_metric_first else 3.0)


def test_a_misuse_loses_no_data(run, rec):
    for _ in rec.train([BATCH, BATCH]):
        rec.log("x", 1.0, on_epoch=True)
        for value in (torch.ones(2), "text"):
            sentence_of(lambda value=value: rec.log("x", value, on_epoch=True))
            sentence_of(lambda value=value: rec.log("y", value, on_epoch=True))
    assert [row.values for row in rows(run)] == [{"x_step": 1.0}, {"x_step": 1.0}, {"x_epoch": 1.0}]


@pytest.mark.parametrize(
    "options",
    [
        {"log_every_n_steps": -1}, {"log_every_n_steps": 0.5}, {"log_every_n_steps": True},
        {"accumulate_grad_batches": 0}, {"accumulate_grad_batches": -2}, {"accumulate_grad_batches": "2"},
        {"progress_bar": "blue"},
    ],
    ids=str,
)  # fmt: skip
def test_misuse_of_the_recorder(run, options):
    sentence = sentence_of(lambda: run.recorder(**options))
    assert str(next(iter(options.values()))) in sentence


def test_misuse_of_loops(rec):
    assert "validate" in sentence_of(rec.validate)
    assert "test" in sentence_of(rec.test)
    assert "-1" in sentence_of(lambda: rec.sanity_check([BATCH], limit=-1))
    assert "-1" in sentence_of(lambda: next(rec.epochs(-1)))
    assert "rec.train()" in sentence_of(lambda: rec.log_grad_norm(torch.nn.Linear(1, 1)))


def test_logging_outside_of_any_loop(rec):
    def assert_refused():
        sentence = sentence_of(lambda: rec.log("x", 1.0))
        assert "'x'" in sentence
        assert "run.log_metrics()" in sentence

    assert_refused()
    list(rec.sanity_check([BATCH]))
    assert_refused()
    for _ in rec.epochs(1):
        list(rec.train([BATCH]))
    assert_refused()
    list(rec.test([BATCH]))
    assert_refused()


# Graphs


def test_values_are_detached(rec):
    weight = torch.tensor(3.0, requires_grad=True)
    for _ in rec.train([BATCH, BATCH]):
        rec.log("x", weight * 2, on_epoch=True)
        assert not rec.tensor("x").requires_grad
    assert not rec.tensor("x").requires_grad
    assert rec.tensor("x") == 6


@pytest.mark.parametrize("reduce_fx", ["mean", "sum", "max", "min"])
def test_a_graph_that_is_kept(rec, reduce_fx):
    weight = torch.tensor(3.0, requires_grad=True)
    for size, _ in zip([1, 3], rec.train([torch.ones(1), torch.ones(3), None]), strict=False):
        rec.log("x", weight * size, on_step=False, on_epoch=True, reduce_fx=reduce_fx, enable_graph=True)
    list(rec.validate([]))
    rec.tensor("x").backward()
    assert weight.grad == {"mean": (1 + 9) / 4, "sum": 4, "max": 3, "min": 1}[reduce_fx]


# Where values go


def test_logger_false_can_be_read_and_is_not_written(run, rec):
    for _ in rec.train([BATCH]):
        rec.log("x", 1.0, on_epoch=True, logger=False)
    assert rows(run) == []
    assert rec.metrics == {"x": 1.0, "x_step": 1.0, "x_epoch": 1.0}


def test_rank_zero_only_is_written_and_cannot_be_read(run, rec):
    for _ in rec.train([BATCH]):
        rec.log("x", 1.0, on_epoch=True, rank_zero_only=True)
        with pytest.raises(KeyError, match="rank_zero_only"):
            rec["x"]
    assert series(run, "x_step") == series(run, "x_epoch") == [(0, 1.0)]
    for name in ("x", "x_step", "x_epoch"):
        with pytest.raises(KeyError, match="rank_zero_only"):
            rec[name]
        assert name not in rec
    assert rec.metrics == {}


def test_sync_dist_alone(run, rec):
    for _ in rec.train([BATCH]):
        rec.log("x", torch.tensor(1.0), on_epoch=True, sync_dist=True)
    assert series(run, "x_step") == series(run, "x_epoch") == [(0, 1.0)]


def test_all_of_one_step_is_one_row(run, rec):
    for _ in rec.train([BATCH]):
        rec.log("a", 1.0, on_epoch=True)
        rec.log_dict({"b": torch.tensor(2.0), "c": 3}, on_epoch=True)
    assert [row.values for row in rows(run)] == [
        {"a_step": 1.0, "b_step": 2.0, "c_step": 3},
        {"a_epoch": 1.0, "b_epoch": 2.0, "c_epoch": 3},
    ]


@pytest.mark.parametrize("make", [Hostile, Gone, lambda: weakref.proxy(Gone())], ids=["hostile", "gone", "dead proxy"])
def test_a_value_that_cannot_be_read_is_refused_like_any_other(rec, make):
    for _ in rec.train([BATCH]):
        for name, value in [("x", make()), (make(), 1.0)]:
            with pytest.raises(RecorderError):
                rec.log(name, value)


def test_a_sparse_tensor_of_one_element(run, rec):
    for _ in rec.train([BATCH]):
        rec.log("x", torch.tensor([2.0]).to_sparse())
    assert series(run, "x") == [(0, 2.0)]
